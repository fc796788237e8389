"""The captioning stage: one request an image, one caption a row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from caprl_core.captioning import checks
from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Reply, Request
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.request_sampling import CHARACTERS_A_TOKEN, request_sampling
from caprl_core.shards.stage import Drop, ImageUse, Outcome, Row

MIN_SCRIPT_SHARE = 0.5
"""A caption may quote signs in other scripts; most of its letters must belong to the language asked for."""


class CaptionStage:
    """Ask for a detailed description, refuse what is not one."""

    name = "caption"
    fields = pa.schema([pa.field("caption", pa.string(), nullable=False)])
    image_use: ImageUse = "kept"
    asks = True
    leads = 0
    tolerates_failures = False

    def __init__(self, recipe: CaptionRecipe) -> None:
        self._prompt = recipe.prompt
        self._sampling = recipe.sampling
        self._checks = recipe.checks
        self.max_attempts = recipe.checks.max_attempts
        self.prompt_id = recipe.prompt.id

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """One request; only its seed depends on the attempt."""
        if image is None:
            raise ValueError("captions need images")
        sampling = request_sampling(self._sampling, sample.key, attempt)
        return (
            Request(
                f"{sample.key}/{attempt}/0", self._prompt.text, sampling, images=(image,), system=self._prompt.system
            ),
        )

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """The caption, or the first check it fails."""
        text = replies[0].text.strip()
        if len(text) > CHARACTERS_A_TOKEN * self._sampling.max_tokens:
            return Drop(
                Reason.UNPARSABLE, f"{len(text)} characters for {self._sampling.max_tokens} tokens at most", retry=True
            )
        for reason, detail in self._faults(text, replies[0]):
            return Drop(reason, detail, retry=True)
        return Row({"caption": text})

    def _faults(self, text: str, reply: Reply) -> Iterator[tuple[Reason, str]]:
        """What is wrong with a reply, the most telling first."""
        wanted = self._checks
        if wanted.empty and checks.visible_characters(text) < wanted.min_characters:
            yield Reason.EMPTY, f"{checks.visible_characters(text)} visible characters"
        if wanted.truncation and reply.finish_reason == "length":
            yield Reason.TRUNCATED, f"cut at {reply.completion_tokens} tokens"
        if wanted.prompt_leak and checks.leaks_prompt(text, self._prompt.text):
            yield Reason.PROMPT_LEAKED, text[:120]
        if wanted.refusal and checks.is_refusal(text):
            yield Reason.REFUSED, text[:120]
        if wanted.repetition and checks.is_repetitive(text):
            yield Reason.REPEATED, text[-120:]
        if wanted.language != "any" and (share := checks.script_share(text, wanted.language)) < MIN_SCRIPT_SHARE:
            yield Reason.WRONG_LANGUAGE, f"{share:.0%} of the letters are {wanted.language}"

    def text(self, fields: Mapping[str, Any]) -> str:
        """The caption."""
        return str(fields["caption"])
