"""The reader of a recipe's source, by its kind. `stage_rows`, which are no files but commits, are read by
`caprl_core.shards.stage_rows`.
"""

from collections.abc import Callable, Iterator
from itertools import islice

from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources.benchmarks import Benchmark
from caprl_core.data.sources.conversations import Conversations
from caprl_core.data.sources.densefusion import DenseFusion
from caprl_core.data.sources.folder import Folder
from caprl_core.data.sources.hf_parquet import HfParquet
from caprl_core.data.sources.qa_files import QaBlocks, QaLists
from caprl_core.data.sources.released_qa import ReleasedQa
from caprl_core.data.sources.sharegpt4v import ShareGPT4V
from caprl_core.data.sources.source import Source
from caprl_core.data.sources.table import Table
from caprl_core.data.sources.webdataset import WebDataset
from caprl_core.recipe.models import SourceKind, SourceRecipe, StorageExecution

_READERS: dict[SourceKind, Callable[[Files, SourceRecipe], Source]] = {
    "sharegpt4v": ShareGPT4V,
    "densefusion": DenseFusion,
    "conversations": Conversations,
    "table": Table,
    "hf_parquet": HfParquet,
    "webdataset": WebDataset,
    "folder": Folder,
    "qa_blocks": QaBlocks,
    "qa_lists": QaLists,
    "caprl_qa": ReleasedQa,
    "benchmark_released": Benchmark,
    "benchmark_questions": Benchmark,
    "benchmark_captionqa": Benchmark,
}


def open_source(source: SourceRecipe, storage: StorageExecution) -> Source:
    """The reader of `source`, of any kind but `stage_rows`; nothing is read before its first record is asked for."""
    reader = _READERS[source.kind](Files(storage), source)
    return reader if source.limit is None else _Limited(reader, source.limit)


class _Limited:
    """The first records of a source."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._limit = limit

    def records(self) -> Iterator[SourceRecord]:
        return islice(self._source.records(), self._limit)
