"""The whole factory in the embedded world: what a part makes is the next one's input; only progress is published."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from caprl_core.errors import BadInputError
from caprl_core.factory.publication import publications
from caprl_core.storage.store import Store
from caprl_core.training.registry import find_captioner
from caprl_core.world.benchmark import write_benchmark
from caprl_core.world.drawn_folder import draw_folder
from caprl_core.world.model_folders import committed_model
from caprl_core.world.question_set import write_question_set
from flows.build_factory import build_factory

pytestmark = pytest.mark.usefixtures("prefect_api")
CONFIGS = Path(__file__).parents[2] / "configs"
CURATED, CAPTIONED = 24, 10


class Built(NamedTuple):
    """A factory that has run once: its recipe file and what it returned."""

    config: Path
    summary: dict[str, Any]


def shipped(name: str, path: Path, **changes: Any) -> Path:
    """A shipped recipe with fields replaced by dotted path (`__` for the dot), written to `path`."""
    recipe = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    for dotted, value in changes.items():
        holder = recipe
        *parts, last = dotted.split("__")
        for part in parts:
            holder = holder.setdefault(part, {})
        holder[last] = value
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Built:
    folder = tmp_path_factory.mktemp("factory")
    draw_folder(folder / "train", "train", CURATED, 0)
    watched = write_question_set(folder / "watched.parquet", "held_out", 4, 0)
    benchmark = write_benchmark(folder / "benchmark", "held_out", CAPTIONED, 1)
    captioner, reader = str(committed_model("captioner")), str(committed_model("reader"))
    parts = {
        "curate": shipped(
            "qa-demo",
            folder / "curate.yaml",
            sources=[{"name": "pictures", "kind": "folder", "uri": str(folder / "train")}],
            execution__output=str(folder / "qa"),
            execution__writer__model_path=str(committed_model("writer")),
            execution__answerer__model_path=str(committed_model("answerer")),
        ),
        "train": shipped(
            "grpo-world",
            folder / "train.yaml",
            questions={"train": "replaced", "held_out": str(watched), "pictures": 4},
            grpo__groups=2,
            grpo__rollouts=2,
            steps=2,
            evaluation__every=2,
            evaluation__watched=2,
            reward__execution__engine__model_path=reader,
            execution__output=str(folder / "learning"),
            execution__model_path=captioner,
            execution__micro_batch=4,
            execution__evaluation_batch=4,
        ),
        "annotate": shipped(
            "demo",
            folder / "annotate.yaml",
            sources=[{"name": "drawn", "kind": "folder", "uri": str(benchmark.pictures)}],
            execution__output=str(folder / "captions"),
            execution__storage__endpoint=None,
        ),
        "evaluate": shipped(
            "prism-world",
            folder / "evaluate.yaml",
            benchmarks=[
                {
                    "name": "world",
                    "form": "questions",
                    "uri": str(benchmark.questions),
                    "images": {"": str(benchmark.pictures)},
                    "scorer": "choice",
                }
            ],
            captioner__captions=1,
            execution__output=str(folder / "prism"),
            execution__judge__model_path=reader,
        ),
    }
    config = shipped(
        "factory-world",
        folder / "factory.yaml",
        **{name: str(path) for name, path in parts.items()},
        # Two steps teach nothing: what is tested is the chain, and that the rule decides.
        publish={"output": str(folder / "published"), "margin": 0.5},
        work=str(folder / "work"),
    )
    return Built(config, build_factory(str(config)))


def test_each_part_is_about_what_the_part_before_has_made(built: Built) -> None:
    summary = built.summary
    captioner = find_captioner(summary["captioner"].removesuffix("/captioner"))
    train = yaml.safe_load((Path(built.config).parent / "work" / "recipes" / "train.yaml").read_text())
    curated = train["questions"]["train"].removesuffix("/train-*.parquet")
    assert len(list(Path(curated).glob("train-*.parquet"))) == 1, "the curated questions"
    assert captioner.record.questions.images > 0
    rows = [
        json.loads(line)
        for path in (Path(summary["dataset"]) / "shards").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(rows) == CAPTIONED == summary["rows"]
    digest = {row["model_revision"] for row in rows}
    assert len(digest) == 1
    assert summary["dataset"].endswith(f"grpo-world-{digest.pop()}")
    results = json.loads((Path(summary["evaluation"]) / "results.json").read_bytes())
    assert results["captions"]["name"] == "grpo-world"
    start = json.loads((Path(summary["baseline"]) / "results.json").read_bytes())
    assert start["captions"]["name"] == "world/captioner"


def test_what_is_no_worse_is_published_with_its_evidence(built: Built) -> None:
    assert built.summary["published"] == 1
    store = Store(str(built.config.parent / "published"))
    (record,) = publications(store)
    assert (record.number, record.rows, record.compared_with) == (1, CAPTIONED, "world/captioner")
    assert record.difference == built.summary["difference"]["value"]
    (file,) = record.files
    assert store.get(f"000001/{file.name}").count(b"\n") == CAPTIONED
    assert b"demo" in store.get("000001/README.md")


def test_the_same_again_does_nothing_and_publishes_nothing_twice(built: Built) -> None:
    again = build_factory(str(built.config))
    assert again["published"] == 1
    assert again["evaluation"] == built.summary["evaluation"]
    assert len(publications(Store(str(built.config.parent / "published")))) == 1


def test_what_is_worse_is_kept_and_not_published(built: Built) -> None:
    folder = built.config.parent
    perfect = folder / "benchmark" / "perfect.jsonl"
    from flows.evaluate_captions import evaluate_captions

    best = evaluate_captions(str(folder / "evaluate.yaml"), captions={"name": "perfect", "uri": str(perfect)})
    recipe = yaml.safe_load(built.config.read_text())
    recipe["publish"] = {"output": str(folder / "other"), "baseline": best["stages"]["score"]["uri"]}
    config = folder / "strict.yaml"
    config.write_text(yaml.safe_dump(recipe))
    summary = build_factory(str(config))
    assert summary["published"] is None
    assert summary["difference"]["high"] < 0
    assert "not published" in summary["lines"][-1]
    assert publications(Store(str(folder / "other"))) == []


@pytest.mark.parametrize(
    ("part", "old", "new", "wrong"),
    [
        ("annotate", "Please describe this image in detail.", "Say what you see.", "annotate: the captioner"),
        ("evaluate", "Please describe this image in detail.", "Say what you see.", "evaluate: the captioner"),
        ("annotate", "kind: transformers", "urls: ['http://127.0.0.1:1/v1']\n    kind: openai", "needs an engine of"),
    ],
)
def test_a_chain_that_cannot_hold_is_refused_before_anything_runs(
    built: Built, tmp_path: Path, part: str, old: str, new: str, wrong: str
) -> None:
    recipe = yaml.safe_load(built.config.read_text())
    text = Path(recipe[part]).read_text()
    assert old in text
    changed = tmp_path / "part.yaml"
    changed.write_text(text.replace(old, new))
    recipe |= {part: str(changed), "curate": None, "work": str(tmp_path / "work")}
    config = tmp_path / "factory.yaml"
    config.write_text(yaml.safe_dump(recipe))
    with pytest.raises(BadInputError, match=wrong):
        build_factory(str(config))
    assert not (tmp_path / "work").exists()
