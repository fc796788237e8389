"""Which readable questions are not taken over, and why."""

from collections.abc import Iterator

from caprl_core.qa.blocks.block import ParsedBlock, Refusal, refusal
from caprl_core.qa.blocks.gold import Fault
from caprl_core.qa.blocks.phrases import ALL_OR_NONE, CAPTION, LETTERS_ONLY, OPTION_LETTER
from caprl_core.qa.blocks.render import render_question
from caprl_core.qa.blocks.wording import comparable, without_ending
from caprl_core.qa.question import Question
from caprl_core.qa.reasons import QuestionReason
from caprl_core.recipe.qa import ExtractRecipe

STEM_CHARACTERS = 2000
OPTION_CHARACTERS = 500
"""Longest texts of a question. A page of text is some 3,000 characters: longer ones ask for reading, not seeing, and
eight answers to one would cost more than those to all others of the image."""
CONTAINED_CHARACTERS = 16
"""A shorter stem may stand within an option by chance (`2 + 2` in `2 + 2 = 4`)."""


def fault_of(question: Question, recipe: ExtractRecipe) -> Fault | None:
    """What is wrong with a question by itself, the most telling first; None for a usable one."""
    return next(_faults(question, recipe), None)


def _faults(question: Question, recipe: ExtractRecipe) -> Iterator[Fault]:  # noqa: PLR0912 - one for each reason
    count, longest = len(question.options), max(len(option) for option in question.options)
    if len(question.stem) > STEM_CHARACTERS or longest > OPTION_CHARACTERS:
        yield Fault(QuestionReason.OVER_LIMIT, f"stem of {len(question.stem)} characters, longest option {longest}")
    if not any(character.isalnum() for character in question.stem):
        yield Fault(QuestionReason.NO_STEM, f"{question.stem[:80]!r} asks nothing")
    if count < recipe.min_options:
        yield Fault(QuestionReason.TOO_FEW_OPTIONS, f"{count} options, {recipe.min_options} wanted")
    if count > recipe.max_options:
        yield Fault(QuestionReason.TOO_MANY_OPTIONS, f"{count} options, {recipe.max_options} allowed")
    stem = _read(question.stem)
    options = [_read(option) for option in question.options]
    for place, option in enumerate(options):
        if option in options[:place]:
            yield Fault(QuestionReason.EQUAL_OPTIONS, f"{question.options[place]!r} stands twice")
    for option in options:
        if option == stem or (len(stem) >= CONTAINED_CHARACTERS and stem in option):
            yield Fault(QuestionReason.OPTION_REPEATS_STEM, repr(option))
    if ALL_OR_NONE.fullmatch(options[question.gold]):
        yield Fault(QuestionReason.GOLD_IS_ALL_OR_NONE, repr(question.gold_text))
    for text in (stem, *options):
        if (caption := CAPTION.search(text)) is not None:
            yield Fault(QuestionReason.NAMES_CAPTION, repr(caption[0]))
    for text in (question.stem, *question.options):
        if (letter := OPTION_LETTER.search(text)) is not None:
            yield Fault(QuestionReason.NAMES_LETTER, repr(letter[0]))
    for option in question.options:
        if LETTERS_ONLY.fullmatch(" ".join(option.split())):
            yield Fault(QuestionReason.NAMES_LETTER, repr(option))


def checked(parsed: ParsedBlock, recipe: ExtractRecipe) -> ParsedBlock:
    """The questions that are taken over; the others join the refusals, all in the order of the block."""
    kept: list[tuple[int, Question]] = []
    refused: list[Refusal] = list(parsed.refused)
    seen: dict[tuple[str, frozenset[str]], int] = {}
    for number, question in parsed.questions:
        fault = fault_of(question, recipe)
        same = (_read(question.stem), frozenset(_read(option) for option in question.options))
        if fault is None and same in seen:
            fault = Fault(QuestionReason.DUPLICATE, f"the same as question {seen[same]}")
        if fault is None and len(kept) >= recipe.max_questions:
            fault = Fault(QuestionReason.OVER_LIMIT, f"{recipe.max_questions} questions of the image are taken over")
        if fault is None:
            seen[same] = number
            kept.append((number, question))
        else:
            refused.append(refusal(number, fault, render_question(question, number)))
    return ParsedBlock(tuple(kept), tuple(sorted(refused, key=lambda item: item.number)))


def _read(text: str) -> str:
    """Texts that differ in case, white space or final punctuation alone are the same to a reader."""
    return without_ending(comparable(text))
