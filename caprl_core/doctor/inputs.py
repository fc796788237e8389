"""The sources and the engine of a recipe, tried: first records, first images, first answer of a server."""

import asyncio
from collections.abc import Iterator
from itertools import islice

from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.roots import ImageReader
from caprl_core.data.sample import PlannedSample, SourceRecord
from caprl_core.doctor.bucket import IMPATIENT
from caprl_core.doctor.finding import Finding, missing, note, ok
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.errors import CaprlError, IdentityMismatchError, SampleFailedError
from caprl_core.recipe.models import CaptionRecipe, SourceRecipe
from caprl_core.shards.dataset import has_dataset, open_dataset
from caprl_core.shards.stage_rows import open_any_source
from caprl_core.storage.store import Store

RECORDS = 5
"""Records tried of each source: one missing picture is a ledger row, five in a row are a root that is not there."""
READY_S = 5.0


def examine_sources(recipe: CaptionRecipe) -> Iterator[Finding]:
    """Read the first records of each source and decode their images."""
    for source in recipe.sources:
        name = f"source {source.name}"
        try:
            records = list(islice(open_any_source(source, recipe.execution.storage).records(), RECORDS))
        except CaprlError as error:
            yield missing(name, str(error), f"check uri and kind of source {source.name}")
            continue
        if not records:
            yield missing(name, f"{source.uri} holds no record", f"check uri, kind and limit of source {source.name}")
            continue
        yield asyncio.run(_images(recipe, source, records))


async def _images(recipe: CaptionRecipe, source: SourceRecipe, records: list[SourceRecord]) -> Finding:
    name = f"source {source.name}"
    runner = recipe.execution.runner
    failures: list[str] = []
    reader = ImageReader(recipe)
    pool = DecodePool(recipe.image, workers=1, timeout_s=runner.decode_timeout_s, memory_mb=runner.decode_memory_mb)
    try:
        for record in records:
            sample = PlannedSample(
                f"doctor-{record.ordinal}", 0, record.ordinal, source.name, record.image, problem=record.problem
            )
            try:
                await pool.prepare(await reader.read(sample))
            except SampleFailedError as error:
                failures.append(f"{record.image}: {error}")
            except CaprlError as error:
                return missing(name, str(error), f"check the roots of source {source.name}")
    finally:
        pool.close()
        reader.close()
    found = f"{len(records) - len(failures)} of the first {len(records)} images read and decoded"
    if len(failures) == len(records):
        return missing(name, f"{found}; {failures[0]}", f"check the roots of source {source.name}")
    if failures:
        return note(name, f"{found}; {failures[0]}", "such samples go to the ledger")
    return ok(name, found)


def examine_engine(recipe: CaptionRecipe) -> Iterator[Finding]:
    """Ask the servers of an openai engine who they are; the other engines are examined with the machine."""
    if recipe.execution.engine.kind != "openai":
        return
    try:
        info = asyncio.run(_asked(recipe))
    except CaprlError as error:
        yield missing("engine", str(error), "start the server, or check execution.engine.urls and served_name")
    else:
        yield ok("engine", info)


async def _asked(recipe: CaptionRecipe) -> str:
    engine = OpenAIEngine(recipe.model, recipe.execution.engine, ready_s=READY_S)
    try:
        info = await engine.start()
    finally:
        await engine.close()
    return f"{info.engine} {info.engine_version} serves {info.model}"


def examine_dataset(recipe: CaptionRecipe) -> Iterator[Finding]:
    """Whether the output already holds a dataset, and of this recipe."""
    try:
        store = Store(recipe.execution.output, recipe.execution.storage.model_copy(update=IMPATIENT))
        if not has_dataset(store):
            yield note("dataset", "none planned yet", "`caprl plan` makes it")
            return
        dataset = open_dataset(store, recipe)
    except IdentityMismatchError as error:
        yield missing("dataset", str(error).splitlines()[0], "see `caprl config show`, or choose another output")
    except CaprlError as error:
        yield missing("dataset", str(error), "look at the output")
    else:
        yield ok(
            "dataset", f"{dataset.record.name}: {dataset.record.samples} samples in {dataset.record.shards} shards"
        )
