"""Why a question was not taken over or not kept: the closed vocabulary of the curation."""

from enum import StrEnum


class QuestionReason(StrEnum):
    """A reason code. Codes are never renamed or reused: stored rows carry them for ever."""

    # Extraction: the text is no usable question.
    UNREADABLE = "unreadable"  # a piece of the reply in which no question could be made out
    CUT = "cut"  # the reply ended inside the question
    NO_STEM = "no_stem"
    TOO_FEW_OPTIONS = "too_few_options"
    TOO_MANY_OPTIONS = "too_many_options"
    NO_ANSWER = "no_answer"
    ANSWER_NOT_AN_OPTION = "answer_not_an_option"
    ANSWER_CONTRADICTS = "answer_contradicts"  # letter and text of the answer name different options
    EQUAL_OPTIONS = "equal_options"
    OPTION_REPEATS_STEM = "option_repeats_stem"
    GOLD_IS_ALL_OR_NONE = "gold_is_all_or_none"  # "all of the above" or "none of the above" is the answer
    NAMES_CAPTION = "names_caption"  # the question speaks of a caption or description, which the model has not seen
    NAMES_LETTER = "names_letter"  # stem or option refers to option letters, which shuffling moves
    DUPLICATE = "duplicate"  # the same question about this image was taken over before
    OVER_LIMIT = "over_limit"  # beyond extract.max_questions or a text too long to be a question

    # Answering: no evidence.
    UNANSWERED = "unanswered"  # too many of its requests failed

    # Filter.
    VISUAL_TOO_LOW = "visual_too_low"
    TEXT_TOO_HIGH = "text_too_high"
    UNCERTAIN = "uncertain"  # filter.confident: an interval does not clear its threshold
    CONTAMINATED = "contaminated"  # the image is on the decontamination list
    OVER_CAP = "over_cap"  # beyond filter.per_image
