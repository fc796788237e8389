"""The second stage: a judge that never sees the image answers its questions from each caption alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.data.sources.benchmark_forms import LETTERS
from caprl_core.engines.protocol import Reply, Request
from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.rows import JUDGE_FIELDS
from caprl_core.prism.scorers.choice import may_abstain
from caprl_core.prism.stages import JUDGE, JudgeStageRecipe
from caprl_core.reward.reading import reader_prompt
from caprl_core.shards.request_sampling import request_sampling
from caprl_core.shards.stage import Drop, ImageUse, Outcome, Row

ATTEMPTS = 2
"""At an image: the second one is made when requests of the first failed."""


class JudgeStage:
    """Every question about every caption of a row of captions, which is the sample's payload."""

    name = JUDGE
    fields = JUDGE_FIELDS
    image_use: ImageUse = "unread"
    max_attempts = ATTEMPTS
    asks = True
    tolerates_failures = True

    def __init__(self, recipe: JudgeStageRecipe, leads: int = 1) -> None:
        """`leads`: captions of an image, where that is known; the first question about each goes ahead, so that the
        others find the caption in the server's prefix cache."""
        self._judge = recipe.judge
        self._choice = reader_prompt(recipe.judge.prompt)
        self._open = reader_prompt(recipe.judge.open_prompt)
        self.prompt_id = recipe.judge.prompt.id
        self.leads = leads

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """Question by question, each about all captions; none for a payload that is no row of captions."""
        try:
            row, questions = _unpacked(sample)
        except ValueError:
            return ()
        pairs = [(question, caption["text"]) for question in questions for caption in row["captions"]]
        return [
            self._request(f"{sample.key}/{attempt}/{number}", question, caption, sample.key, attempt, number)
            for number, (question, caption) in enumerate(pairs)
        ]

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """The row with all replies. Failed ones are asked again with all others while attempts are left; after that
        they stay missing, and a sample without a single reply is dropped, so that the gate sees a dead server."""
        try:
            row, questions = _unpacked(sample)
        except ValueError as error:
            return Drop(Reason.SAMPLE_INVALID, f"the payload is no row of captions: {error}", retry=False)
        failed = [reply for reply in replies if reply.failure is not None]
        if failed and (attempt < self.max_attempts or len(failed) == len(replies)):
            detail = f"{len(failed)} of {len(replies)} requests, the first: {failed[0].failure}"
            return Drop(Reason.REQUEST_FAILED, detail, retry=True)
        captions = row["captions"]
        answered = [
            {
                **question.as_json(),
                "replies": [_reply(reply) for reply in replies[number * len(captions) : (number + 1) * len(captions)]],
            }
            for number, question in enumerate(questions)
        ]
        return Row(
            {
                "benchmark": row["source"],
                "captions": captions,
                "questions": answered,
                "captioner": row.get("model"),
                "captioner_revision": row.get("model_revision"),
            }
        )

    def text(self, fields: Mapping[str, Any]) -> str:
        """Each question with its replies, for the eye."""
        return "\n".join(
            f"{question['text']} | {' | '.join(one['reply'] for one in question['replies'])}"
            for question in fields["questions"]
        )

    def _request(  # noqa: PLR0917 - the parts of one request
        self, name: str, question: BenchmarkQuestion, caption: str, key: str, attempt: int, number: int
    ) -> Request:
        prompt, parts = (
            (self._judge.prompt, self._choice) if question.options else (self._judge.open_prompt, self._open)
        )
        return Request(
            name,
            parts.text(caption, shown_question(question, self._judge.abstain)),
            request_sampling(self._judge.sampling, key, attempt, number),
            # What a benchmark asks with says how to answer; ours is for those that say nothing.
            system=question.system if question.system is not None else prompt.system,
        )


def shown_question(question: BenchmarkQuestion, abstain: str | None) -> str:
    """The text, then one `A) text` line an option, and last the way to abstain where there is one and CaptionQA's rule
    offers it: not with questions of yes and no."""
    options = list(question.options)
    if options and abstain is not None and len(options) < len(LETTERS) and may_abstain(question):
        options.append(abstain)
    lines = [f"{letter}) {text}" for letter, text in zip(LETTERS, options, strict=False)]
    return "\n".join([question.text, *lines])


def _reply(reply: Reply) -> dict[str, Any]:
    return {
        "reply": "" if reply.failure is not None else reply.text,
        "finish_reason": None if reply.failure is not None else reply.finish_reason,
        "tokens": reply.completion_tokens,
        "failure": reply.failure,
    }


def _unpacked(sample: PlannedSample) -> tuple[dict[str, Any], list[BenchmarkQuestion]]:
    try:
        row = orjson.loads(sample.payload or "null")
        questions = [BenchmarkQuestion.of(fields) for fields in row["questions"]]
        if not questions:
            raise ValueError("no question")
        return row, questions
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
