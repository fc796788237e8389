"""The first stage: several captions of each image, by a captioner or from a file. None is refused for its text."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Reply, Request
from caprl_core.prism.rows import CAPTION_FIELDS
from caprl_core.prism.stages import CAPTIONS, WrittenCaptionsRecipe
from caprl_core.shards.request_sampling import CHARACTERS_A_TOKEN, request_sampling
from caprl_core.shards.stage import Drop, ImageUse, Outcome, Row

ATTEMPTS = 2
"""At an image: only requests that failed are asked again, never a caption that reads badly."""


class WrittenCaptionsStage:
    """Ask the captioner for its captions of an image, all at once; a failed request costs the attempt."""

    name = CAPTIONS
    fields = CAPTION_FIELDS
    image_use: ImageUse = "kept"
    max_attempts = ATTEMPTS
    asks = True
    # The first caption goes alone: the others find the image prepared and its tokens in the server's cache.
    leads = 1
    tolerates_failures = False

    def __init__(self, recipe: WrittenCaptionsRecipe) -> None:
        self._captioner = recipe.captioner
        self.prompt_id = recipe.captioner.prompt.id

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """One request a caption, each with a seed of its own."""
        if image is None:
            raise ValueError("captions need images")
        prompt, sampling = self._captioner.prompt, self._captioner.sampling
        return [
            Request(
                f"{sample.key}/{attempt}/{number}",
                prompt.text,
                request_sampling(sampling, sample.key, attempt, number),
                images=(image,),
                system=prompt.system,
            )
            for number in range(self._captioner.captions)
        ]

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """Every caption as it came: an empty or cut one is what is being measured."""
        most = CHARACTERS_A_TOKEN * self._captioner.sampling.max_tokens
        for reply in replies:
            if len(reply.text) > most:
                return Drop(Reason.UNPARSABLE, f"{len(reply.text)} characters, {most} at most", retry=True)
        captions = [
            {"text": reply.text.strip(), "finish_reason": reply.finish_reason, "tokens": reply.completion_tokens}
            for reply in replies
        ]
        return _row(sample, captions)

    def text(self, fields: Mapping[str, Any]) -> str:
        """The captions, a blank line between them."""
        return _shown(fields)


class TakenCaptionsStage:
    """Take over the captions that came with the benchmark's record; nothing is asked, no image is read."""

    name = CAPTIONS
    fields = CAPTION_FIELDS
    image_use: ImageUse = "unread"
    max_attempts = 1
    prompt_id = ""
    asks = False
    leads = 0
    tolerates_failures = False

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """None."""
        return ()

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """The captions of the file."""
        texts = _payload(sample).get("captions") or ()
        if not texts:
            return Drop(Reason.SAMPLE_INVALID, "no caption of this image in the file", retry=False)
        return _row(sample, [{"text": text, "finish_reason": None, "tokens": None} for text in texts])

    def text(self, fields: Mapping[str, Any]) -> str:
        """The captions, a blank line between them."""
        return _shown(fields)


def _payload(sample: PlannedSample) -> dict[str, Any]:
    found = orjson.loads(sample.payload or "{}")
    return found if isinstance(found, dict) else {}


def _row(sample: PlannedSample, captions: list[dict[str, Any]]) -> Outcome:
    questions = _payload(sample).get("questions")
    if not questions:
        return Drop(Reason.NO_QUESTION, "the record brings no question of a benchmark", retry=False)
    return Row({"captions": captions, "questions": questions})


def _shown(fields: Mapping[str, Any]) -> str:
    return "\n\n".join(caption["text"] for caption in fields["captions"])
