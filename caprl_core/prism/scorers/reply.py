"""The answer in a judge's reply: boxed, tagged, after `Answer:`, or the whole of a short reply. Total, in linear time.

Released judges end with `<answer>…\\boxed{…}…</answer>` (fact sheet 4); our prompts ask for a last line `Answer: …`.
"""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re

from caprl_core.prism.scorers.latex import boxed
from caprl_core.qa.blocks.lines import ANSWER_WORDS
from caprl_core.qa.blocks.wording import UNSEEN, stripped, unquoted, unwrapped

LINE_CHARACTERS = 300
"""A line up to so long can be an answer: a word, a number, a short phrase, a list. A longer one is an essay that never
came to its answer. Our choice."""

HEAD_CHARACTERS, TAIL_CHARACTERS = 2000, 8000
"""Of a longer reply only its beginning and its end are searched for `Answer:`, as `qa.letters` does."""

_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_IS = r"(?<![^\W_])(?i:is|are|was|ist|est|es|è|é|jest|är|er|on|là|adalah)\b"
_LEAD = re.compile(
    rf"(?<![^\W_])(?i:{ANSWER_WORDS})[*_`)\]】）」]{{0,4}}(?i:\s(?:to\s(?:the|this|your)\squestion|here))?[ \t]{{0,3}}"
    rf"(?:[:：=]|[-–—](?=\s)|{_IS}|(?i:(?:should|would|must|will)\sbe)\b|应该是|是|为|為|は|입니다|является)"
    r"[ \t]{0,3}[:：]?[*_`]{0,4}"
    # A heading of its own: "**Final answer**" and the answer on the next line.
    rf"|(?m:^)[ \t#*_>]{{0,8}}(?i:the\s)?(?i:{ANSWER_WORDS})[*_`:：]{{0,4}}[ \t]{{0,4}}(?m:$)"
)
_EXPLAINS = re.compile(
    r"\s?[\s,;(–—-]\s?(?:because|since\sthe|as\s(?:shown|stated|described|mentioned|indicated|given)|based\son\sthe"
    r"|according\sto\sthe|given\sthat)\b.*|[，,（(]?(?:因为|因為).*",
    re.IGNORECASE | re.DOTALL,
)
"""Where an answer ends and its reason begins."""

_STOPS = (".", "。", "．")
_SHORTENED = re.compile(
    r"(?:(?<![^\W_])[^\W\d_]\.[^\W\d_]|[^\W\d_]\.[^\W\d_]\."
    r"|(?<![^\W_])(?:inc|ltd|co|corp|st|jr|sr|dr|mr|mrs|no|vs|etc|ave|dept|est|approx|max|min|avg|vol|fig))\.?$",
    re.IGNORECASE,
)
"""An abbreviation: its full stop is part of the answer (`U.S.`, `Apple Inc.`)."""


def after_thought(reply: str) -> str | None:
    """What comes after the last `</think>`; None where a thought was begun and never ended: the reply was cut."""
    thought, end, rest = reply.rpartition("</think>")
    if end:
        return None if "<think>" in rest else rest
    return None if "<think>" in rest else thought + rest


def find_answer(reply: str) -> str | None:
    """The answer that a reply comes to, without quotes, emphasis and a sentence's full stop; None if it comes to none.

    In this order, after any `</think>`: the last `<answer>` alone, if there is one; in what is left, the last `\\boxed`
    with balanced braces; the rest of the line after the last `Answer:` / `The answer is` (in the languages of
    `qa.blocks.lines`), or the next line where that line says no more; the whole of a reply of one line, up to
    `LINE_CHARACTERS`. LaTeX inside an answer stays: `latex.as_text` takes it off.
    """
    text = after_thought(reply)
    if text is None:
        return None
    tagged = _tagged(text)
    text = text if tagged is None else tagged
    inside = boxed(text)
    if inside is not None:
        return _undressed(inside) or None
    said = _after_lead(text)  # empty where nothing follows
    if said is None or (tagged is not None and not said):
        lines = [line for line in map(stripped, text.splitlines()) if line]
        said = " ".join(lines) if len(lines) == 1 or tagged is not None else None
    if said is None or len(said) > LINE_CHARACTERS:
        return None
    return _without_stop(_undressed(_without_reason(said))) or None


def _tagged(text: str) -> str | None:
    """What stands in the last `<answer>`, to its end or the text's; None without one."""
    start: int | None = None
    end = len(text)
    for tag in _TAG.finditer(text):
        if not tag[1]:
            start, end = tag.end(), len(text)
        elif start is not None and end == len(text):
            end = tag.start()
    return None if start is None else text[start:end]


def _after_lead(text: str) -> str | None:
    """What follows the last `Answer:`, empty where nothing does; None without one."""
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = f"{text[:HEAD_CHARACTERS]}\n\n{text[-TAIL_CHARACTERS:]}"
    last = None
    for match in _LEAD.finditer(text):
        last = match
    if last is None:
        return None
    return next((line for line in map(stripped, text[last.end() :].splitlines()) if line.strip("*_`# ")), "")


def _without_reason(said: str) -> str:
    match = _EXPLAINS.search(said)
    return said[: match.start()] if match is not None and match.start() > 0 else said


def _undressed(said: str) -> str:
    """Without emphasis, and without one pair of quotes or dollar signs where they are around the whole."""
    said = " ".join(unwrapped(said.strip(UNSEEN)).split())
    if len(said) > 2 and said[0] not in said[1:-1] and said[-1] not in said[1:-1]:
        return unquoted(said)
    return said


def _without_stop(said: str) -> str:
    """Without the full stop of a sentence, that of an abbreviation stays."""
    if said.endswith(_STOPS) and not said.endswith("..") and _SHORTENED.search(said) is None:
        return _undressed(said[:-1].rstrip())
    return said
