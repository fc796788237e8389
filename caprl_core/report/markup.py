"""From text that may be hostile to HTML that shows it: the one place where text becomes markup."""

import html
import re
import unicodedata
from collections.abc import Iterable
from typing import Final, NewType

Html = NewType("Html", str)
"""Markup that is safe as it stands. Everything else is `str`, and mypy keeps the two apart."""

# Characters that would steer the browser or hide something: control characters but tab and line feed, marks that turn
# or isolate the direction of writing, invisible separators, lone surrogates, and tag characters. Joiners (U+200C,
# U+200D) stay: Persian, Hindi and emoji need them.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)
# Scripts stack two or three combining marks on a letter; more of them is paint over the neighbours.
_MARK: Final = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACKED: Final = re.compile(f"({_MARK}{{3}}){_MARK}+")


def visible(text: str) -> str:
    """`text` with every character seen: those that steer or hide become their number, such as `[U+202E]`."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _STACKED.sub(r"\1", _INVISIBLE.sub(lambda found: f"[U+{ord(found[0]):04X}]", lines))


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, and how many were left out where some were."""
    if len(text) <= limit:
        return text
    end = limit
    while end > 1 and unicodedata.combining(text[end]):
        end -= 1
    return f"{text[:end]} … ({len(text) - end:,} more characters)"


def escaped(text: str) -> Html:
    """For element content and for attribute values in double quotes."""
    return Html(html.escape(visible(text), quote=True))


def isolated(text: str) -> Html:
    """Text of others inside a line of ours: its direction of writing ends with it."""
    return Html(f'<bdi dir="auto">{escaped(text)}</bdi>')


def joined(parts: Iterable[Html], between: str = "\n") -> Html:
    """The parts one after the other."""
    return Html(between.join(parts))
