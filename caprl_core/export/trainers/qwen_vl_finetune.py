"""Qwen's own fine-tuning code (`qwen-vl-finetune` of QwenLM/Qwen2.5-VL and Qwen3-VL).

Source: qwen-vl-finetune/README.md and qwenvl/data/{__init__,data_processor}.py there. Datasets are entries of a table
in its source; the user's turn is split at `<image>`, and images left over, or missing, are errors.
"""

from collections.abc import Sequence

from caprl_core.export.trainers.llava import record
from caprl_core.export.trainers.trainer import ExportedFile, Trainer


def use(files: Sequence[ExportedFile], base: str) -> str:
    """Entries for `data_dict` in qwenvl/data/__init__.py."""
    return "\n".join(
        f'"{item.dataset.replace("-", "_")}": '
        f'{{"annotation_path": "{item.folder}/{item.file}", "data_path": "{base}"}},'
        for item in files
    )


# LLaVA's records are read by it as they are.
QWEN_VL_FINETUNE = Trainer(name="qwen-vl-finetune", layouts=("json", "jsonl"), record=record, use=use)
