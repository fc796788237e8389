"""Scorers `choice` and `choice_or_abstain`: the letter of an option, read strictly.

A reply names an option by its letter, by its text or by both (`qa.letters`); a letter that merely stands somewhere is
none. The judge may be offered one more option, that it cannot tell, as the last letter. The question does not list it,
so the letter after the last option means it, as do words (`reward.reading`): read `abstained`, never a wrong letter.

`choice_or_abstain` is CaptionQA's rule (arXiv 2511.21025; `qa.py` of github.com/bronyayang/CaptionQA, and the same in
lmms-eval's task `captionqa`): right 1, wrong 0, abstaining 1 / number of options + 0.05, a little more than guessing
brings. There the option is not offered with yes-no questions, so abstaining from those brings 0: `may_abstain`. Two
differences: their reader takes the first capital that stands alone anywhere (`A cat, so B` is A), and counts no
abstention by words.
"""

import re
from collections.abc import Sequence

from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.reply import after_thought
from caprl_core.prism.scorers.verdict import Verdict
from caprl_core.qa.letters import read_letter
from caprl_core.reward.reading import read_reply

ABSTAINED = "abstained"
"""What `Verdict.read` says of an abstention."""

ABSTENTION_BONUS = 0.05
"""What CaptionQA gives for abstaining above the chance of a guess."""

LETTERS = "ABCDEFGHIJKLMNOPQR"
"""Two windows of nine: `qa.letters` knows nine letters, MMMU-Pro has ten options."""

UNLISTED = 10
"""So many letters are read where options stand in the question's text: MMMU-Pro's ten, A to J."""

_WINDOW = 9
_CANNOT = "Cannot answer from the caption"
"""CaptionQA's text of the option; what ours says is the recipe's, and is read by its letter."""

_ALONE = re.compile(r"(?<![^\W_'\u2019])[A-Ra-r\uff21-\uff32\uff41-\uff52](?![^\W_'\u2019])")
_YES_NO = (
    *("is ", "are ", "was ", "were ", "do ", "does ", "did ", "have ", "has ", "had ", "can ", "could ", "will "),
    *("would ", "should ", "shall ", "may ", "might ", "must "),
)


class Choice:
    """1 for the right letter; abstaining is read, and brings nothing."""

    name: str = "choice"

    def check(self, question: BenchmarkQuestion) -> None:
        """Raises ValueError for a gold answer that is no letter of an option, and for more options than letters."""
        _check(question)

    def score(self, question: BenchmarkQuestion, reply: str) -> Verdict:
        """The letter, `abstained`, or None for a reply that names no option."""
        return _scored(question, reply, 0.0)


class ChoiceOrAbstain:
    """1 for the right letter, and a little more than guessing brings for abstaining."""

    name: str = "choice_or_abstain"

    def check(self, question: BenchmarkQuestion) -> None:
        """As `choice`; raises ValueError too where the number of options is not known, as abstaining is paid by it."""
        _check(question)
        if len(question.options) < 2:
            raise ValueError(
                "choice_or_abstain pays abstaining by the number of options, so it needs them listed, two or more; "
                f"this question lists {len(question.options)}: use the scorer choice"
            )

    def score(self, question: BenchmarkQuestion, reply: str) -> Verdict:
        """The letter, `abstained`, or None for a reply that names no option."""
        bonus = may_abstain(question) and len(question.options) >= 2
        return _scored(question, reply, 1 / len(question.options) + ABSTENTION_BONUS if bonus else 0.0)


def may_abstain(question: BenchmarkQuestion) -> bool:
    """True where CaptionQA offers the option to abstain: not with yes-no questions.

    By its rule, to the letter: some option contains `yes` and some option `no` (`Eyes` and `Nose` do), or the question
    begins with `is`, `are`, `does`, `can` …
    """
    texts = [option.strip().lower() for option in question.options]
    if any("yes" in text for text in texts) and any("no" in text for text in texts):
        return False
    return not question.text.strip().lower().startswith(_YES_NO)


def read_option(reply: str, options: Sequence[str]) -> str | None:
    """The letter that a reply names, `abstained`, or None if unclear; without `options` they stand in the text."""
    rest = after_thought(reply)
    if rest is None:
        return None
    shown = [*options, _CANNOT] if options else [""] * UNLISTED
    reading = read_reply(rest, shown[:_WINDOW])
    letter = reading.letter
    if len(shown) > _WINDOW and (later := _later(rest, shown)) is not None:
        letter = later if letter is None else None  # one of the first nine, and a later one: two letters
    elif letter is None and reading.abstained:
        return ABSTAINED
    if letter is None:
        return None
    return ABSTAINED if options and LETTERS.index(letter) == len(options) else letter


def _later(reply: str, shown: Sequence[str]) -> str | None:
    """The letter from J on that a reply names: read with the letters of both windows exchanged."""
    found = read_letter(_exchanged(reply), [_exchanged(text) for text in shown[_WINDOW:]])
    return None if found is None else LETTERS[LETTERS.index(found) + _WINDOW]


def _exchanged(text: str) -> str:
    def other(match: re.Match[str]) -> str:
        code = ord(match[0])
        first = next(start for start in (0xFF41, 0xFF21, 0x61, 0x41) if code >= start)
        return chr(first + (code - first + _WINDOW) % len(LETTERS))

    return _ALONE.sub(other, text)


def _scored(question: BenchmarkQuestion, reply: str, abstaining: float) -> Verdict:
    read = read_option(reply, question.options)
    if read == ABSTAINED:
        return Verdict(abstaining, ABSTAINED)
    return Verdict(float(read is not None and read in {gold.strip().upper() for gold in question.answers}), read)


def _check(question: BenchmarkQuestion) -> None:
    offered = LETTERS[: len(question.options) or UNLISTED]
    if len(question.options) >= len(LETTERS):
        raise ValueError(f"{len(question.options)} options; choice reads up to {len(LETTERS) - 1}")
    if not question.answers:
        raise ValueError("no gold answer")
    for gold in question.answers:
        letter = gold.strip().upper()
        if len(letter) != 1 or letter not in offered:
            raise ValueError(
                f"gold answer {gold!r} is no letter from {offered[0]} to {offered[-1]}; a question whose answer is "
                "none needs another scorer (open_scorer, where a benchmark has both kinds)"
            )
