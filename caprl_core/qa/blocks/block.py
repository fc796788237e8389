"""Reads a writer's block of questions: tolerant and total. Every piece of a block ends as a question or a refusal."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re
from collections.abc import Iterator
from dataclasses import dataclass

from caprl_core.qa.blocks.drafts import LINE_ENDS, MOST_LINES, Draft, draft_of_piece, settled
from caprl_core.qa.blocks.gold import Fault
from caprl_core.qa.blocks.json_block import json_drafts
from caprl_core.qa.blocks.lines import Kind, classified
from caprl_core.qa.blocks.pieces import Piece, Scanner
from caprl_core.qa.blocks.wording import excerpt
from caprl_core.qa.question import Question
from caprl_core.qa.reasons import QuestionReason

MOST_PIECES = 200
"""Questions and refusals of a block. Writers are asked for five questions; what follows is one refusal."""
TEXT_CHARACTERS = 2000
"""Of a refused piece so much is kept (`rows.QUESTION_FIELDS`)."""
DETAIL_CHARACTERS = 300

_ASKS = re.compile("[?？؟]")
_COURTESY = re.compile(
    r"(?i:would you like|do you (?:want|need)|let me know|shall i|should i|can i help|(?:need|want) (?:any|more)"
    r"|anything else|feel free|还需要|是否需要|хотите)"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A piece of a block that is no usable question: its 1-based place, why, and its text (2,000 characters)."""

    number: int
    reason: QuestionReason
    detail: str
    text: str


@dataclass(frozen=True, slots=True)
class ParsedBlock:
    """What a block holds. Places (`number`) count questions and refusals together, in the order of the block."""

    questions: tuple[tuple[int, Question], ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A question or a fault, and the text it was read from."""

    found: Question | Fault
    text: str


def parse_block(text: str, *, cut: bool) -> ParsedBlock:
    """All questions of a reply; `cut` tells that it ended at its token limit. Never raises, linear in the text."""
    if "\n" not in text.strip() and text.count("\\n") > 2:
        text = text.replace("\\n", "\n")  # escaped once too often
    items = json_drafts(text, MOST_PIECES + 1)
    if items is not None:
        entries = [Entry(settled(item) if isinstance(item, Draft) else item, source) for item, source in items.pieces]
        entries += [entry for entry in (_remainder(items.before), _remainder(items.after)) if entry is not None]
        if cut and items.broken and entries:
            entries[-1] = _as_cut(entries[-1])
    else:
        *lines, rest = LINE_ENDS.split(text, maxsplit=MOST_LINES)
        beyond = len(lines) == MOST_LINES and bool(rest.strip())
        if cut and not beyond and _begins_a_text(rest):
            rest = ""  # it closes nothing
        pieces = Scanner(lines if beyond else [*lines, rest]).pieces()
        entries = list(_entries(pieces, cut=cut and not beyond))
        if beyond:
            entries.append(Entry(Fault(QuestionReason.OVER_LIMIT, f"lines after the first {MOST_LINES}"), rest))
    if not entries:
        fault = Fault(QuestionReason.CUT if cut and text.strip() else QuestionReason.UNREADABLE, "no question in it")
        entries = [Entry(fault, text)]
    return parsed(entries)


def parsed(entries: list[Entry]) -> ParsedBlock:
    """Numbered from 1, with everything beyond `MOST_PIECES` as one refusal."""
    if len(entries) > MOST_PIECES:
        surplus = Fault(QuestionReason.OVER_LIMIT, f"{len(entries) - MOST_PIECES} more pieces are not taken over")
        entries = [*entries[:MOST_PIECES], Entry(surplus, entries[MOST_PIECES].text)]
    questions: list[tuple[int, Question]] = []
    refused: list[Refusal] = []
    for number, entry in enumerate(entries, 1):
        if isinstance(entry.found, Question):
            questions.append((number, entry.found))
        else:
            refused.append(refusal(number, entry.found, entry.text))
    return ParsedBlock(tuple(questions), tuple(refused))


def refusal(number: int, fault: Fault, text: str) -> Refusal:
    """A refusal whose texts have the lengths that rows allow."""
    detail = excerpt(fault.detail, DETAIL_CHARACTERS)
    return Refusal(number, fault.reason, detail, excerpt(text, TEXT_CHARACTERS))


def _entries(pieces: list[Piece], *, cut: bool) -> Iterator[Entry]:
    real = [index for index, piece in enumerate(pieces) if piece.real]
    for index, piece in enumerate(pieces):
        own_cut = cut and index == len(pieces) - 1 and not piece.closed
        if not piece.real:
            preamble, draft = _without_preamble(piece)
            if isinstance(found := settled(draft), Question):  # stem, options and answer in one line
                yield from (left for left in (_remainder(preamble),) if left is not None)
                yield Entry(found, "\n".join(piece.raw))
                continue
            outside = not real or index < real[0] or index > real[-1]
            entry = _remainder("\n".join(piece.raw), outside=outside)
            if own_cut or entry is not None:
                entry = entry or Entry(Fault(QuestionReason.UNREADABLE, ""), "\n".join(piece.raw))
                yield _as_cut(entry) if own_cut else entry
            continue
        preamble, draft = _without_preamble(piece)
        if (entry := _remainder(preamble)) is not None:
            yield entry
        found = settled(draft)
        if own_cut and isinstance(found, Question) and not draft.answers and not piece.tail:
            # A mark of right or an answer within a line: more options, or the rest of this one, may have been to come.
            found = Fault(QuestionReason.NO_ANSWER, "no line with the answer")
        entry = Entry(found, "\n".join(piece.raw))
        tail = ["\n".join(paragraph) for paragraph in piece.tail]
        refused = isinstance(entry.found, Fault)
        yield _as_cut(entry) if own_cut and refused else entry
        for place, paragraph in enumerate(tail):
            last = own_cut and not refused and place == len(tail) - 1
            remark = classified(paragraph.split("\n", 1)[0]).kind is Kind.REMARK
            if remark:
                continue
            if last:
                yield _as_cut(Entry(Fault(QuestionReason.CUT, ""), paragraph))
            elif (left := _remainder(paragraph)) is not None:
                yield left


def _begins_a_text(line: str) -> bool:
    """A last line that a cut may have left of a text: a rule of `- a mark`, a bare number of `10:30 in the morning`."""
    found = classified(line)
    return found.kind is Kind.RULE or (found.kind is Kind.NUMBER and not found.strong and not found.text)


def _as_cut(entry: Entry) -> Entry:
    if isinstance(entry.found, Question):
        return entry
    detail = f"the reply ends here ({entry.found.reason}: {entry.found.detail})"
    return Entry(Fault(QuestionReason.CUT, detail), entry.text)


def _remainder(text: str, *, outside: bool = True) -> Entry | None:
    """Text that belongs to no question: courtesy around the questions is dropped, all else is accounted for."""
    if not text.strip() or (outside and (not _ASKS.search(text) or _COURTESY.search(text))):
        return None
    return Entry(Fault(QuestionReason.UNREADABLE, "no question with options and answer"), text)


def _without_preamble(piece: Piece) -> tuple[str, Draft]:
    """A piece that no number begins may carry an introduction: its stem is the last paragraph."""
    draft = draft_of_piece(piece)
    paragraphs = draft.stem.split("\n\n")
    if piece.numbered or piece.headed or len(paragraphs) == 1:
        return "", draft
    keep = 2 if paragraphs[-1].rstrip("* ").endswith((":", "：")) and not _ASKS.search(paragraphs[-1]) else 1
    stem = "\n\n".join(paragraphs[-keep:])
    return "\n\n".join(paragraphs[:-keep]), Draft(stem, draft.options, draft.answers)
