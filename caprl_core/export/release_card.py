"""The card of a Hugging Face export: what is in it, how it came to be, and a few examples to judge by eye."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from caprl_core.export.caption_lengths import QUANTILES, CaptionLengths
from caprl_core.export.card_facts import (
    code,
    fenced,
    model_facts,
    reason_lines,
    size_category,
    source_lines,
    table,
)
from caprl_core.export.reading import Reading
from caprl_core.export.subsets import Subset
from caprl_core.qa.page.thumbnails import NoThumbnail, thumbnail

SHOWN = 600
"""Characters of an example's caption: longer ones end in an ellipsis."""


_SPOILS = re.compile("[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]")
"""Characters that spoil a page in viewers: controls but the line end, and those that turn the direction of text."""


class Pictured(NamedTuple):
    """An example: key, caption and the picture's bytes."""

    key: str
    caption: str
    data: bytes


def release_card(
    reading: Reading,
    rows: int,
    *,
    names: Mapping[str, Sequence[str]],
    lengths: CaptionLengths,
    licence: str | None,
    source_licences: Mapping[str, str],
    examples: Sequence[Pictured],
) -> tuple[str, dict[str, bytes]]:
    """The text of `README.md`, and name -> bytes of the small pictures it shows.

    `rows` are those of the export, `names` the files of each subset. Licences are what the user stated.
    """
    record = reading.dataset.record
    splits = {subset.name: _split(names[subset.name]) for subset in reading.subsets}
    header: dict[str, Any] = {"license": licence} if licence else {}
    header |= {
        "pretty_name": record.name,
        "task_categories": ["image-to-text"],
        "tags": ["caprl", "image-captioning"],
        "size_categories": [size_category(rows)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits.values()],
            }
        ],
    }
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=120)
    shown, thumbnails = _shown(examples)
    sections = [
        f"# {record.name}\n\nPictures with captions, made by the CapRL dataset factory.",
        table(("", ""), [*model_facts(reading.dataset), ("Fingerprint", code(record.fingerprint))]),
        "## Counts\n\n" + _counts(reading, rows, splits),
        "## Length of the captions\n\n" + _lengths(lengths, rows),
        "## Sources and licences\n\n"
        + table(("source", "kind", "licence"), source_lines(reading.dataset, source_licences))
        + '\n\nLicences are stated by whoever made this export; "not stated" means that nobody did: ask the source.',
        "## Columns\n\n`image` is the picture with its original bytes (re-encoded only if the recipe says so), "
        "`caption` its caption as the model wrote it, `source_image` the picture's name in its source, `image_sha256` "
        "the digest of the original. The others say who wrote the caption, and how.",
        "## Load it\n\n" + _usage(reading.subsets, splits),
        "## Examples\n\n" + shown,
        "## Recipe\n\n" + fenced(yaml.safe_dump(record.identity, sort_keys=False, allow_unicode=True).rstrip()),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n", thumbnails


def _split(names: Sequence[str]) -> str:
    """`data/train-00000-of-00001.parquet` -> `train`."""
    return names[0].rpartition("/")[2].partition("-")[0]


def _counts(reading: Reading, rows: int, splits: Mapping[str, str]) -> str:
    lines = [(code(splits[subset.name]), f"{subset.rows:,}") for subset in reading.subsets]
    text = table(("split", "rows"), lines)
    record = reading.dataset.record
    text += (
        f"\n\nOf {record.samples:,} planned samples {reading.rejected:,} were rejected and {reading.current.pending:,} "
        f"are pending; {rows:,} rows are exported here."
    )
    if reading.division.attempt is not None:
        text += f" Only captions of attempt {reading.division.attempt} are."
    if reading.division.samples:
        text += " The samples are nested: each larger one holds the smaller ones."
    if reasons := reason_lines(reading.current.records):
        text += "\n\n" + table(("rejected because", "samples"), reasons)
    return text


def _lengths(lengths: CaptionLengths, rows: int) -> str:
    summaries = lengths.summaries()
    if not summaries:
        return "There is no caption."
    header = ("", "mean", "least", *(f"{quantile:.0%}" for quantile in QUANTILES), "most")
    lines = [
        (unit, f"{one.mean:,.1f}", f"{one.least:,}", *(f"{value:,}" for value in one.quantiles), f"{one.most:,}")
        for unit, one in summaries.items()
    ]
    return f"{table(header, lines)}\n\n{lengths.truncated:,} of {rows:,} captions ended at the token limit."


def _usage(subsets: Sequence[Subset], splits: Mapping[str, str]) -> str:
    split = splits[subsets[0].name]
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        f'rows = load_dataset("PATH_OF_THIS_FOLDER", split="{split}")\n'
        'print(rows[0]["image"].size, rows[0]["caption"])\n```'
    )


def _shown(examples: Sequence[Pictured]) -> tuple[str, dict[str, bytes]]:
    thumbnails: dict[str, bytes] = {}
    parts = []
    for number, example in enumerate(examples, start=1):
        small = thumbnail(example.data)
        if isinstance(small, NoThumbnail):
            picture = f"(no picture: {small.reason})"
        else:
            name = f"examples/{number}.jpg"
            thumbnails[name] = small.jpeg
            picture = f"![the picture of {example.key}]({name})"
        text = example.caption if len(example.caption) <= SHOWN else example.caption[:SHOWN] + "…"
        parts.append(f"{picture}\n\n{fenced(_SPOILS.sub(chr(0xFFFD), text))}")
    return "\n\n".join(parts) or "None.", thumbnails
