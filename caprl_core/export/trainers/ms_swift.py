"""ms-swift: JSON lines of `messages` and `images`.

Source: docs/source_en/Customization/Custom-dataset.md, swift/dataset/preprocessor/core.py and swift/template/base.py of
ms-swift 4.6. Relative paths count from the folder it is started in, or from `ROOT_IMAGE_DIR`.
"""

from collections.abc import Sequence

from caprl_core.export.trainers.llamafactory import record
from caprl_core.export.trainers.trainer import ExportedFile, Trainer


def use(files: Sequence[ExportedFile], base: str) -> str:
    """The options of `swift sft`."""
    value = [f"--dataset {files[0].folder}/{files[0].file}"]
    value += [f"--val_dataset {item.folder}/{item.file}" for item in files if item.dataset.endswith("-validation")][:1]
    return " ".join(value) + f"  # with ROOT_IMAGE_DIR={base} where paths are relative"


# The messages are those of LLaMA-Factory's records, and the images too.
MS_SWIFT = Trainer(name="ms-swift", layouts=("jsonl", "json"), record=record, use=use, absolute=True)
