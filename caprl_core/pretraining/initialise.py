"""Builds the paper's starting checkpoint: a trained vision tower, a language model of its own, and a merger between."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from caprl_core.errors import BadInputError
from caprl_core.pretraining.fitting import fit
from caprl_core.pretraining.lineage import LINEAGE, lineage, model_card
from caprl_core.pretraining.parts import all_parts
from caprl_core.pretraining.sources import ModelSource
from caprl_core.pretraining.stored_tensors import DTYPES
from caprl_core.pretraining.vocabulary import check_tokens
from caprl_core.pretraining.weight_files import SHARD_BYTES, bytes_of, write_weights

HANDED_ON: Final = (
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files of the vision tower's model that go with the new one byte for byte: how it sees pictures, words and turns."""
_LICENCES: Final = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE")
_ROOM_TO_SPARE: Final = 64 << 20
"""Bytes on top of the weights, for tokenizer, configuration and card; Qwen2.5-VL's tokenizer takes 7 million."""


def initialise(
    vision: ModelSource,
    language: ModelSource,
    out: Path,
    *,
    seed: int = 0,
    dtype: str = "bfloat16",
    tell: Callable[[str], None] = lambda line: None,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Write the model folder `out` and return its lineage, which is also in it.

    It has `vision`'s tower and everything about pictures, words and turns, `language`'s weights, and a patch merger
    drawn from `seed`; all in `dtype` (torch's name; released models are bfloat16, and keep every bit in it). `tell`
    hears which file is being read. No more than some megabytes of weights are held at a time. The folder appears whole
    or not at all: it is made beside, as `OUT.partial`, and renamed; what a killed run left there is replaced.

    Raises `BadInputError` when `out` exists, when the two models do not fit or are damaged, and when the disk
    is short or cannot be written to.
    """
    if out.exists() or out.is_symlink():
        raise BadInputError(f"{out}: it exists; name a new folder")
    if dtype not in DTYPES:
        raise BadInputError(f"dtype {dtype!r}: there are {', '.join(DTYPES)}")
    fitted = fit(vision, language, dtype)
    check_tokens(vision, language)
    parts = all_parts(vision, language, fitted.parsed, seed, dtype)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        needed, free = bytes_of(parts, dtype) + _ROOM_TO_SPARE, shutil.disk_usage(partial).free
        if free < needed:
            raise BadInputError(f"{out.parent}: {needed:,} bytes are needed there, and {free:,} are free")
        _copy_files(vision, language, partial)
        _write_json(partial / "config.json", fitted.config)
        _check_processor(vision, partial)  # before gigabytes are copied
        weights = write_weights(partial, parts, dtype, tell, shard_bytes=shard_bytes)
        made = lineage(vision, language, fitted, parts, weights, seed=seed, dtype=dtype)
        _write_json(partial / LINEAGE, made)
        (partial / "README.md").write_text(model_card(made), encoding="utf-8")
        partial.rename(out)
    except OSError as error:
        raise BadInputError(f"{out}: it could not be made: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return made


def _copy_files(vision: ModelSource, language: ModelSource, folder: Path) -> None:
    for name in HANDED_ON:
        if name in vision.names:
            shutil.copyfile(vision.file(name), folder / name)
    for source, part in ((vision, "vision"), (language, "language")):
        for name in _LICENCES:
            if name in source.names:
                shutil.copyfile(source.file(name), folder / f"{part}.{name}")


def _check_processor(vision: ModelSource, folder: Path) -> None:
    from transformers import AutoProcessor  # noqa: PLC0415 - seconds to import

    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
        template = processor.chat_template or processor.tokenizer.chat_template
        images = processor.image_processor
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        raise BadInputError(f"{vision.shown}: its processor does not load: {error}") from error
    if template is None or images is None:
        raise BadInputError(
            f"{vision.shown}: there is no chat template in it (chat_template.jinja); copy the released one"
        )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
