"""Takes a block apart into pieces: the lines of one question each, sorted into stem, options, answers and the rest."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from caprl_core.qa.blocks.labels import follows, is_first
from caprl_core.qa.blocks.lines import Kind, Line, classified

_KEY_PAIR = re.compile(
    r"[#*_\s]{0,4}(?:[qQ]\.?\s?)?(?P<number>\d{1,3})[*_]{0,2}\s{0,2}[-–).:=：、]{1,2}\s{0,2}"
    r"[*_]{0,2}[(（]?(?P<letter>[A-Ia-i])(?:(?P<end>[)）.:])|(?![^\W_]))[*_]{0,2}[\s,;，；|]{0,8}"
)


@dataclass(slots=True)
class Written:
    """An option as written: its label (empty for a bare bullet), its lines, and whether its box is ticked."""

    label: str
    lines: list[str]
    ticked: bool = False


@dataclass(slots=True)
class Piece:
    """Lines that belong together. `number` is the printed one; `closed` tells that a rule or another piece follows."""

    numbered: bool = False
    headed: bool = False
    number: int | None = None
    stem: list[str] = field(default_factory=list)
    options: list[Written] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    tail: list[list[str]] = field(default_factory=list)  # paragraphs after options or answer
    raw: list[str] = field(default_factory=list)
    answer_first: bool = False  # it stands before the options
    awaiting: bool = False  # an answer's value is still to come
    paragraph_ended: bool = False
    closed: bool = False

    @property
    def asking(self) -> bool:
        """True until options or an answer follow."""
        return not self.options and not self.answers and not self.awaiting

    @property
    def ended(self) -> bool:
        """True when the answer has followed the options: what comes now is something else."""
        return bool(self.options and self.answers) and not self.answer_first

    @property
    def real(self) -> bool:
        """True for what must end as a question or as a refusal."""
        return self.numbered or not self.asking

    @property
    def used(self) -> bool:
        """True when anything visible is in it."""
        return self.real or self.headed or bool(self.stem)


class Scanner:
    """One pass over the lines. With `single` the whole text is one question, however it looks."""

    def __init__(self, lines: Iterable[str], *, single: bool = False) -> None:
        self._lines = [classified(line) for line in lines]
        self._single = single
        self._pieces: list[Piece] = []
        self._piece = Piece()
        self._keys: dict[int, str] = {}
        self._in_key = False

    def pieces(self) -> list[Piece]:
        """All pieces in order; those without an answer take it from an answer key, if the text has one."""
        following: list[Line | None] = [None] * len(self._lines)
        for index in range(len(self._lines) - 1, 0, -1):
            own = self._lines[index]
            following[index - 1] = following[index] if own.kind is Kind.BLANK else own
        for line, after in zip(self._lines, following, strict=True):
            if not self._key_line(line):
                self._feed(line, after)
        self._finish(closed=False)
        for piece in self._pieces:
            if not piece.answers and piece.number in self._keys:
                piece.answers.append(self._keys[piece.number])
        return self._pieces

    def _key_line(self, line: Line) -> bool:
        """Lines of an answer key (`1. B`) belong to no piece."""
        if self._in_key and line.kind is not Kind.BLANK:
            pairs = _key_pairs(line.raw)
            self._keys.update(pairs)
            self._in_key = bool(pairs)
        return self._in_key

    def _feed(self, line: Line, after: Line | None) -> None:  # noqa: PLR0912 - one branch for each kind
        piece = self._piece
        if line.kind is Kind.BLANK:
            if not line.raw:
                self._blank()
            return
        if line.kind is Kind.RULE:
            self._rule(after)
            return
        if piece.awaiting and not (line.kind in (Kind.NUMBER, Kind.HEADING, Kind.ANSWER) and line.strong):
            piece.raw.append(line.raw)
            piece.answers.append(line.raw)
            piece.awaiting = False
        elif line.kind is Kind.OPTIONS_WORD and piece.stem and piece.asking:
            piece.raw.append(line.raw)
            inner = classified(line.text)
            if inner.kind is Kind.OPTION:
                self._option(inner)
            elif line.text:
                self._text(line.text)
        elif line.kind is Kind.REMARK and not piece.asking:
            piece.raw.append(line.raw)
            piece.tail.append([line.raw])
        elif line.kind is Kind.NUMBER:
            self._number(line, after)
        elif line.kind is Kind.HEADING:
            self._heading(line)
        elif line.kind is Kind.OPTION:
            self._option(line)
        elif line.kind is Kind.BULLET:
            self._bullet(line, after)
        elif line.kind is Kind.ANSWER:
            self._answer(line)
        else:
            self._text(line.raw)
        self._piece.paragraph_ended = False

    def _begin(self, line: Line, *, numbered: bool) -> None:
        self._finish(closed=True)
        self._piece = Piece(numbered=numbered, headed=not numbered, number=line.number)
        self._piece.stem = [line.text] if line.text else []
        self._piece.raw.append(line.raw)

    def _finish(self, *, closed: bool) -> None:
        if self._piece.used:
            self._piece.closed = closed
            self._pieces.append(self._piece)
        self._piece = Piece()

    def _blank(self) -> None:
        piece = self._piece
        piece.paragraph_ended = True
        if piece.raw:
            piece.raw.append("")
        if piece.stem and piece.asking and piece.stem[-1]:
            piece.stem.append("")

    def _rule(self, after: Line | None) -> None:
        piece = self._piece
        opens = after is not None and after.kind is Kind.OPTION and is_first(after.label)
        if self._single or (piece.stem and piece.asking and opens):
            self._blank()
        else:
            self._finish(closed=True)

    def _number(self, line: Line, after: Line | None) -> None:
        piece = self._piece
        if not line.strong and self._digit_option(line, after):
            return
        if self._single:
            self._text(line.raw)
        elif piece.numbered and piece.asking and not piece.stem:
            piece.number = line.number if piece.number is None else piece.number
            self._text(line.text, line.raw)
        elif (
            not (piece.numbered and piece.asking)
            or line.number == (piece.number or -2) + 1
            or (line.strong and line.number is not None)
        ):
            self._begin(line, numbered=True)
        else:  # a list or a `Question:` within the stem
            self._text(line.text if line.strong else line.raw, line.raw)

    def _digit_option(self, line: Line, after: Line | None) -> bool:
        """Take `2) blue` as an option where it continues or begins such a list."""
        piece = self._piece
        if piece.ended or piece.tail:
            return False
        last = piece.options[-1].label if piece.options else ""
        continues = last.isdecimal() and line.number == int(last) + 1
        begins = (
            bool(piece.stem and piece.asking and line.number == 1 and after is not None)
            and after is not None
            and (after.kind, after.strong, after.number) == (Kind.NUMBER, False, 2)
        )
        if continues or begins:
            self._take(line)
        return continues or begins

    def _take(self, line: Line) -> None:
        self._piece.options.append(Written(line.label, [line.text], line.ticked))
        self._piece.raw.append(line.raw)

    def _heading(self, line: Line) -> None:
        if self._single or (self._piece.numbered and self._piece.asking):
            self._text(line.text, line.raw)
        elif line.text:
            self._begin(line, numbered=False)

    def _option(self, line: Line) -> None:
        piece = self._piece
        if piece.options and not _same_series(piece.options[-1].label, line.label):
            self._fold_options()
        if not piece.options:
            if line.strong or is_first(line.label):
                self._take(line)
            else:
                self._text(line.raw)
        elif is_first(line.label) and (piece.ended or piece.tail) and not self._single:
            self._begin_from_tail()
            self._take(line)
        elif piece.ended or not (line.strong or _continues(line.label, piece.options[-1])):
            self._text(line.raw)
        else:
            for paragraph in piece.tail:
                piece.options[-1].lines += ["", *paragraph]
            piece.tail.clear()
            self._take(line)

    def _fold_options(self) -> None:
        """What looked like options was a list within the stem."""
        piece = self._piece
        for option in piece.options:
            piece.stem.append(f"{option.label}. {option.lines[0]}" if option.label else f"- {option.lines[0]}")
            piece.stem += option.lines[1:]
        piece.options.clear()

    def _begin_from_tail(self) -> None:
        """Options again: the last paragraph after the answer was the next question's stem."""
        stem = self._piece.tail.pop() if self._piece.tail else []
        self._finish(closed=True)
        self._piece.stem = stem
        self._piece.raw += stem

    def _bullet(self, line: Line, after: Line | None) -> None:
        piece = self._piece
        begins = piece.asking and after is not None and after.kind is Kind.BULLET
        continues = bool(piece.options) and not piece.options[-1].label
        if piece.numbered and piece.asking and not piece.stem:
            self._text(line.text, line.raw)
        elif piece.stem and not piece.ended and not piece.tail and (begins or continues):
            self._take(line)
        else:
            self._text(line.raw)

    def _answer(self, line: Line) -> None:
        pairs = _key_pairs(line.text)
        waiting = sum(bool(piece.options and not piece.answers) for piece in (*self._pieces[-2:], self._piece))
        if (line.strong and (pairs or (not line.text and waiting != 1))) or len(pairs) > 1:
            self._finish(closed=True)
            self._keys.update(pairs)
            self._in_key = True
            return
        if not self._piece.used and self._pieces and self._pieces[-1].options and not self._pieces[-1].answers:
            self._piece = self._pieces.pop()  # a rule stood before the answer
        self._piece.raw.append(line.raw)
        self._piece.answer_first = not self._piece.options
        if line.text:
            self._piece.answers.append(line.text)
        else:
            self._piece.awaiting = True

    def _text(self, text: str, raw: str | None = None) -> None:
        piece = self._piece
        piece.raw.append(text if raw is None else raw)
        if piece.asking:
            if text or piece.stem:
                piece.stem.append(text)
        elif piece.options and not piece.ended and not piece.tail and not piece.paragraph_ended:
            piece.options[-1].lines.append(text)
        elif piece.tail and not piece.paragraph_ended:
            piece.tail[-1].append(text)
        else:
            piece.tail.append([text])


def _same_series(before: str, label: str) -> bool:
    """Bare bullets and figures are lists of a stem when lettered options follow them."""
    return bool(before) and before.isdecimal() == label.isdecimal()


def _continues(label: str, before: Written) -> bool:
    """`label` is the next one, or the next but one and the one between stands in the line before (two columns)."""
    words = before.lines[0].split(maxsplit=200)
    between = (word.strip("*_().:") for word in words if word.endswith((".", ":", ")")))
    return follows(label, before.label) or any(follows(label, word) and follows(word, before.label) for word in between)


def _key_pairs(text: str) -> dict[int, str]:
    """`1. B`, `1. B) blue` or `1-B, 2-C`: numbers and letters; empty for any other text."""
    found: dict[int, str] = {}
    position = 0
    while position < len(text):
        match = _KEY_PAIR.match(text, position)
        if match is None:
            # One pair may be followed by its option's text.
            return found if len(found) == 1 and text[:position].rstrip(" *_").endswith((")", "）", ".", ":")) else {}
        found[int(match["number"])] = match["letter"]
        position = match.end()
    return found
