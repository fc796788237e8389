"""A tiny Qwen2.5-VL and tiny Qwen2.5s of its size, in each form such models have on disk."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from caprl_core.world.tiny_captioner import HEADS, HIDDEN, INTERMEDIATE, KV_HEADS, LAYERS, build_tiny_captioner

WORDS_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


class Model:
    """A model's folder, and its tensors under the names of the released checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def config(self) -> dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text())

    def configure(self, **changes: Any) -> None:
        """Change settings; None takes one out."""
        config = {name: value for name, value in (self.config | changes).items() if value is not None}
        (self.folder / "config.json").write_text(json.dumps(config))

    def tensors(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            found |= load_file(path)
        return {released(name): value for name, value in found.items()}

    def store(self, tensors: dict[str, torch.Tensor], *, shards: int = 1, layout: str = "released") -> None:
        """Replace the weights by these, in so many files, with the names of the released checkpoints or of newer ones.

        Neighbours in name lie in different files, as nothing promises that they lie in one.
        """
        for path in self.folder.glob("model*.safetensors*"):
            path.unlink()
        named = {name if layout == "released" else renamed(name): value for name, value in tensors.items()}
        if shards == 1:
            save_file(named, self.folder / "model.safetensors", metadata={"format": "pt"})
            return
        self._store({name: 1 + place % shards for place, name in enumerate(named)}, named)

    def store_as(self, numbers: dict[str, int]) -> None:
        """Replace the weights by themselves, each in the file of that number, from 1."""
        tensors = self.tensors()
        for path in self.folder.glob("model*.safetensors*"):
            path.unlink()
        self._store(numbers, tensors)

    def _store(self, numbers: dict[str, int], tensors: dict[str, torch.Tensor]) -> None:
        count = max(numbers.values())
        places = {name: f"model-{number:05d}-of-{count:05d}.safetensors" for name, number in numbers.items()}
        for file in set(places.values()):
            part = {name: tensors[name] for name, where in places.items() if where == file}
            save_file(part, self.folder / file, metadata={"format": "pt"})
        index = {"metadata": {"total_size": 0}, "weight_map": places}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index))

    def flatten(self) -> None:
        """Put the language model's settings among the others in the configuration, as the released models have them."""
        config = self.config
        text = dict(config.pop("text_config"))
        text.pop("model_type")
        rope, dtype = text.pop("rope_parameters"), config.pop("dtype")
        scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
        released = {"rope_theta": rope["rope_theta"], "rope_scaling": scaling, "torch_dtype": dtype}
        (self.folder / "config.json").write_text(json.dumps(config | text | released))

    def cast(self, dtype: torch.dtype, **how: Any) -> None:
        self.store({name: value.to(dtype) for name, value in self.tensors().items()}, **how)


def renamed(name: str) -> str:
    """As transformers has it since 4.52."""
    return re.sub(r"^(visual\.|model\.)", lambda found: {"visual.": "model.visual."}.get(found[1], LANGUAGE), name)


def released(name: str) -> str:
    return re.sub(r"^model\.(visual\.)", r"\1", name.replace(LANGUAGE, "model."))


LANGUAGE = "model.language_model."


@pytest.fixture
def donor(tmp_path: Path) -> Model:
    """A Qwen2.5-VL whose tensors are all unlike fresh ones, and whose head is its own."""
    model = Model(build_tiny_captioner(tmp_path / "donor"))
    tensors = model.tensors()
    for name in ("visual.merger.ln_q.weight", "visual.blocks.0.norm1.weight"):
        tensors[name] = torch.rand(tensors[name].shape) + 0.5
    model.store(tensors)
    return model


@pytest.fixture
def language(donor: Model, tmp_path: Path) -> Callable[..., Model]:
    """`language(tied=True)` is a Qwen2 of the donor's size with its tokenizer; settings and the head are its own."""

    def build(*, tied: bool = True, name: str = "language", **changes: Any) -> Model:
        folder = tmp_path / name
        settings = {
            "vocab_size": len(donor.tensors()["model.embed_tokens.weight"]),
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "rope_theta": 20_000.0,
            "initializer_range": 0.3,
            "tie_word_embeddings": tied,
        }
        torch.manual_seed(1)
        Qwen2ForCausalLM(Qwen2Config(**settings | changes)).save_pretrained(folder)
        for file in WORDS_FILES:
            (folder / file).write_bytes((donor.folder / file).read_bytes())
        return Model(folder)

    return build
