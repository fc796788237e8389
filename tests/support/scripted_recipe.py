"""A recipe whose writer and answerer are the scripted server."""

from pathlib import Path
from typing import Any

import yaml

from caprl_core.recipe.qa import QaRecipe
from support.scripted_qa import ANSWERER, WRITER

ROTATIONS = 4


def scripted_recipe(pictures: Path, url: str, output: str, **changes: Any) -> QaRecipe:
    """Shards of ten images; `changes` are top-level fields."""
    engine = {"kind": "openai", "urls": [url], "concurrency": 8, "retries": 2, "dead_after_s": 5.0}
    values: dict[str, Any] = {
        "name": "scripted",
        "sources": [{"name": "pictures", "kind": "folder", "uri": str(pictures)}],
        "dataset": {"shard_samples": 10},
        "writer": {"model": {"name": WRITER}},
        "answerer": {"model": {"name": ANSWERER}, "rotations": ROTATIONS},
        "execution": {
            "output": output,
            "writer": engine,
            "answerer": engine,
            "runner": {"flush_s": 0.05, "decode_workers": 1},
            "gate": {"max_share": {"*": 1.0}},
        },
    }
    return QaRecipe.model_validate(values | changes)


def write_recipe(recipe: QaRecipe, path: Path) -> str:
    """As a file."""
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return str(path)
