"""The codes of the curation in plain words, for people who have not read its sources."""

from typing import Final, NamedTuple

from caprl_core.qa.reasons import QuestionReason


class Words(NamedTuple):
    """A name short enough for a chart (34 characters), and a sentence."""

    name: str
    meaning: str


REASONS: Final[dict[QuestionReason, Words]] = {
    QuestionReason.UNREADABLE: Words(
        "Unreadable", "No question could be made out in this piece of the writer's reply."
    ),
    QuestionReason.CUT: Words("Cut off", "The writer's reply ended inside the question."),
    QuestionReason.NO_STEM: Words("No question text", "Options without a question before them."),
    QuestionReason.TOO_FEW_OPTIONS: Words("Too few options", "Fewer answer options than the set asks for."),
    QuestionReason.TOO_MANY_OPTIONS: Words("Too many options", "More answer options than the set allows."),
    QuestionReason.NO_ANSWER: Words("No answer given", "The writer did not say which option is right."),
    QuestionReason.ANSWER_NOT_AN_OPTION: Words("Answer not among options", "The answer given is none of the options."),
    QuestionReason.ANSWER_CONTRADICTS: Words(
        "Answer contradicts itself", "Letter and text of the answer name different options."
    ),
    QuestionReason.EQUAL_OPTIONS: Words("Equal options", "Two options say the same."),
    QuestionReason.OPTION_REPEATS_STEM: Words("Option repeats the question", "An option is the question's own text."),
    QuestionReason.GOLD_IS_ALL_OR_NONE: Words(
        "Answer is all or none", "The right answer is “all of the above” or “none of the above”."
    ),
    QuestionReason.NAMES_CAPTION: Words(
        "Speaks of a caption", "The question refers to a caption or description, which nobody who answers has seen."
    ),
    QuestionReason.NAMES_LETTER: Words(
        "Refers to option letters", "The text names an option by its letter, which changes when options are shuffled."
    ),
    QuestionReason.DUPLICATE: Words("Duplicate", "The same question about this image was taken over before."),
    QuestionReason.OVER_LIMIT: Words("Over a limit", "Too many questions about one image, or a text too long."),
    QuestionReason.UNANSWERED: Words("Unanswered", "Too many of the requests to the answering model failed."),
    QuestionReason.VISUAL_TOO_LOW: Words(
        "Not answerable with the image", "The answering model, seeing the image, was right too rarely."
    ),
    QuestionReason.TEXT_TOO_HIGH: Words(
        "Answerable without the image", "The answering model was right too often although it saw no image."
    ),
    QuestionReason.UNCERTAIN: Words(
        "Too uncertain", "The measured shares pass, but so few votes do not prove that the true ones do."
    ),
    QuestionReason.CONTAMINATED: Words("Image must not be trained on", "The image is on the decontamination list."),
    QuestionReason.OVER_CAP: Words("Over the image's cap", "Other questions about this image had better evidence."),
}

STEPS: Final[dict[str, Words]] = {
    "written": Words("Written", "Pieces of the writer's replies, or imported questions."),
    "parsed": Words("Usable", "A question, its options and one right answer could be read."),
    "answered": Words("Answered", "The answering model voted on it, with and without the image."),
    "visual_pass": Words("Answerable with the image", "Right often enough when the image is shown."),
    "text_pass": Words("Not answerable without it", "Right rarely enough when the image is not shown."),
    "certain": Words("Certain enough", "The intervals of both shares clear their limits, where that is asked for."),
    "clean": Words("Image may be trained on", "The image is not on the decontamination list."),
    "kept": Words("Kept", "Part of the curated set."),
}

STAGES: Final[dict[str, str]] = {
    "generate": "Writing questions",
    "extract": "Reading questions",
    "answer": "Answering questions",
}

SPLITS: Final[dict[str, str]] = {"train": "Training", "held_out": "Held out for evaluation"}

TYPES: Final[dict[str, str]] = {
    "is": "Yes or no (is, does, can …)",
    "number": "All options are numbers",
    "other": "Other, or another language",
}


def reason_words(code: str) -> Words:
    """Of a stored reason code; one that this version does not know stands for itself."""
    try:
        return REASONS[QuestionReason(code)]
    except ValueError:
        return Words(code, "A reason this version does not know.")


def type_words(code: str) -> str:
    """Of a question type: the asking word itself, or what it stands for."""
    return TYPES.get(code, code.capitalize())
