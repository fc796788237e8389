"""Whose captions a run judged, and by whom, as its results say it."""

import hashlib
from collections.abc import Sequence

import orjson

from caprl_core.data.files.reader import Files
from caprl_core.data.sources.json_records import annotation_files
from caprl_core.errors import BadInputError, StoreError
from caprl_core.prism.results.run_result import CaptionsFrom, JudgedBy
from caprl_core.recipe.identity import identity
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.shards.current import Current
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.storage.commit import CommitRecord


def judged_by(recipe: PrismRecipe, engines: tuple[str, ...]) -> JudgedBy:
    """The judge; `engines` as the rows name them."""
    judge = identity(recipe.judge)
    names = ("model", "prompt", "open_prompt", "sampling", "abstain")
    return JudgedBy(**{name: judge[name] for name in names}, engines=engines)


def captions_from(recipe: PrismRecipe, captions: Dataset, current: Current) -> CaptionsFrom:
    """Whose captions, with all that made them; `current` are the commits of their dataset that count."""
    file = recipe.captions
    captioner = None
    if recipe.captioner is not None:
        captioner = identity(recipe.captioner)
        captioner.pop("row_schema_version")
    return CaptionsFrom(
        kind="captioner" if file is None else "file",
        name=recipe.captions_of,
        captioner=captioner,
        file=None if file is None else file.uri,
        file_sha256=None if file is None else _digest(recipe, file.uri),
        engines=() if file is not None else _engines(captions, current.records),
    )


def _digest(recipe: PrismRecipe, uri: str) -> str | None:
    """Of the captions' files, one after the other; None where they are gone: the captions judged are in the dataset."""
    digest = hashlib.sha256()
    files = Files(recipe.execution.storage)
    try:
        for name in annotation_files(files, uri):
            with files.open(name) as stream:
                while chunk := stream.read(2**20):
                    digest.update(chunk)
    except (BadInputError, StoreError):
        return None
    finally:
        files.close()
    return digest.hexdigest()


def _engines(captions: Dataset, records: Sequence[CommitRecord]) -> tuple[str, ...]:
    """As the first and the last shard name them: captions are read for nothing else here, and there may be many."""
    names = set()
    for shard in shard_lines(captions.store, [*records[:1], *records[1:][-1:]], threads=1):
        for row in map(orjson.loads, shard.lines):
            names.add(f"{row['engine']} {row['engine_version']}")
    return tuple(sorted(names))
