"""The extraction stage: asks nothing, turns a writer's block (or imported questions) into questions and refusals."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from caprl_core.data.reasons import Reason
from caprl_core.data.row import clean_text
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Reply, Request
from caprl_core.qa.blocks.block import ParsedBlock, parse_block
from caprl_core.qa.blocks.imported import imported_questions
from caprl_core.qa.blocks.refusals import checked
from caprl_core.qa.blocks.render import render_block
from caprl_core.qa.question import question_fields, question_id, question_of
from caprl_core.qa.rows import QUESTION_FIELDS
from caprl_core.recipe.qa import ExtractRecipe
from caprl_core.shards.stage import Drop, ImageUse, Outcome, Row

_WRITER_TEXTS = {
    "model": "model",
    "revision": "model_revision",
    "engine": "engine",
    "engine_version": "engine_version",
    "prompt_id": "prompt_id",
}
"""Field of `rows.WRITER` -> column of the generate row."""


class ExtractStageRecipe(Protocol):
    """What the stage needs of its recipe."""

    @property
    def extract(self) -> ExtractRecipe:
        """Which questions are taken over."""
        ...


class ExtractStage:
    """Read a block. Every readable payload gives a row, also one without a single question."""

    name = "extract"
    fields = QUESTION_FIELDS
    max_attempts = 1
    prompt_id = ""
    asks = False
    leads = 0
    tolerates_failures = False

    def __init__(self, recipe: ExtractStageRecipe, image_use: ImageUse) -> None:
        """`image_use` is `unread` after the generate stage, `kept` for imported sources, whose images come along."""
        self._recipe = recipe.extract
        self.image_use: ImageUse = image_use

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """None: this stage is text alone."""
        return ()

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """The questions and refusals of the payload; `Drop` only for a payload that is not ours."""
        try:
            # Not orjson: it refuses the escaped lone surrogates that some writers of JSON leave in texts.
            payload = clean_text(json.loads(sample.payload or ""))
        except (ValueError, RecursionError) as error:
            return Drop(Reason.UNPARSABLE, f"payload: {error}", retry=False)
        if not isinstance(payload, dict):
            return Drop(Reason.UNPARSABLE, f"payload: {type(payload).__name__} instead of an object", retry=False)
        block, questions = payload.get("block"), payload.get("questions")
        found: ParsedBlock
        if isinstance(block, str):
            found = parse_block(block, cut=payload.get("finish_reason") == "length")
        elif isinstance(questions, list):
            found = imported_questions(questions)
        else:
            return Drop(Reason.UNPARSABLE, "payload: neither a block nor questions", retry=False)
        return Row(self._fields_of(sample.key, checked(found, self._recipe), payload))

    def _fields_of(self, key: str, found: ParsedBlock, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        attempt = payload.get("attempt")
        # An imported row has no attempt of a writer, whatever its own columns say.
        writer: dict[str, Any] = {
            field: value if isinstance(value := payload.get(column), str) else None
            for field, column in _WRITER_TEXTS.items()
        }
        writer["attempt"] = attempt if isinstance(attempt, int) and writer["model"] is not None else None
        fields = {
            "questions": [
                {"id": question_id(key, question), **question_fields(question)} for _, question in found.questions
            ],
            "refused": [
                {"number": item.number, "reason": item.reason.value, "detail": item.detail, "text": item.text}
                for item in found.refused
            ],
            "writer": writer,
        }
        cleaned: Mapping[str, Any] = clean_text(fields)
        return cleaned

    def text(self, fields: Mapping[str, Any]) -> str:
        """The questions taken over, as a block."""
        return render_block(question_of(question) for question in fields["questions"])
