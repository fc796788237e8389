"""Where a starting checkpoint comes from, for machines (`lineage.json`) and for people (the model card)."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any, Final

import yaml

from caprl_core.pretraining.fitting import Fitted
from caprl_core.pretraining.merger import INITIALISER
from caprl_core.pretraining.part_names import MERGER
from caprl_core.pretraining.parts import Part
from caprl_core.pretraining.sources import ModelSource
from caprl_core.pretraining.stored_tensors import INDEX, StoredTensor
from caprl_core.pretraining.weight_files import WeightFiles
from caprl_core.training.captioner_card import start_licence

LINEAGE: Final = "lineage.json"
_VERSIONS: Final = ("caprl-factory", "torch", "transformers", "safetensors")
_READ: Final = ("config.json", INDEX, "tokenizer.json", "vocab.json")
"""Files whose content decided something, beside the weights."""


def lineage(
    vision: ModelSource,
    language: ModelSource,
    fitted: Fitted,
    parts: Sequence[Part],
    weights: WeightFiles,
    *,
    seed: int,
    dtype: str,
) -> dict[str, Any]:
    """Everything that decided the bytes of the weights and of the configuration, and their digests. No time, no path:
    the same models, seed and versions give the same text."""
    tower = [part for part in parts if part.name.startswith("visual.") and isinstance(part.origin, StoredTensor)]
    merger = [part for part in parts if part.name.startswith(MERGER)]
    words = [part for part in parts if not part.name.startswith("visual.")]
    return {
        "vision": _source(vision, tower, weights),
        "language": _source(language, words, weights),
        "merger": {
            "module": "transformers Qwen2_5_VLPatchMerger",
            "initialiser": INITIALISER,
            "seed": seed,
            **_size(merger),
        },
        "dtype": dtype,
        "converted_tensors": weights.converted,
        "taken_from_language_model": {
            name: {"donor": old, "written": new} for name, (old, new) in sorted(fitted.taken.items())
        },
        "tied_head": bool(fitted.parsed.tie_word_embeddings),
        "weights": dict(sorted(weights.written.items())),
        "versions": {name: version(name) for name in _VERSIONS},
    }


def _source(source: ModelSource, parts: Sequence[Part], weights: WeightFiles) -> dict[str, Any]:
    paths = {part.origin.file for part in parts if isinstance(part.origin, StoredTensor)}
    small = {name: _sha256(source.file(name)) for name in _READ if name in source.names}
    large = {path.name: weights.read[path] for path in paths}
    card = source.file("README.md") if "README.md" in source.names else None
    return {
        "name": source.name,
        "revision": source.revision,
        "licence": None if card is None else start_licence(card.parent),
        **_size(parts),
        "files": dict(sorted((small | large).items())),
    }


def _size(parts: Sequence[Part]) -> dict[str, int]:
    return {"tensors": len(parts), "parameters": sum(prod(part.shape) for part in parts)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model_card(made: dict[str, Any]) -> str:
    """The text of README.md, from a lineage."""
    vision, language, merger = made["vision"], made["language"], made["merger"]
    licences = {vision["licence"], language["licence"]}
    header: dict[str, Any] = {
        **({"base_model": models} if (models := _on_the_hub(vision, language)) else {}),
        **({"license": licences.pop() if len(licences) == 1 else "other"} if None not in licences else {}),
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["caprl", "initialised", "not-pretrained"],
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(made))
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---

# A model to pretrain: {vision["name"]}'s vision tower, {language["name"]}

It cannot describe a picture yet: the {merger["parameters"]:,} parameters between its eyes and its words are random.
It is what pretraining starts from, as in the CapRL paper (arXiv 2509.22647): vision tower and processor of a
Qwen2.5-VL, language model of a Qwen2.5-Instruct, and a patch merger nobody has trained.

| | |
|---|---|
{rows}

`{LINEAGE}` names every file it was made of by its sha256. Until it is pretrained it is to be trained, not used; the
settings in `generation_config.json` are those of the vision tower's model.
"""


def _on_the_hub(*sources: dict[str, Any]) -> list[str]:
    return [source["name"] for source in sources if source["revision"] is not None]


def _rows(made: dict[str, Any]) -> list[tuple[str, str]]:
    taken = ", ".join(
        f"`{name}` {one['written']} (was {one['donor']})" for name, one in made["taken_from_language_model"].items()
    )
    return [
        ("Vision tower", _named(made["vision"])),
        ("Language model", _named(made["language"])),
        ("Patch merger", f"seed {made['merger']['seed']}; {made['merger']['initialiser']}"),
        ("Output head", "tied to the embeddings" if made["tied_head"] else "the language model's own"),
        ("Settings of the language model", taken or "the same as those of the vision tower's model"),
        (
            "Data type",
            made["dtype"] + (f"; {made['converted_tensors']} tensors converted" * bool(made["converted_tensors"])),
        ),
        ("Made with", ", ".join(f"{name} {number}" for name, number in made["versions"].items())),
    ]


def _named(source: dict[str, Any]) -> str:
    at = f"revision `{source['revision']}`" if source["revision"] else "from a folder"
    licence = source["licence"] or "not known: ask its authors before you pass this on"
    return f"`{source['name']}`, {at}; {source['parameters']:,} parameters; licence: {licence}"
