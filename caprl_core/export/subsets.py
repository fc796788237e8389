"""Which rows go into which files: a held-out side by image, and nested samples by key."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson

from caprl_core.errors import BadInputError
from caprl_core.export.draws import DRAW_BITS, draw
from caprl_core.shards.current import Current
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.shard_lines import shard_lines

_UNITS = {"k": 1_000, "m": 1_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How rows are divided.

    samples: rows of each nested sample. validation: share of the images held out, in [0, 1). attempt: only rows of this
    attempt. seed: of both draws.
    """

    samples: tuple[int, ...] = ()
    validation: float = 0.0
    attempt: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 <= self.validation < 1:
            raise BadInputError(f"--validation {self.validation:g}: a share of the images, from 0 to below 1")
        if any(count < 1 for count in self.samples) or len(set(self.samples)) != len(self.samples):
            raise BadInputError("--sample: different numbers of rows, each at least 1")


class Subset(NamedTuple):
    """A name (empty: everything there is) and its rows."""

    name: str
    rows: int


class Subsets:
    """The subsets of a dataset: who is in them, and how many."""

    def __init__(self, division: Division, subsets: Sequence[Subset], borders: Sequence[int]) -> None:
        self._division = division
        self._borders = borders
        self._held_out = int(division.validation * 2**DRAW_BITS)
        self.subsets = tuple(subsets)
        self._whole = not borders and not self._held_out

    @property
    def take_all(self) -> bool:
        """True when every row is in the one subset there is: nobody needs to look at it."""
        return self._whole and self._division.attempt is None

    def of(self, row: dict[str, Any]) -> tuple[int, ...]:
        """The numbers of the subsets a row belongs to; none for a row that is left out."""
        if self._division.attempt is not None and row["attempt"] != self._division.attempt:
            return ()
        if self._whole:
            return (0,)
        if self._held_out and _is_held_out(row, self._division.seed, self._held_out):
            return (len(self.subsets) - 1,)
        if not self._borders:
            return (0,)
        drawn = draw("sample", self._division.seed, row["key"])
        return tuple(number for number, border in enumerate(self._borders) if drawn <= border)


def divide(dataset: Dataset, current: Current, division: Division, *, threads: int) -> Subsets:
    """The subsets of a dataset. Their exact sizes take a pass over the rows, which keeps 8 bytes a row.

    A smaller sample is part of every larger one; rows that come or go later move a sample's border by as many. An image
    is held out by its sha256, so all its captions, in any dataset exported with this seed, are on the same side.
    Raises `BadInputError` when there are fewer rows than a sample wants.
    """
    if not division.samples and not division.validation:
        attempt = division.attempt
        rows = sum(
            record.rows if attempt is None else record.attempts.get(str(attempt), 0) for record in current.records
        )
        return Subsets(division, [Subset("", rows)], [])
    held_out = int(division.validation * 2**DRAW_BITS)
    drawn = array("Q")
    outside = 0
    for shard in shard_lines(dataset.store, current.records, threads=threads):
        for line in shard.lines:
            row = orjson.loads(line)
            if division.attempt is not None and row["attempt"] != division.attempt:
                continue
            if held_out and _is_held_out(row, division.seed, held_out):
                outside += 1
            else:
                drawn.append(draw("sample", division.seed, row["key"]))
    numbers = np.frombuffer(drawn, dtype=np.uint64)
    if division.samples and max(division.samples) > len(numbers):
        raise BadInputError(
            f"--sample {sample_name(max(division.samples))}: there are {len(numbers):,} rows to draw from"
        )
    samples = sorted(division.samples)
    borders = [int(np.partition(numbers, count - 1)[count - 1]) for count in samples]
    subsets = [Subset(sample_name(count), count) for count in samples] or [Subset("train", len(numbers))]
    if division.validation:
        subsets.append(Subset("validation", outside))
    return Subsets(division, subsets, borders)


def sample_name(count: int) -> str:
    """500000 -> `500k`, 1000000 -> `1m`, anything else in digits."""
    for letter, unit in reversed(_UNITS.items()):
        if count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def parse_count(text: str) -> int:
    """`500k`, `1m`, `1.5M`, `1234` -> rows. Raises `BadInputError` for anything else."""
    cleaned = text.strip().lower().replace("_", "").replace(",", "")
    unit = _UNITS.get(cleaned[-1:], 1)
    try:
        count = float(cleaned[:-1] if unit > 1 else cleaned) * unit
    except ValueError:
        count = 0.0
    if not (count >= 1 and count < 1e12 and count == int(count)):
        raise BadInputError(f"--sample {text}: a number of rows, like 500k, 1m or 1234")
    return int(count)


def _is_held_out(row: dict[str, Any], seed: int, border: int) -> bool:
    if "image_sha256" not in row:
        raise BadInputError("--validation: the rows of this dataset know no image; it cannot be split by image")
    return draw("validation", seed, row["image_sha256"]) < border
