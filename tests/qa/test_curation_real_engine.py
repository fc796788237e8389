"""Curation of real pictures and hostile files through a real engine: a model of random weights writes noise, and every
bit of it ends as a reason; given real questions, the same model's votes are counted, whatever it says.
"""

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import orjson
import pytest

from caprl_core.qa.finish import Stages, finish, open_stages
from caprl_core.recipe.qa import QaRecipe
from caprl_core.shards.current import current_commits
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.shards.verify import verify
from caprl_core.world.tiny_captioner import build_tiny_captioner
from support.qa_process import Death, work

GOOD, HOSTILE = 47, 13
ENGINE = "vllm" if importlib.util.find_spec("vllm") is not None else "transformers"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_captioner(tmp_path_factory.mktemp("model") / "tiny")


def recipe(model: Path, output: str, sources: list[dict[str, Any]], **changes: Any) -> QaRecipe:
    engine = {"kind": ENGINE, "model_path": str(model), "concurrency": 32, "max_model_len": 2048, "enforce_eager": True}
    tiny = {"name": "tiny", "dtype": "float32"}
    values: dict[str, Any] = {
        "name": "corpus",
        "sources": sources,
        "dataset": {"shard_samples": 25},
        "image": {"max_pixels": 64 * 28 * 28},
        "writer": {"model": tiny, "sampling": {"temperature": 1.0, "max_tokens": 24}},
        "answerer": {"model": tiny, "rotations": 4, "sampling": {"temperature": 1.0, "max_tokens": 4}},
        "execution": {
            "output": output,
            "writer": engine,
            "answerer": engine,
            "runner": {"flush_s": 0.5},
            "gate": {"max_share": {"*": 1.0}},
        },
    }
    for name, value in changes.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    if values["writer"] is None:
        values["execution"] = values["execution"] | {"writer": None}
    return QaRecipe.model_validate(values)


def sound(of: QaRecipe) -> Stages:
    stages = open_stages(of)
    for dataset in filter(None, stages):
        report = verify(dataset, deep=True)
        assert report.sound, report.problems
        assert report.pending == 0
    return stages


def test_noise_ends_as_reasons_and_nothing_is_lost(corpus: Path, model: Path, tmp_path: Path) -> None:
    own = recipe(model, str(tmp_path / "qa"), [{"name": "files", "kind": "table", "uri": str(table(corpus, tmp_path))}])
    own = QaRecipe.model_validate(own.model_dump() | {"sources": [rooted(own, corpus)]})
    for stage in ("generate", "extract", "answer"):
        work(own, stage, Death("-", 0))
    stages = sound(own)
    stats = finish(own).stats
    assert stages.generated is not None
    assert stages.generated.record.samples == GOOD + HOSTILE
    lost = sum(stats.rejected["generate"].values())
    assert stats.funnel["images"] == GOOD + HOSTILE
    assert stats.funnel["blocks"] == GOOD + HOSTILE - lost
    assert sum(n for reason, n in stats.rejected["generate"].items() if reason.startswith("image_")) >= 6
    assert sum(stats.refused.values()) + stats.parsed >= stats.funnel["blocks"], "each block is questions and reasons"
    assert stats.rejected["answer"].get("no_question", 0) + stats.stages["answer"]["rows"] == stats.funnel["blocks"]


@pytest.mark.parametrize("mode", ["sampled", "logprob"])
def test_votes_of_a_real_engine_are_counted(mode: str, corpus: Path, model: Path, tmp_path: Path) -> None:
    pictures = sorted(path.name for path in (corpus / "images").iterdir())[:10]
    questions = [
        {"question": "What is shown?\n   - A) a shoe\n   - B) a boat\n   - C) a tree\n   - D) a cup", "answer": "B"},
        {"question": "How many are there?\n   - A) one\n   - B) two\n   - C) three\n   - D) four", "answer": "D"},
    ]
    listed = [{"image_path": name, "qa_list": questions} for name in pictures]
    (tmp_path / "lists.json").write_text(json.dumps(listed))
    source = {
        "name": "lists",
        "kind": "qa_lists",
        "uri": str(tmp_path / "lists.json"),
        "roots": {"": str(corpus / "images")},
    }
    own = recipe(model, str(tmp_path / "qa"), [source], writer=None, answerer={"mode": mode})
    for stage in ("extract", "answer"):
        work(own, stage, Death("-", 0))
    answered = sound(own).answered
    rows = [
        orjson.loads(line)
        for shard in shard_lines(answered.store, current_commits(answered).records, threads=1)
        for line in shard.lines
    ]
    votes = [vote for row in rows for question in row["questions"] for vote in (*question["visual"], *question["text"])]
    assert len(rows) == len(pictures)
    assert len(votes) == len(pictures) * 2 * 8
    assert not any(vote["failure"] for vote in votes)
    if mode == "logprob":
        assert all(0 <= vote["gold_p"] <= 1 for vote in votes)
        shares = [sum(vote["gold_p"] for vote in question["text"]) for row in rows for question in row["questions"]]
        assert math.isclose(sum(shares) / len(shares), 1.0, abs_tol=0.5), "four places of the gold: about 1/4 each"
    stats = finish(own).stats
    assert stats.parsed == len(pictures) * 2
    assert stats.parsed == sum(stats.reasons.values()) + sum(stats.kept.values())


def table(corpus: Path, folder: Path) -> Path:
    names = [f"{part}/{path.name}" for part in ("images", "bad_images") for path in sorted((corpus / part).iterdir())]
    path = folder / "files.jsonl"
    path.write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    return path


def rooted(own: QaRecipe, corpus: Path) -> dict[str, Any]:
    return own.sources[0].model_dump() | {"roots": {"": str(corpus)}}
