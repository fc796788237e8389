"""The LaTeX that judges put around answers: finding `\\boxed{…}`, and reading simple LaTeX as plain text."""

import re

_OPENS = re.compile(r"\\(?:boxed|fbox)[ \t]{0,3}\{")
_TURN = re.compile(r"\\.|[{}]", re.DOTALL)
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|textnormal|mathrm|mathbf|mathit|mathsf|operatorname|mbox|boxed|fbox|bf|rm)"
    r"[ \t]{0,3}\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\[dtc]?frac[ \t]{0,3}\{([^{}]*)\}[ \t]{0,3}\{([^{}]*)\}")
_COMMANDS = (
    (re.compile(r"\\(?:left|right|displaystyle|mathrm|text)(?![A-Za-z])|\\[!,;:>]"), ""),
    (re.compile(r"\\(?:quad|qquad)(?![A-Za-z])|\\[ ~]"), " "),
    (re.compile(r"\\([$%&#_{}])"), r"\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\^[ \t]{0,3}\{?[ \t]{0,3}\\(?:circ|degree)[ \t]{0,3}\}?|\\degree(?![A-Za-z])"), "\u00b0"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "\u00d7"),
    (re.compile(r"\\(?:approx|sim)(?![A-Za-z])"), "~"),
)
_DEPTH = 4
"""Wrappers within wrappers are unwrapped so deep: judges write `\\boxed{\\text{\\textbf{Yes}}}`, not more."""


def boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{…}` or `\\fbox{…}` whose braces balance and that is not empty; None without one.

    Of nested boxes the inner one. One pass: braces after a backslash are characters.
    """
    starts = {match.end() - 1: match.end() for match in _OPENS.finditer(text)}
    if not starts:
        return None
    found: tuple[int, int] | None = None
    pending: list[int] = []
    # From the first box on: a brace left open before it can close nothing that matters.
    for turn in _TURN.finditer(text, min(starts)):
        if turn[0] == "{":
            pending.append(turn.start())
        elif turn[0] == "}" and pending:
            start = starts.get(pending.pop())
            if start is not None and (found is None or start > found[0]) and text[start : turn.start()].strip():
                found = (start, turn.start())
    return None if found is None else text[found[0] : found[1]].strip()


def as_text(answer: str) -> str:
    """Simple LaTeX as the text that it shows: `\\text{Yes}` -> `Yes`, `45\\%` -> `45%`, `1{,}234` -> `1,234`, fractions
    as `a/b`. Commands it does not know stay. Text without a backslash and `{,}` comes back as it was."""
    if "\\" not in answer and "{,}" not in answer:
        return answer
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]"), ("$$", "$$"), ("$", "$")):
        inner = answer[len(opening) : -len(closing)]
        if answer.startswith(opening) and answer.endswith(closing) and inner and opening not in inner:
            answer = inner.strip()
    for _ in range(_DEPTH):
        before = answer
        answer = _FRACTION.sub(r"\1/\2", _WRAPPER.sub(r"\1", answer))
        if answer == before:
            break
    for pattern, text in _COMMANDS:
        answer = pattern.sub(text, answer)
    return " ".join(answer.split())
