"""A self-contained HTML page from sections: it opens from a bucket or a disk, runs nothing and fetches nothing."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caprl_core.report.markup import Html, escaped, isolated, joined
from caprl_core.report.style import STYLE


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under a heading; `anchor` (a to z and `-`) is what links name it by."""

    anchor: str
    heading: str
    parts: Sequence[Html]


@dataclass(frozen=True, slots=True)
class Headline:
    """A figure to be seen first: what it counts, its value with unit, and what that means in words."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; numbers stand right-aligned."""

    heading: str
    number: bool = False


def page(title: str, lead: Sequence[Html], sections: Sequence[Section], style: str = "") -> bytes:
    """The whole file, UTF-8. Its content policy forbids scripts and every fetch, whatever slipped into the text.

    `style` is a style sheet of ours for what this page alone has, after the common one.
    """
    links = joined(
        (Html(f'<li><a href="#{escaped(one.anchor)}">{escaped(one.heading)}</a></li>') for one in sections), ""
    )
    body = joined(_section(one) for one in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escaped(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>{isolated(title)}</h1>
{joined(lead)}
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main id="content">
{body}
</main>
</body>
</html>
""".encode()


def paragraph(text: str, *, quiet: bool = False) -> Html:
    """A paragraph of text, in the quieter colour where it only explains."""
    kind = ' class="quiet"' if quiet else ""
    return Html(f"<p{kind}>{escaped(text)}</p>")


def headline(figures: Sequence[Headline]) -> Html:
    """The figures side by side, as many a line as fit."""
    items = (
        f'<div><dt>{escaped(one.label)}</dt><dd class="value">{escaped(one.value)}</dd>'
        f'<dd class="note">{escaped(one.note)}</dd></div>'
        for one in figures
    )
    return Html(f'<dl class="headline">{"".join(items)}</dl>')


def pairs(entries: Mapping[str, str]) -> Html:
    """Names and what they stand for, in the mapping's order."""
    items = (f"<dt>{isolated(name)}</dt><dd>{isolated(value)}</dd>" for name, value in entries.items())
    return Html(f'<dl class="pairs">{"".join(items)}</dl>')


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Html:
    """A table of text whose first column names its rows. A row shorter or longer than `columns` raises `ValueError`."""
    return table_of(caption, columns, [[isolated(cell) for cell in row] for row in rows])


def named(name: str, meaning: str) -> Html:
    """A table cell of a name with its meaning below it."""
    return Html(f"{isolated(name)}<small>{isolated(meaning)}</small>")


def table_of(
    caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Html]], emphasised: Sequence[int] = ()
) -> Html:
    """The same of markup; rows at the positions `emphasised` stand out."""
    head = "".join(f'<th scope="col"{_kind(column)}>{escaped(column.heading)}</th>' for column in columns)
    body = []
    for position, row in enumerate(rows):
        first, *rest = (f"{_kind(column)}>{cell}" for column, cell in zip(columns, row, strict=True))
        cells = "".join(f"<td{cell}</td>" for cell in rest)
        marked = ' class="right"' if position in emphasised else ""
        body.append(f'<tr{marked}><th scope="row"{first}</th>{cells}</tr>')
    return Html(
        f'<div class="scroll"><table><caption>{escaped(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def beside(chart: Html, caption: str, *others: Html, wide: bool = False) -> Html:
    """A chart with its caption, and beside it (below it on a narrow screen, or where the table is `wide`) its table."""
    figure = f"<figure>{chart}<figcaption>{escaped(caption)}</figcaption></figure>"
    return Html(f'<div class="beside{" wide" if wide else ""}">{figure}<div>{joined(others)}</div></div>')


def picture(data: bytes, media_type: str, alt: str, width: int, height: int) -> Html:
    """An image inside the file. Width and height in pixels keep its place while it is decoded."""
    source = f"data:{escaped(media_type)};base64,{base64.b64encode(data).decode('ascii')}"
    return Html(f'<img src="{source}" alt="{escaped(alt)}" width="{width}" height="{height}">')


def disclosure(summary: str, *parts: Html) -> Html:
    """Parts shown when asked for."""
    return Html(f"<details><summary>{escaped(summary)}</summary>{joined(parts)}</details>")


def _section(section: Section) -> Html:
    anchor = escaped(section.anchor)
    return Html(
        f'<section id="{anchor}" aria-labelledby="{anchor}-heading">'
        f'<h2 id="{anchor}-heading">{escaped(section.heading)}</h2>\n{joined(section.parts)}\n</section>'
    )


def _kind(column: Column) -> str:
    return ' class="number"' if column.number else ""
