"""What became of every image of a benchmark: judged, rejected with a reason, or still pending."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from caprl_core.shards.current import Current
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.publish import read_object

THREADS = 8
"""Ledgers fetched at once."""
_COLUMNS = ("key", "source", "status", "reason")


class ImageCounts(NamedTuple):
    """Images of a benchmark. `planned == judged + pending + sum of rejected`. rejected: stage -> reason -> images."""

    planned: int
    judged: int
    pending: int
    rejected: Mapping[str, Mapping[str, int]]


class Account(NamedTuple):
    """counts: by benchmark; shards: key -> place among the judge's commits, of all images judged."""

    counts: Mapping[str, ImageCounts]
    shards: Mapping[str, int]

    @property
    def pending(self) -> int:
        """Images of all benchmarks that are still to be judged."""
        return sum(counts.pending for counts in self.counts.values())

    @property
    def planned(self) -> int:
        """Images of all benchmarks."""
        return sum(counts.planned for counts in self.counts.values())


def account(captions: Dataset, judge: Dataset, found: tuple[Current, Current]) -> Account:
    """Count from the ledgers of both stages; `found` are the commits of the captions (all there are to be: a judge's
    dataset is planned from finished ones) and of the judge that count.

    An image whose captions were redone after the judge's dataset was planned is pending: no reply is about them.
    Raises `StoreError` for a ledger that is not the committed one.
    """
    first, second = captions.record.stage, judge.record.stage
    planned: Counter[str] = Counter()
    rejected: dict[str, dict[str, Counter[str]]] = {}
    captioned: dict[str, str] = {}
    for _, lines in _ledgers(captions, found[0]):
        for key, source, status, reason in lines:
            planned[source] += 1
            if status == "rejected":
                rejected.setdefault(source, {}).setdefault(first, Counter())[reason] += 1
            else:
                captioned[key] = source
    judged: Counter[str] = Counter()
    shards: dict[str, int] = {}
    for place, lines in _ledgers(judge, found[1]):
        for key, _, status, reason in lines:
            benchmark = captioned.get(key)
            if benchmark is None:
                continue
            if status == "rejected":
                rejected.setdefault(benchmark, {}).setdefault(second, Counter())[reason] += 1
            else:
                judged[benchmark] += 1
                shards[key] = place
    counts = {}
    for benchmark, images in planned.items():
        lost = {stage: dict(sorted(reasons.items())) for stage, reasons in rejected.get(benchmark, {}).items()}
        left = images - judged[benchmark] - sum(sum(reasons.values()) for reasons in lost.values())
        counts[benchmark] = ImageCounts(images, judged[benchmark], left, lost)
    return Account(counts, shards)


def _ledgers(dataset: Dataset, current: Current) -> Iterator[tuple[int, Iterator[tuple[Any, ...]]]]:
    """Place and lines of every commit's ledger; a few are fetched ahead."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="caprl-ledgers") as pool:
        for start in range(0, len(current.records), THREADS):
            some = current.records[start : start + THREADS]
            ledgers = pool.map(lambda record: read_object(dataset.store, record.object("ledger")), some)
            for place, data in enumerate(ledgers, start):
                table = pq.read_table(io.BytesIO(data), columns=list(_COLUMNS))
                yield place, zip(*(table.column(name).to_pylist() for name in _COLUMNS), strict=True)
