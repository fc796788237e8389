"""The recipes that the commands are given: those of `configs/` over the demo's own files."""

from pathlib import Path
from typing import Any, Final

import yaml

from caprl_core.errors import BadInputError
from caprl_core.world.demo.files import DemoFolder, Era, Sizes
from caprl_core.world.model_folders import committed_model

CONFIGS: Final = Path(__file__).resolve().parents[3] / "configs"
CAPTION, CURATE, TRAIN, PRISM = "demo", "qa-demo", "grpo-world", "prism-world"
"""Their names in `configs/`."""

SHARD_SAMPLES: Final = 24
"""A few shards of every dataset."""
LOOKS: Final = 3
"""Times that training looks at its held-out pictures, after its start."""
KILLED: Final = {"concurrency": 2, "batch": 2}
FLUSH_S: Final = 0.2
"""Of the run that is killed: so few at once that a run over some dozen pictures lasts long enough to be killed in the
middle, and the log flushed often enough to hold some of it."""
MOST_DRAWS: Final = 64
"""More than a picture has questions: without replacement every one is asked once."""


def write_curation_recipe(folder: DemoFolder) -> Path:
    """Questions about the training pictures."""
    recipe = _shipped(CURATE)
    recipe["sources"] = [{"name": "pictures", "kind": "folder", "uri": str(folder.taught)}]
    execution = recipe["execution"]
    execution["output"] = str(folder.curation)
    for name in ("writer", "answerer"):
        execution[name]["model_path"] = str(committed_model(name))
    return _write(recipe, folder.recipe("curate"))


def write_training_recipe(folder: DemoFolder, sizes: Sizes) -> Path:
    """GRPO on the curated questions."""
    recipe = _shipped(TRAIN)
    recipe["questions"] = {
        "train": str(folder.curated),
        "held_out": str(folder.watched),
        "pictures": sizes.watched,
    }
    recipe["steps"] = sizes.steps
    recipe["evaluation"]["every"] = max(1, sizes.steps // LOOKS)
    recipe["reward"]["execution"]["engine"]["model_path"] = str(committed_model("reader"))
    recipe["execution"] |= {
        "output": str(folder.training),
        "model_path": str(committed_model("captioner")),
        "evaluation_batch": sizes.watched,
    }
    return _write(recipe, folder.recipe("train"))


def write_caption_recipe(
    folder: DemoFolder, era: Era, *, captioner: Path, output: str, endpoint: str, engine: str
) -> Path:
    """A dataset by the captioner of an era; the first is written slowly, to be killed."""
    recipe = _shipped(CAPTION)
    recipe["name"] = f"{recipe['name']}-{era}"
    recipe["sources"] = [
        {"name": "drawn", "kind": "sharegpt4v", "uri": str(folder.annotations), "roots": {"": str(folder.unseen)}}
    ]
    recipe["dataset"]["shard_samples"] = SHARD_SAMPLES
    recipe["model"]["name"] = f"world/captioner-{era}"
    execution = recipe["execution"]
    execution["output"] = output
    execution["storage"]["endpoint"] = endpoint
    execution["engine"] |= {"kind": engine, "model_path": str(captioner)} | (KILLED if era == "before" else {})
    execution["runner"]["flush_s"] = FLUSH_S
    return _write(recipe, folder.recipe(f"caption-{era}"))


def write_score_recipe(folder: DemoFolder) -> Path:
    """The reader of the training, asked every question once and with nothing but its answers counted."""
    reward = _shipped(TRAIN)["reward"]
    reward["name"] = "score"
    reward["execution"]["engine"]["model_path"] = str(committed_model("reader"))
    return _write(reward | {"draws": MOST_DRAWS, "replacement": False, "terms": {}}, folder.recipe("score"))


def write_prism_recipe(folder: DemoFolder) -> Path:
    """The benchmark of drawn pictures, with the reader as its judge."""
    recipe = _shipped(PRISM)
    recipe["benchmarks"][0] |= {
        "uri": str(folder.benchmark / "questions.jsonl"),
        "images": {"": str(folder.benchmark / "pictures")},
    }
    execution = recipe["execution"]
    execution["output"] = str(folder.evaluation)
    execution["captioner"]["model_path"] = str(committed_model("captioner"))
    execution["judge"]["model_path"] = str(committed_model("reader"))
    return _write(recipe, folder.recipe("prism"))


def _shipped(name: str) -> dict[str, Any]:
    path = CONFIGS / f"{name}.yaml"
    try:
        recipe: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}; run the demo from a clone of the repository") from error
    return recipe


def _write(recipe: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    return path
