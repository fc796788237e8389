"""The answering stage: every question in several orders of its options, with and without the image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Reply, Request, Sampling
from caprl_core.qa.decided import Standing, standing
from caprl_core.qa.present import Presented, presented, prompt_with
from caprl_core.qa.question import Question, question_fields, question_of
from caprl_core.qa.rotation import Order, rotations
from caprl_core.qa.rows import ANSWER_FIELDS
from caprl_core.qa.votes import counts, logprob_vote, sampled_vote
from caprl_core.recipe.qa_stages import AnswerStageRecipe
from caprl_core.shards.request_sampling import request_sampling
from caprl_core.shards.stage import Drop, ImageUse, More, Outcome, Row

LEADS = 1
"""The first visual request goes alone. When the others come, the server has the image decoded and prepared, and its
visual tokens and the prefix up to the question in its caches; sent together, all would find the caches empty. It costs
each image one round trip, during which other images keep the engine busy."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question under way: its votes so far, in both branches."""

    id: str
    question: Question
    visual: list[dict[str, Any]]
    text: list[dict[str, Any]]

    def votes(self, visual: bool) -> list[dict[str, Any]]:
        return self.visual if visual else self.text


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request to be made: which question, in which branch, in which order."""

    asked: _Asked
    visual: bool
    order: Order
    shown: Presented


class AnswerStage:
    """Votes on the questions of an extract row, which is the sample's payload."""

    name = "answer"
    fields = ANSWER_FIELDS
    max_attempts = 1
    image_use: ImageUse = "seen"
    asks = True
    leads = LEADS
    tolerates_failures = True

    def __init__(self, recipe: AnswerStageRecipe) -> None:
        self._answerer = recipe.answerer
        self._thresholds = recipe.thresholds
        self.prompt_id = recipe.answerer.prompt.id
        # Images of samples that may be asked about again: `outcome` is not handed them. Left are those of samples
        # whose asking was broken off, which ends the run, or which is asked anew and replaces them.
        self._images: dict[str, PreparedImage] = {}

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """All requests of the first round: those with the image first, question by question, then those without.

        None for a sample without questions, or with a payload that is no extract row: `outcome` says so.
        """
        if image is None:
            raise ValueError("questions are answered with and without their image")
        try:
            asked, _ = _unpacked(sample)
        except ValueError:
            return ()
        if self._answerer.confidence is not None:
            self._images[sample.key] = image
        return self._requests(sample, self._first_round(asked), attempt, 0, image)

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """The row with all votes, or further requests for what is undecided.

        A question whose requests all failed has only votes that do not count. If not one request of the sample was
        answered it is dropped, so that the gate sees a server that answers nothing.
        """
        try:
            asked, writer = _unpacked(sample)
        except ValueError as error:
            return Drop(Reason.SAMPLE_INVALID, f"the payload is no extract row: {error}", retry=False)
        if not asked:
            return Drop(Reason.NO_QUESTION, "no question about this image was taken over", retry=False)
        done = 0
        following = self._first_round(asked)
        while following:
            if done == len(replies):
                return More(self._requests(sample, following, attempt, done, self._images[sample.key]))
            for ask, reply in zip(following, replies[done : done + len(following)], strict=True):
                ask.asked.votes(ask.visual).append(self._vote(ask, reply))
            done += len(following)
            following = self._next_round(asked)
        self._images.pop(sample.key, None)
        failures = [vote["failure"] for one in asked for vote in (*one.visual, *one.text)]
        if None not in failures:
            return Drop(Reason.REQUEST_FAILED, f"all {done} requests, the first: {failures[0]}", retry=False)
        questions = [
            {"id": one.id, **question_fields(one.question), "visual": one.visual, "text": one.text} for one in asked
        ]
        return Row({"questions": questions, "writer": writer})

    def text(self, fields: Mapping[str, Any]) -> str:
        """Each question with its evidence, for the eye."""
        return "\n".join(
            f"{question['stem']} | with image {_share(question['visual'])}, without {_share(question['text'])}"
            for question in fields["questions"]
        )

    def _first_round(self, asked: Sequence[_Asked]) -> list[_Ask]:
        return self._round([(one, visual) for visual in (True, False) for one in asked])

    def _next_round(self, asked: Sequence[_Asked]) -> list[_Ask]:
        """Further rotations of the branches that are undecided; a question that has failed in one is left alone."""
        if self._answerer.confidence is None:
            return []
        states = {(one.id, visual): self._standing(one, visual) for one in asked for visual in (True, False)}
        return self._round(
            [
                (one, visual)
                for visual in (True, False)
                for one in asked
                if states[one.id, visual] is Standing.UNDECIDED and states[one.id, not visual] is not Standing.FAILED
            ]
        )

    def _standing(self, one: _Asked, visual: bool) -> Standing:
        confidence, thresholds = self._answerer.confidence, self._thresholds
        if confidence is None or thresholds is None:
            return Standing.UNDECIDED
        return standing(counts(one.votes(visual)), thresholds, visual=visual, level=confidence.level)

    def _round(self, branches: Iterable[tuple[_Asked, bool]]) -> list[_Ask]:
        """The next rotations of each branch; none where its budget is spent."""
        confidence = self._answerer.confidence
        asks = []
        for one, visual in branches:
            before = len(one.votes(visual))
            until = before + self._answerer.rotations
            if confidence is not None:
                until = min(until, confidence.budget)
            extra = self._extra(one.question, visual)
            orders = rotations(one.question, one.id, until, self._answerer.sampling.seed, extra is not None)
            asks += [_Ask(one, visual, order, presented(one.question, order, extra)) for order in orders[before:]]
        return asks

    def _extra(self, question: Question, visual: bool) -> str | None:
        """The further option's text, unless the question has that option already."""
        extra = self._answerer.visual_extra if visual else self._answerer.text_extra
        if extra is None or extra.strip().casefold() in {option.strip().casefold() for option in question.options}:
            return None
        return extra

    def _requests(
        self, sample: PlannedSample, asks: Iterable[_Ask], attempt: int, first: int, image: PreparedImage
    ) -> list[Request]:
        return [self._request(sample, ask, attempt, number, image) for number, ask in enumerate(asks, first)]

    def _request(self, sample: PlannedSample, ask: _Ask, attempt: int, number: int, image: PreparedImage) -> Request:
        prompt = self._answerer.prompt
        sampling = request_sampling(self._answerer.sampling, sample.key, attempt, number)
        request = Request(
            f"{sample.key}/{attempt}/{number}",
            prompt_with(prompt.text, ask.shown.text),
            sampling,
            images=(image,) if ask.visual else (),
            system=prompt.system,
        )
        if self._answerer.mode == "sampled":
            return request
        # The model's own probabilities: servers differ in whether temperature and penalties change what they report.
        return replace(
            request, sampling=Sampling(temperature=0.0, max_tokens=1, seed=sampling.seed), choices=ask.shown.letters
        )

    def _vote(self, ask: _Ask, reply: Reply) -> dict[str, Any]:
        read = sampled_vote if self._answerer.mode == "sampled" else logprob_vote
        return read(ask.asked.question, ask.order, ask.shown, reply)


def _unpacked(sample: PlannedSample) -> tuple[list[_Asked], dict[str, Any]]:
    """The questions of an extract row, without votes, and who wrote them. Raises `ValueError` for other payloads."""
    try:
        row = orjson.loads(sample.payload or "null")
        asked = [_Asked(str(fields["id"]), question_of(fields), [], []) for fields in row["questions"]]
        return asked, dict(row["writer"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _share(votes: Iterable[Mapping[str, Any]]) -> str:
    found = counts(votes)
    return f"{found.successes}/{found.trials}"
