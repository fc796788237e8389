"""How the scripted writer spells its replies: good blocks, messy ones, blocks with something wrong in them."""

from caprl_core.qa.reasons import QuestionReason
from support.scripted_images import ScriptedImage, ScriptedQuestion

REFUSAL = "I'm sorry, but I can't help with this image."
CHATTER = "What a lovely picture! It has a certain calm about it, and I could look at it for hours."
LETTERS = "ABCDEFGHI"


def block_of(image: ScriptedImage) -> tuple[str, str]:
    """The writer's whole reply and its finish reason; a question with the fault `cut` must be the last one."""
    pieces = [_piece(image, place) for place in range(len(image.questions))]
    if image.questions and image.questions[-1].fault is QuestionReason.CUT:
        return "\n".join(pieces), "length"
    text = "\n".join(pieces)
    if image.style == "fenced":
        text = f"Here are the questions:\n```markdown\n{text}\n```\nLet me know if you need more!"
    elif image.style != "released":
        text = f"Sure! Below are {len(pieces)} questions about the picture.\n\n{text}\n\nI hope this helps."
    return text, "stop"


def _piece(image: ScriptedImage, place: int) -> str:
    question = image.questions[place]
    stem, options, answer = _as_written(question)
    if question.fault is QuestionReason.DUPLICATE:
        stem, options, answer = _as_written(image.usable[0])
    number = place + 1
    if question.fault is QuestionReason.CUT:
        shown = _options(options[:2], "   - {letter}) {text}")
        return f"#### {number}. **{stem}**\n{shown[: -len(options[1]) // 2]}"
    match image.style:
        case "lettered":  # bold "Question N", options "A. text", the answer by letter alone
            lines = [f"**Question {number}:** {stem}", _options(options, "{letter}. {text}"), "", _short(answer), ""]
        case "bracketed":  # "N) stem", options "(A) text", the answer as "(b)"
            lines = [f"{number}) {stem}", _options(options, "({letter}) {text}"), _bracketed(answer), ""]
        case "stacked":  # a stem of two lines, options "A: text" as bullets, the answer by text alone
            lines = [f"Q{number}. {_two_lines(stem)}", _options(options, "- {letter}: {text}"), _by_text(answer), ""]
        case _:
            lines = [f"#### {number}. **{stem}**", _options(options, "   - {letter}) {text}"), ""]
            lines += [f"**Answer:** {answer}"] if answer else []
            lines.append("------")
    return "\n".join(lines)


def _as_written(question: ScriptedQuestion) -> tuple[str, tuple[str, ...], str]:
    """Stem, options and the answer's `D) text`, spoilt as the question's fault asks."""
    stem, options, gold = question.stem, question.options, question.gold
    answer = f"{LETTERS[gold]}) {options[gold]}"
    beside = (gold + 1) % len(options)
    match question.fault:
        case QuestionReason.NO_STEM:
            stem = ""
        case QuestionReason.TOO_FEW_OPTIONS:
            options, answer = (options[gold],), f"A) {options[gold]}"
        case QuestionReason.TOO_MANY_OPTIONS:
            options = (*options, "amber", "ivory", "teal", "crimson", "beige")[:7]
        case QuestionReason.NO_ANSWER:
            answer = ""
        case QuestionReason.ANSWER_NOT_AN_OPTION:
            answer = f"{LETTERS[len(options) + 1]}) lavender"
        case QuestionReason.ANSWER_CONTRADICTS:
            answer = f"{LETTERS[gold]}) {options[beside]}"
        case QuestionReason.EQUAL_OPTIONS:
            last = (gold + 2) % len(options)
            options = tuple(options[last] if place == beside else text for place, text in enumerate(options))
        case QuestionReason.OPTION_REPEATS_STEM:
            options = tuple(stem if place == beside else text for place, text in enumerate(options))
        case QuestionReason.GOLD_IS_ALL_OR_NONE:
            options = (*options[:-1], "All of the above")
            answer = f"{LETTERS[len(options) - 1]}) All of the above"
        case QuestionReason.NAMES_CAPTION:
            stem = f"According to the caption, {stem[0].lower()}{stem[1:]}"
        case QuestionReason.NAMES_LETTER:
            options = tuple("Both A and B" if place == beside else text for place, text in enumerate(options))
    return stem, options, answer


def _options(options: tuple[str, ...], form: str) -> str:
    return "\n".join(form.format(letter=LETTERS[place], text=text) for place, text in enumerate(options))


def _short(answer: str) -> str:
    return f"Answer: {answer[0]}" if answer else ""


def _bracketed(answer: str) -> str:
    return f"**Correct answer:** ({answer[0].lower()})" if answer else ""


def _by_text(answer: str) -> str:
    return f"Answer: {answer.partition(') ')[2]}" if answer else ""


def _two_lines(stem: str) -> str:
    """Broken after its third word."""
    words = stem.split()
    return f"{' '.join(words[:3])}\n{' '.join(words[3:])}"
