"""A small table as aligned text, Markdown or LaTeX; names of others are escaped in each."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from caprl_core.report.markup import visible

_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>|~$&])")
_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "—": "--",
    "\N{MINUS SIGN}": "$-$",
    **{special: f"\\{special}" for special in "{}$&#%_"},
}


@dataclass(frozen=True, slots=True)
class TextTable:
    """caption: what it shows. headings: of the columns, the first of which names the rows; all others are numbers.
    rows: as many cells each. summary: so many last rows stand below a rule."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    summary: int = 0

    @property
    def body(self) -> int:
        """Rows above the rule."""
        return len(self.rows) - self.summary


def as_text(table: TextTable) -> str:
    """For a terminal: columns aligned, control characters as their numbers. Ends with a newline."""
    lines = [[_line(cell) for cell in row] for row in (table.headings, *table.rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head, *shown = [_aligned(line, widths) for line in lines]
    body, end = shown[: table.body], shown[table.body :]
    return "\n".join([_line(table.caption), head, rule, *body, *([rule, *end] if end else []), ""])


def as_markdown(table: TextTable) -> str:
    """A pipe table below its caption in bold; the summary is bold too. Ends with a newline."""
    lines = [[_markdown(cell) for cell in row] for row in (table.headings, *table.rows[: table.body])]
    lines += [[f"**{_markdown(cell)}**" if cell else "" for cell in row] for row in table.rows[table.body :]]
    marks = [":--", *("--:" for _ in table.headings[1:])]
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([f"**{_markdown(table.caption)}**", "", head, f"|{'|'.join(marks)}|", *rest, ""])


def as_latex(table: TextTable) -> str:
    """A `table` of the package booktabs, for any engine that reads UTF-8. Ends with a newline."""
    rows = [_cells(row) for row in table.rows]
    body, end = rows[: table.body], rows[table.body :]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}",
            r"\toprule",
            _cells(table.headings),
            r"\midrule",
            *body,
            *([r"\midrule", *end] if end else []),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([cells[0] + first, *(pad + cell for pad, cell in zip(rest, cells[1:], strict=True))]).rstrip()


def _line(text: str) -> str:
    return " ".join(visible(text).split())


def _width(text: str) -> int:
    """Cells of a terminal: two for wide letters, none for marks on the one before."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", _line(text))


def _cells(row: Sequence[str]) -> str:
    return f"{' & '.join(map(_latex, row))} \\\\"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in _line(text))
