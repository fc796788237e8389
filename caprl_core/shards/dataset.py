"""A dataset on its store: created once with an identity and a plan, opened only by recipes of the same identity."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caprl_core.errors import BadInputError, IdentityMismatchError, ObjectExistsError, ObjectMissingError
from caprl_core.recipe.identity import differences, fingerprint, identity
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.plan_file import Plan, PlanReport, report_json
from caprl_core.storage.layout import DATASET, PLAN_REPORT
from caprl_core.storage.store import Store


class DatasetRecord(BaseModel):
    """`dataset.json`: what this dataset is. Written once by a conditional create, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    stage: str
    fingerprint: str = Field(description="sha256 of the recipe's identity.")
    identity: dict[str, Any]
    plan_key: str
    plan_sha256: str
    samples: int
    shards: int
    created: str = Field(description="ISO 8601, UTC.")


@dataclass(frozen=True, slots=True)
class Dataset:
    """An open dataset."""

    store: Store
    record: DatasetRecord
    plan: Plan

    def shard_samples(self, shard: int) -> int:
        """Samples of a shard: the last one has what is left."""
        whole: int = self.record.identity["dataset"]["shard_samples"]
        last = self.record.shards - 1
        return self.record.samples - last * whole if shard == last else whole


def create_dataset(recipe: StageRecipe, store: Store, report: PlanReport, stage: str = "caption") -> Dataset:
    """Give a store its identity and plan. Creating the same dataset again is no error; another one is refused."""
    own = identity(recipe)
    record = DatasetRecord(
        name=recipe.name,
        stage=stage,
        fingerprint=fingerprint(own),
        identity=own,
        plan_key=report.key,
        plan_sha256=report.digest,
        samples=report.samples,
        shards=report.shards,
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    store.settle([record.plan_key])
    try:
        store.create(DATASET, record.model_dump_json(indent=1).encode())
        store.settle([DATASET])
        dataset = Dataset(store=store, record=record, plan=Plan(store, record.plan_key))
    except ObjectExistsError:
        dataset = open_dataset(store, recipe)
        if dataset.record.plan_sha256 != report.digest:
            raise IdentityMismatchError(
                f"{store.uri}: the sources changed since this dataset was planned "
                f"({dataset.record.samples} samples then, {report.samples} now); "
                "restore the sources, or plan into a new output folder"
            ) from None
    # Only now: the report of a refused plan must not replace that of the dataset's own.
    store.put(PLAN_REPORT, report_json(report))
    return dataset


def open_dataset(store: Store, recipe: StageRecipe | None = None) -> Dataset:
    """Open the dataset of a store.

    Raises `BadInputError` when nothing is planned there, and `IdentityMismatchError`, naming each field that differs,
    when a recipe is given and its identity is not the dataset's.
    """
    try:
        record = DatasetRecord.model_validate_json(store.get(DATASET))
    except ObjectMissingError as error:
        raise BadInputError(f"{store.uri}: no dataset here yet; run `caprl plan` first") from error
    except ValidationError as error:
        raise BadInputError(f"{store.uri}/{DATASET}: not a dataset record: {error.errors()[0]['msg']}") from error
    if recipe is not None:
        _refuse_other(store, record, recipe)
    return Dataset(store=store, record=record, plan=Plan(store, record.plan_key))


def has_dataset(store: Store) -> bool:
    """True when a dataset has been created on this store."""
    return store.size(DATASET) is not None


def _refuse_other(store: Store, record: DatasetRecord, recipe: StageRecipe) -> None:
    own = identity(recipe)
    if fingerprint(own) == record.fingerprint:
        return
    lines = [f"  {d.field}: dataset has {d.theirs!r}, recipe has {d.ours!r}" for d in differences(own, record.identity)]
    raise IdentityMismatchError(
        f"{store.uri} holds dataset {record.name!r} of another recipe. Fields that differ:\n"
        + "\n".join(lines)
        + "\nRestore these values, or choose another execution.output."
    )
