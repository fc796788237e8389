"""The files of a run's results in `results/<id>/`, and how they are found and read again, wherever they lie."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from caprl_core.errors import BadInputError, ObjectMissingError
from caprl_core.prism.results.run_result import RunResult
from caprl_core.prism.results.scoring import SCORES
from caprl_core.recipe.models import StorageExecution
from caprl_core.storage.store import Store

FOLDER = "results"
RESULT = "results.json"
"""Written last: a folder that has it is whole."""
SCORES_FILE = "scores.parquet"
MARKDOWN, LATEX, PAGE = "results.md", "results.tex", "index.html"


class FoundRun(NamedTuple):
    """A run's result, and the store and prefix its files lie below."""

    result: RunResult
    store: Store
    prefix: str

    def scores(self) -> pa.Table:
        """`SCORES` of every answer. Raises `BadInputError` unless they are those of the result."""
        where = f"{self.store.uri}/{joined(self.prefix, SCORES_FILE)}"
        try:
            data = self.store.get(joined(self.prefix, SCORES_FILE))
        except ObjectMissingError as error:
            raise BadInputError(f"{where} is missing; copy the whole folder of the results") from error
        if hashlib.sha256(data).hexdigest() != self.result.scores_sha256:
            raise BadInputError(f"{where} is not the file its results.json names; make the results again")
        return pq.read_table(io.BytesIO(data), schema=SCORES)


def scores_bytes(answers: pa.Table) -> bytes:
    """`scores.parquet`: the same bytes for the same answers and version of pyarrow."""
    buffer = io.BytesIO()
    pq.write_table(answers, buffer, compression="zstd")
    return buffer.getvalue()


def read_run(uri: str, storage: StorageExecution | None = None) -> FoundRun:
    """A run by its `results.json`, the folder it lies in, or the output folder of an evaluation (its newest result).

    Raises `BadInputError` where there is none.
    """
    folder = uri.removesuffix(f"/{RESULT}") if uri.endswith(f"/{RESULT}") else uri
    if folder == RESULT:
        folder = "."
    if "://" not in folder and not Path(folder).expanduser().is_dir():
        # Opening a local store makes its folder, which is wrong for a mistyped name.
        raise BadInputError(f"{uri}: there is no such folder")
    store = Store(folder, storage)
    if store.size(RESULT) is not None:
        return FoundRun(_decode(store, RESULT), store, "")
    prefix = newest(store)
    if prefix is None:
        raise BadInputError(f"{uri}: no {RESULT} here or below {FOLDER}/; run `caprl prism run` first")
    return FoundRun(_decode(store, joined(prefix, RESULT)), store, prefix)


def newest(store: Store) -> str | None:
    """The prefix of the result written last below an evaluation's output; None where there is none."""
    found = [item for item in store.list(FOLDER) if item.key.endswith(f"/{RESULT}")]
    if not found:
        return None
    return max(found, key=lambda item: (item.modified, item.key)).key.removesuffix(f"/{RESULT}")


def read_result(store: Store, prefix: str) -> RunResult | None:
    """The result of a prefix; None where there is no whole one. Raises `BadInputError` for a damaged one."""
    try:
        return _decode(store, joined(prefix, RESULT))
    except ObjectMissingError:
        return None


def joined(prefix: str, name: str) -> str:
    """The key of a file; an empty prefix is the store itself."""
    return f"{prefix}/{name}" if prefix else name


def _decode(store: Store, key: str) -> RunResult:
    try:
        return RunResult.model_validate_json(store.get(key))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInputError(f"{store.uri}/{key} is no result of this program: {place}: {first['msg']}") from error
