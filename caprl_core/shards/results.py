"""From a sample and what happened to it to its ledger line and row."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caprl_core.data.images import reencoded
from caprl_core.data.row import DETAIL_CHARACTERS, ENGINE_FIELDS, IMAGE_FIELDS, MEMBER_FIELDS, Result, clean_text
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import EngineInfo, Reply, Request
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.stage import Drop, Row, Stage


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything the engine did for one sample.

    attempt: the last attempt's number (0 if the engine was never asked); earlier: reasons of the attempts before it;
    requests, replies: of the last attempt; the sums run over all attempts.
    """

    attempt: int = 0
    earlier: tuple[str, ...] = ()
    requests: Sequence[Request] = ()
    replies: Sequence[Reply] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0


def member_of(image: PreparedImage, recipe: StageRecipe) -> tuple[bytes, str]:
    """The bytes and the extension an image has in the tar: the original ones unless the recipe re-encodes."""
    if recipe.image.reencode == "none":
        return image.original, image.extension
    return reencoded(image, recipe.image)


def rejected(sample: PlannedSample, drop: Drop, asked: Asked, image: PreparedImage | None) -> Result:
    """A sample with a reason instead of a row."""
    return Result(sample.key, sample.index, _ledger(sample, asked, image, drop), None)


def withdrawn(result: Result, drop: Drop) -> Result:
    """A finished sample whose row cannot be packed any more; what was asked for it stays in the books."""
    ledger = {
        **result.ledger,
        "status": "rejected",
        "reason": str(drop.reason),
        "detail": clean_text(drop.detail[:DETAIL_CHARACTERS]),
    }
    return Result(result.key, result.index, ledger, None)


def absent_fields(stage: Stage) -> frozenset[str]:
    """Common columns that the rows of a stage do not have."""
    absent: frozenset[str] = frozenset() if stage.asks else ENGINE_FIELDS
    if stage.image_use == "kept":
        return absent
    return absent | (MEMBER_FIELDS if stage.image_use == "seen" else IMAGE_FIELDS)


def accepted(
    sample: PlannedSample,
    row: Row,
    asked: Asked,
    image: PreparedImage | None,
    *,
    stage: Stage,
    member: tuple[bytes, str] | None,
    engine: EngineInfo,
) -> Result:
    """A sample with its row. Keys are in the order of the row schema, so equal rows are equal bytes.

    `member` is what the tar carries of the image: bytes and extension, None for stages that keep none.
    """
    fields: dict[str, Any] = {
        "key": sample.key,
        "source": sample.source,
        "image": sample.image,
        "record_id": sample.record_id,
        "original_caption": sample.original_caption,
    }
    if image is not None:
        fields |= _image_fields(sample, image, member)
    if stage.asks:
        fields |= _engine_fields(asked, engine, stage.prompt_id)
    else:
        fields["attempt"] = asked.attempt
    fields |= row.fields
    return Result(sample.key, sample.index, _ledger(sample, asked, image, None), clean_text(fields))


def _image_fields(sample: PlannedSample, image: PreparedImage, member: tuple[bytes, str] | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "image_sha256": image.sha256,
        "image_size": image.size,
        "image_format": image.format,
        "image_width": image.source_width,
        "image_height": image.source_height,
        "image_frames": image.frames,
        "image_notes": list(image.notes),
    }
    if member is not None:
        data, extension = member
        digest = image.sha256 if data is image.original else hashlib.sha256(data).hexdigest()
        fields = {"image_file": f"{sample.key}.{extension}"} | fields | {"member_sha256": digest}
    return fields | {"engine_width": image.width, "engine_height": image.height}


def _engine_fields(asked: Asked, engine: EngineInfo, prompt_id: str) -> dict[str, Any]:
    sampling = asked.requests[-1].sampling
    return {
        "model": engine.model,
        "model_revision": engine.model_revision,
        "engine": engine.engine,
        "engine_version": engine.engine_version,
        "prompt_id": prompt_id,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        "attempt": asked.attempt,
        "finish_reason": asked.replies[-1].finish_reason,
        "prompt_tokens": sum(reply.prompt_tokens for reply in asked.replies),
        "completion_tokens": sum(reply.completion_tokens for reply in asked.replies),
        "latency_s": round(max(reply.latency_s for reply in asked.replies), 4),
    }


def _ledger(sample: PlannedSample, asked: Asked, image: PreparedImage | None, drop: Drop | None) -> dict[str, Any]:
    return {
        "key": sample.key,
        "index": sample.index,
        "source": sample.source,
        "image": sample.image,
        "status": "row" if drop is None else "rejected",
        "reason": None if drop is None else str(drop.reason),
        "detail": None if drop is None else clean_text(drop.detail[:DETAIL_CHARACTERS]),
        "attempt": asked.attempt,
        "earlier": list(asked.earlier),
        "finish_reason": asked.replies[-1].finish_reason if asked.replies else None,
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": asked.completion_tokens,
        "latency_s": round(asked.latency_s, 4),
        "image_sha256": image.sha256 if image else None,
        "image_size": image.size if image else None,
    }
