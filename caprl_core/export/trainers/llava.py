"""LLaVA: one JSON array of `id`, `image` and `conversations` between `human` and `gpt`.

Source: docs/Finetune_Custom_Data.md and `LazySupervisedDataset` in llava/train/train.py of haotian-liu/LLaVA, which
reads the file with `json.load` and joins each path to `--image_folder`.
"""

from collections.abc import Sequence
from typing import Any

from caprl_core.export.trainers.trainer import Example, ExportedFile, Trainer


def record(example: Example) -> dict[str, Any]:
    """An example in LLaVA's words."""
    return {
        "id": example.id,
        "image": example.image,
        "conversations": [
            {"from": "human", "value": example.instruction},
            {"from": "gpt", "value": example.caption},
        ],
    }


def use(files: Sequence[ExportedFile], base: str) -> str:
    """The options of its training script."""
    return f"--data_path {files[0].folder}/{files[0].file} --image_folder {base}"


LLAVA = Trainer(name="llava", layouts=("json",), record=record, use=use)
