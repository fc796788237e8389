"""Small stages of each kind, and a recipe over imported blocks for them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Reply, Request, Sampling
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.dataset import Dataset, create_dataset
from caprl_core.shards.plan import write_plan
from caprl_core.shards.stage import Drop, ImageUse, More, Outcome, Row
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store


class Length:
    """No engine, no image: counts the characters of a block, and drops short ones."""

    name = "length"
    fields = pa.schema([pa.field("length", pa.int64(), nullable=False)])
    max_attempts = 1
    prompt_id = ""
    image_use: ImageUse = "unread"
    asks = False
    leads = 0
    tolerates_failures = False

    def __init__(self) -> None:
        self.judged: list[str] = []

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        assert image is None
        return ()

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        self.judged.append(sample.key)
        block = json.loads(sample.payload or "")["block"]
        return Row({"length": len(block)}) if block else Drop(Reason.EMPTY, "no block", retry=False)

    def text(self, fields: Mapping[str, Any]) -> str:
        return str(fields["length"])


class Interview:
    """`first` requests a sample, `more` when all of those are answered; a row lists every reply or its failure."""

    name = "interview"
    fields = pa.schema([pa.field("replies", pa.list_(pa.string()), nullable=False)])
    max_attempts = 1
    prompt_id = "interview-v1"
    asks = True

    def __init__(
        self, first: int, more: int = 0, *, image_use: ImageUse = "seen", leads: int = 0, tolerates: bool = False
    ) -> None:
        self.image_use = image_use
        self.leads = leads
        self.tolerates_failures = tolerates
        self._first = first
        self._more = more

    def _asked(self, sample: PlannedSample, numbers: range) -> list[Request]:
        return [Request(f"{sample.key}/1/{n}", f"{sample.index}:{n}", Sampling(seed=n)) for n in numbers]

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        assert (image is None) == (self.image_use == "unread")
        return self._asked(sample, range(self._first))

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        if len(replies) < self._first + self._more:
            return More(self._asked(sample, range(self._first, self._first + self._more)))
        return Row({"replies": [reply.failure or reply.text for reply in replies]})

    def text(self, fields: Mapping[str, Any]) -> str:
        return "\n".join(fields["replies"])


def blocks(tmp_path: Path, texts: Sequence[str | None], **runner: Any) -> StageRecipe:
    """A recipe over imported blocks, whose images are nowhere."""
    file = tmp_path / "blocks.jsonl"
    rows = [{"image_path": f"{n}.jpg", "qa_response": text} for n, text in enumerate(texts)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return StageRecipe.model_validate(
        {
            "name": "lengths",
            "sources": [{"name": "blocks", "kind": "qa_blocks", "uri": str(file)}],
            "dataset": {"shard_samples": 20},
            "execution": {
                "output": str(tmp_path / "out"),
                "runner": {"flush_s": 0.05} | runner,
                "gate": {"max_share": {"*": 1.0}},
            },
        }
    )


def created(recipe: StageRecipe, stage: str) -> Dataset:
    store = Store(recipe.execution.output)
    return create_dataset(recipe, store, write_plan(recipe, store), stage)


def rows_of(dataset: Dataset, unit: Unit) -> list[dict[str, Any]]:
    record = read_commit(dataset.store, unit)
    return [orjson.loads(line) for line in dataset.store.get(record.object("jsonl").final_key).splitlines()]
