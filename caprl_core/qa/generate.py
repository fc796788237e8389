"""The generation stage: one request an image, one block of questions a row."""

from collections.abc import Mapping, Sequence
from typing import Any

from caprl_core.captioning.checks import is_refusal, visible_characters
from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Reply, Request
from caprl_core.qa.blocks.block import parse_block
from caprl_core.qa.rows import BLOCK_FIELDS
from caprl_core.recipe.qa_stages import GenerateRecipe
from caprl_core.shards.request_sampling import CHARACTERS_A_TOKEN, request_sampling
from caprl_core.shards.stage import Drop, ImageUse, Outcome, Row


class GenerateStage:
    """Ask the writer for questions and keep its whole reply: what is in it is for extraction to say."""

    name = "generate"
    fields = BLOCK_FIELDS
    image_use: ImageUse = "kept"
    asks = True
    leads = 0
    tolerates_failures = False

    def __init__(self, recipe: GenerateRecipe) -> None:
        self._prompt = recipe.writer.prompt
        self._sampling = recipe.writer.sampling
        self.max_attempts = recipe.writer.max_attempts
        self.prompt_id = recipe.writer.prompt.id

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """One request; only its seed depends on the attempt."""
        if image is None:
            raise ValueError("questions are written about images")
        return (
            Request(
                f"{sample.key}/{attempt}/0",
                self._prompt.text,
                request_sampling(self._sampling, sample.key, attempt),
                images=(image,),
                system=self._prompt.system,
            ),
        )

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """The block, or why there is none.

        A reply in which no question can be read is asked again while attempts are left; at the last one it becomes a
        row all the same, so that its text is kept and ends as reasons of extraction. Attempts are counted over all
        revisions of a shard: one that is asked again after `max_attempts` of them is at its last attempt each time.
        """
        reply = replies[0]
        text = reply.text.strip()
        if len(text) > CHARACTERS_A_TOKEN * self._sampling.max_tokens:
            return Drop(
                Reason.UNPARSABLE, f"{len(text)} characters for {self._sampling.max_tokens} tokens at most", retry=True
            )
        if not visible_characters(text):
            return Drop(Reason.EMPTY, "no visible characters", retry=True)
        if is_refusal(text):
            return Drop(Reason.REFUSED, text[:120], retry=True)
        if attempt < self.max_attempts and not parse_block(text, cut=reply.finish_reason == "length").questions:
            return Drop(Reason.UNPARSABLE, f"no question in: {text[:120]}", retry=True)
        return Row({"block": text})

    def text(self, fields: Mapping[str, Any]) -> str:
        """The block."""
        return str(fields["block"])
