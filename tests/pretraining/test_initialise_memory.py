"""Memory does not grow with the model: one of two gigabytes is made in what one of some megabytes takes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

Language = Callable[..., Any]
GIGABYTE = 1_000_000_000
RUN = """
import resource, sys
from pathlib import Path
from caprl_core.pretraining.initialise import initialise
from caprl_core.pretraining.sources import ModelSource

initialise(ModelSource.open(sys.argv[1]), ModelSource.open(sys.argv[2]), Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def sparse(path: Path, tensors: dict[str, torch.Size]) -> int:
    """A safetensors file of bfloat16 zeros that takes no room on the disk; its size in bytes."""
    header: dict[str, Any] = {}
    place = 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [place, place + 2 * shape.numel()]}
        place += 2 * shape.numel()
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + place)
    return place


def enlarge(donor: Any, words: Any, layers: int, vocabulary: int) -> int:
    """Give both models so many layers and tokens of the size of a 3B model; bytes of their weights together."""
    sizes = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
    }
    config = donor.config
    tower = config["vision_config"] | {"hidden_size": 1280, "num_heads": 16, "out_hidden_size": 2048}
    rope = config["text_config"]["rope_parameters"] | {"mrope_section": [16, 24, 24]}
    donor.configure(text_config=config["text_config"] | sizes | {"rope_parameters": rope}, vision_config=tower)
    words.configure(**sizes, layer_types=["full_attention"] * layers)
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict(donor.config))
    shapes = {name: weights.shape for name, weights in model.state_dict().items()}
    prefix = "model.language_model."
    text = {name.replace(prefix, "model."): shape for name, shape in shapes.items() if name.startswith(prefix)}
    seen = {name: shape for name, shape in shapes.items() if name.startswith("model.visual.")}
    return sparse(words.folder / "model.safetensors", text) + sparse(donor.folder / "model.safetensors", seen)


def peak(donor: Any, words: Any, out: Path) -> int:
    """Bytes of memory at most, of a process of its own."""
    command = [sys.executable, "-c", RUN, str(donor.folder), str(words.folder), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1]) * 1024


@pytest.mark.long
def test_two_gigabytes_take_no_more_memory_than_some_megabytes(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    small = enlarge(donor, words, 1, 2048), peak(donor, words, tmp_path / "small")
    large = enlarge(donor, words, 9, 151936), peak(donor, words, tmp_path / "large")
    print("bytes of weights and peak of memory:", small, large)
    assert large[0] > 2 * GIGABYTE and large[0] > 7 * small[0]
    assert large[1] - small[1] < 0.1 * GIGABYTE
    assert large[1] < 0.5 * large[0]
    assert sum(path.stat().st_size for path in (tmp_path / "large").glob("*.safetensors")) > 2 * GIGABYTE
