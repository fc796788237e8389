"""Which option a reply names, read strictly: by letter or by the option's own text, never by any letter in it."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re
from collections.abc import Iterator, Sequence

from caprl_core.qa.blocks.labels import LATIN, latin
from caprl_core.qa.blocks.lines import ANSWER_WORDS
from caprl_core.qa.blocks.wording import bare, stripped, unquoted, unwrapped
from caprl_core.qa.question import LETTERS

HEAD_CHARACTERS, TAIL_CHARACTERS = 2000, 4000
"""Of a longer reply its beginning and its end are read: an answer stands first or last, not in the middle."""

_BRACKETS = "()[]【】"
"""Of a comparable text: full-width ones have become plain."""
_ONE = rf"[{LATIN}А-СЕаАВСсвеΑΒ]"
_LETTER = re.compile(
    rf"(?:(?i:option|choice|letter|选项|選項|вариант)\s{{0,2}})?(?P<open>[(\[（［【])?\s{{0,2}}(?P<letter>{_ONE})[*_`]{{0,3}}"
    r"(?:\s{0,2}(?P<close>[)\]）］】])|(?P<end>[.．:：、,，;；]))?(?(close)[.:：．,，]?)[*_`\"”]{0,3}(?P<rest>\s.*|[^\x00-\x7f].*|)$",
    re.DOTALL,
)
_CORRECT = re.compile(
    rf"(?:(?i:option|choice|answer|选项|選項)\s{{0,2}})?[(\[（]?(?P<letter>[{LATIN}])[)\]）]?[*_]{{0,3}}\s{{1,2}}is\s(?:the\s)?"
    r"(?:most\slikely\s|best\s)?(?:correct|right|best|answer)(?:\s(?:answer|option|choice|one))?[.!]?"
)
_CHOOSE = re.compile(
    r"(?i:i(?:\s(?:would|will|'d|'ll))?\s(?:choose|pick|select|answer|say|go\swith)|we\schoose|it(?:\sis|'s)|选择?|我选择?|выбираю)\s{0,2}[:：]?\s{0,2}"
)
_LEAD = re.compile(
    rf"(?<![^\W_])(?i:{ANSWER_WORDS})[*_`)\]】）」]{{0,4}}(?i:\s(?:to\sthe\squestion|here|should\sbe|would\sbe))?"
    r"\s{0,3}(?:[:：=]|[-–—](?=\s)|(?i:\bis\b|\bist\b|\best\b|\bes\b|\bbe\b)|是|为|為|は|应该是|(?=[(（]))\s{0,3}[:：]?[*_`\s]{0,6}"
)
_BOXED = re.compile(r"\\boxed\s?\{\s?(?:\\(?:text|mathrm|textbf|mathbf)\s?\{)?([^{}\n]{0,300})\}{0,2}")
_TAGGED = re.compile(r"</?(?i:answer|ans|final)>")
_EXPLAINS = re.compile(
    r"\s{0,3}(?:[-–—(（,，;；.。]|because\b|since\b|as\b|for\b|due\b|given\b|based\b|因为|，因|потому|так как)",
    re.IGNORECASE,
)
_MARKER = re.compile(
    rf"^\s{{0,3}}[(\[（]?[A-IＡ-Ｉ][)\]）]?\s{{0,2}}(?:[.,;/&，、。]|and\b|or\b|$)|"
    rf"(?<![^\W_])(?:[(\[（][{LATIN}][)\]）]|[{LATIN}][)）](?!\w)|(?:or|and|not|nor|/|&|或|和|и|или)\s?[(（]?[A-IＡ-Ｉ](?![^\W_]))"
)


def read_letter(reply: str, options: Sequence[str]) -> str | None:
    """The letter of the option that `reply` names, `options` being the texts as presented, A first; None if unclear.

    A letter alone is a letter, even where another option's text is that letter: letters are what the prompt asks for.
    Two different letters, a letter beyond the options, and a letter beside the text of another option give None.
    """
    if len(reply) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        reply = reply[:HEAD_CHARACTERS] + "\n\u2026\n" + reply[-TAIL_CHARACTERS:]
    texts = [bare(option) for option in options]
    _, _, reply = reply.rpartition("</think>")
    lines = [stripped(line) for line in _TAGGED.sub("\n", reply).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return None
    whole = bare(" ".join(lines))
    if len(lines) > 1 and texts.count(whole) == 1:
        return LETTERS[texts.index(whole)]
    found: set[int] = set()
    for place, line in enumerate(lines):
        named = {_named(candidate, texts) for candidate in _after_leads(line)}
        if not named and (place in (0, len(lines) - 1)):
            named = {_named(line, texts)}
        found |= {one for one in named if one is not None}
    return LETTERS[found.pop()] if len(found) == 1 else None


def _after_leads(line: str) -> Iterator[str]:
    """What follows `The answer is`, `Answer:`, `\\boxed{` … in a line."""
    for match in _BOXED.finditer(line):
        yield match[1]
    ends = list(_LEAD.finditer(line))
    for number, match in enumerate(ends):
        end = ends[number + 1].start() if number + 1 < len(ends) else len(line)
        if rest := line[match.end() : end].strip():
            yield rest


def _named(text: str, texts: Sequence[str]) -> int | None:
    """Place of the option that a text names by letter, by its own words or by both; None if unclear."""
    plain = unquoted(unwrapped(text).lstrip(" *_`"))
    lead = _CHOOSE.match(plain)
    plain = plain[lead.end() :] if lead is not None else plain
    said = bare(plain)
    by_text = {place for place, option in enumerate(texts) if option and option == said}
    place = _lettered(plain, texts)
    if place is not None and (not by_text or place in by_text or len(said.strip(_BRACKETS)) == 1):
        return place
    return by_text.pop() if len(by_text) == 1 and len(said) > 0 else None


def _lettered(plain: str, texts: Sequence[str]) -> int | None:  # noqa: PLR0911 - one return for each case
    correct = _CORRECT.fullmatch(plain)
    match = correct or _LETTER.match(plain)
    if match is None:
        return None
    letter = latin(match["letter"]).upper()
    if letter not in LETTERS[: len(texts)]:
        return None
    place = LETTERS.index(letter)
    rest = "" if correct is not None else match["rest"]
    said = bare(rest)
    if not said or correct is not None:
        return place
    closed = match["close"] is not None
    ended = match["end"] is not None and match["letter"].isupper()
    if texts[place] == said:
        return place if closed or match["end"] is not None or match["letter"].isupper() else None
    if any(
        said == option or (option and _begins(said, option) and not _begins(texts[place], option)) for option in texts
    ):
        return None
    if _MARKER.search(rest):
        return None
    # "C) the blue one" and "C, because …" name C; "A cat" and "I see" do not name A or I.
    explained = match["letter"].isupper() and _EXPLAINS.match(rest) is not None
    return place if closed or ended or explained else None


def _begins(text: str, beginning: str) -> bool:
    """`text` begins with `beginning` as whole words."""
    return text.startswith(beginning) and not text[len(beginning) : len(beginning) + 1].isalnum()
