"""LLaMA-Factory: sharegpt conversations with an `images` list, and `dataset_info.json`, by which it finds them.

Source: data/README.md and src/llamafactory/data/{parser,converter,mm_plugin}.py of LLaMA-Factory 0.9.5. It takes paths
from `media_dir`, which is `dataset_dir` unless set, and stops where images and `<image>` differ in number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from caprl_core.errors import BadInputError
from caprl_core.export.trainers.trainer import Example, ExportedFile, Trainer

DATASET_INFO = "dataset_info.json"


def record(example: Example) -> dict[str, Any]:
    """An example with the tags that `entry` declares."""
    return {
        "id": example.id,
        "messages": [
            {"role": "user", "content": example.instruction},
            {"role": "assistant", "content": example.caption},
        ],
        "images": [example.image],
    }


def entry(file: str) -> dict[str, Any]:
    """What `dataset_info.json` says of a file."""
    return {
        "file_name": file,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }


def beside(files: Sequence[ExportedFile], before: Mapping[str, bytes]) -> dict[str, bytes]:
    """`dataset_info.json` with an entry a file; entries of other datasets that are in it stay.

    Raises `BadInputError` when the one that lies there is no JSON object: it is not ours to replace.
    """
    known: Any = {}
    if DATASET_INFO in before:
        try:
            known = orjson.loads(before[DATASET_INFO])
        except orjson.JSONDecodeError as error:
            raise BadInputError(f"{DATASET_INFO} in the folder is not JSON ({error}); repair or remove it") from error
        if not isinstance(known, dict):
            raise BadInputError(f"{DATASET_INFO} in the folder is no JSON object; remove it, or export elsewhere")
    known |= {item.dataset: entry(item.file) for item in files}
    return {DATASET_INFO: orjson.dumps(known, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)}


def use(files: Sequence[ExportedFile], base: str) -> str:
    """The lines of a training YAML."""
    folder = files[0].folder
    lines = [f"dataset_dir: {folder}", f"dataset: {files[0].dataset}"]
    lines += [f"eval_dataset: {item.dataset}" for item in files if item.dataset.endswith("-validation")][:1]
    return "\n".join(lines if base == folder else [*lines, f"media_dir: {base}"])


LLAMAFACTORY = Trainer(
    name="llamafactory",
    # Lines first: `datasets` parses an array in memory, whole, and lines in blocks.
    layouts=("jsonl", "json"),
    record=record,
    use=use,
    beside=beside,
    reads=(DATASET_INFO,),
)
