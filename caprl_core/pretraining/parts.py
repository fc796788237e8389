"""The tensors of a starting checkpoint: which there must be, and where each comes from."""

import hashlib
from typing import Any, Final, NamedTuple

from caprl_core.errors import BadInputError
from caprl_core.pretraining.merger import fresh_merger
from caprl_core.pretraining.part_names import EMBEDDINGS, HEAD, MERGER, language_name, vision_name
from caprl_core.pretraining.sources import ModelSource
from caprl_core.pretraining.stored_tensors import StoredTensor, stored_tensors

_PIECE: Final = 1 << 20


class Part(NamedTuple):
    """One tensor to write. shape: of the tensor; origin: where it lies, or its bytes in the type it is written in."""

    name: str
    shape: tuple[int, ...]
    origin: StoredTensor | bytes


def all_parts(vision: ModelSource, language: ModelSource, config: Any, seed: int, dtype: str) -> list[Part]:
    """Every tensor of the model that `config` (a `Qwen2_5_VLConfig`) describes, in the order to write them.

    A tied model has no head of its own on disk. Raises `BadInputError` where a source lacks a tensor, has one more, or
    one of another shape than its configuration says, and where it says its head is tied and keeps a different one.
    """
    expected = _expected(config)
    tower = stored_tensors(vision, vision_name)
    words = stored_tensors(language, language_name)
    if config.tie_word_embeddings and HEAD in words:
        _drop_tied_head(language, words)
    ours = {name for name in expected if name.startswith("visual.")}
    _check(vision, tower, {name: expected[name] for name in ours if not name.startswith(MERGER)})
    _check(language, words, {name: shape for name, shape in expected.items() if name not in ours})
    merger = fresh_merger(config.vision_config, seed, dtype)
    return [
        *(Part(one.name, one.shape, one) for one in tower.values()),
        *(Part(name, shape, data) for name, (shape, data) in merger.items()),
        *(Part(one.name, one.shape, one) for one in words.values()),
    ]


def _expected(config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors on disk. The model is built without memory for a single number."""
    import torch  # noqa: PLC0415 - seconds to import
    from transformers import Qwen2_5_VLForConditionalGeneration  # noqa: PLC0415

    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    named = {vision_name(name) or language_name(name) or name: weights for name, weights in model.state_dict().items()}
    found = {name.removeprefix("model.") if MERGER in name else name: weights for name, weights in named.items()}
    if config.tie_word_embeddings:
        del found[HEAD]
    return {name: tuple(weights.shape) for name, weights in found.items()}


def _check(source: ModelSource, found: dict[str, StoredTensor], expected: dict[str, tuple[int, ...]]) -> None:
    if lost := sorted(expected.keys() - found.keys()):
        raise BadInputError(
            f"{source.shown}: {len(lost)} tensors that its config.json promises are not in it, such as {lost[0]}"
        )
    if more := sorted(found.keys() - expected.keys()):
        raise BadInputError(
            f"{source.shown}: {len(more)} tensors in it are none of its config.json's, such as "
            f"{found[more[0]].stored_as}; it is another architecture, or was changed"
        )
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise BadInputError(
                f"{source.shown}: {found[name].stored_as} has shape {list(found[name].shape)}, "
                f"and by config.json it has {list(shape)}"
            )


def _drop_tied_head(language: ModelSource, words: dict[str, StoredTensor]) -> None:
    head, embeddings = words.pop(HEAD), words.get(EMBEDDINGS)
    if embeddings is not None and (head.dtype, _digest(head)) != (embeddings.dtype, _digest(embeddings)):
        raise BadInputError(
            f"{language.shown}: config.json says the head is tied to the embeddings, and {head.stored_as} differs from "
            "them; set tie_word_embeddings to false if it is to be used"
        )


def _digest(tensor: StoredTensor) -> str:
    digest, left = hashlib.sha256(), tensor.length
    with tensor.file.open("rb") as opened:
        opened.seek(tensor.start)
        while left and (data := opened.read(min(_PIECE, left))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()
