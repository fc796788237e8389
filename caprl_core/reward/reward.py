"""The reward of captions: draw questions, ask a reader who sees the caption alone, count what it gets right."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caprl_core.data.row import clean_text
from caprl_core.engines.protocol import Engine, Reply, Request, Sampling
from caprl_core.qa.present import Presented, presented
from caprl_core.qa.question import Question, question_id
from caprl_core.qa.rotation import order_text
from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.models import SamplingRecipe
from caprl_core.recipe.reward import RewardRecipe
from caprl_core.reward.asking import ask_all
from caprl_core.reward.cache import ReadingCache
from caprl_core.reward.draws import Draw, caption_numbers, draw_questions
from caprl_core.reward.reading import ReaderPrompt, Reading, outcome_of, read_reply, reader_prompt
from caprl_core.reward.score import CaptionToScore, DrawRecord, Score
from caprl_core.reward.terms import accuracy, credit, term_values, weighted_sum


async def score_captions(
    captions: Sequence[CaptionToScore],
    questions: Mapping[str, Sequence[Question]],
    engine: Engine,
    recipe: RewardRecipe,
    step: int,
    *,
    cache: ReadingCache | None = None,
) -> list[Score]:
    """One score a caption, in order. `questions` are those of each image by key; `engine` is the started reader.

    Draws and orders depend on (image, caption, step, seed) alone, the seed of a request on its content alone. All
    requests are in flight together up to `engine.concurrency`, those about equal captions next to each other, so that
    the engine's prefix cache holds the caption; equal requests are asked once. A `cache` kept by the caller, and used
    with this engine only, spares those of earlier calls too.

    A request that stays without an answer is left out of the caption's mean; with fewer than `recipe.min_answered` of
    its draws answered, a caption has no reward. One whose token count the length term lacks has none either, and is not
    asked about. Raises `EngineDeadError`.
    """
    cache = ReadingCache(recipe.execution.cache_entries) if cache is None else cache
    terms = [term_values(item.caption, item.tokens, recipe.terms) for item in captions]
    plans = _Plans(questions, recipe, step)
    asked = [plans.plan(item) for item in captions]
    readings: dict[bytes, Reading] = {}
    asks: dict[bytes, _Ask] = {}
    # In order of the captions' first appearance, each caption's requests together.
    by_caption: dict[str, list[_Ask]] = {}
    for item, some in zip(captions, asked, strict=True):
        by_caption.setdefault(item.caption, []).extend(some)
    for some in by_caption.values():
        for ask in some:
            if ask.digest in readings or ask.digest in asks:
                continue
            known = cache.get(ask.digest)
            if known is None:
                asks[ask.digest] = ask
            else:
                readings[ask.digest] = known

    def answered(ask: _Ask, reply: Reply) -> None:
        readings[ask.digest] = read_reply(reply.text, ask.shown.options)
        cache.put(ask.digest, readings[ask.digest])

    await ask_all(list(asks.values()), engine, retries=recipe.execution.retries, answered=answered)
    return [
        _score(item, [_record(ask, readings.get(ask.digest)) for ask in some], values, recipe)
        for item, some, values in zip(captions, asked, terms, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Ask:
    """One draw of one caption. digest: equal for equal requests."""

    digest: bytes
    caption: str
    question: Question
    question_id: str
    draw: Draw
    shown: Presented
    prompt: ReaderPrompt
    system: str | None
    sampling: SamplingRecipe

    def request(self, request_id: str) -> Request:
        sampling = Sampling(
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            top_k=self.sampling.top_k,
            repetition_penalty=self.sampling.repetition_penalty,
            max_tokens=self.sampling.max_tokens,
            # 31 bits: the widest seed every engine takes.
            seed=int.from_bytes(self.digest[:4], "big") & 0x7FFF_FFFF,
        )
        text = clean_text(self.prompt.text(self.caption, self.shown.text))
        return Request(request_id, text, sampling, system=self.system)


class _Plans:
    """What each caption is asked."""

    def __init__(self, questions: Mapping[str, Sequence[Question]], recipe: RewardRecipe, step: int) -> None:
        self._questions = questions
        self._recipe = recipe
        self._step = step
        self._prompt = reader_prompt(recipe.reader.prompt)
        self._ids: dict[str, list[str]] = {}
        self._reader = hashlib.blake2b(fingerprint(identity(recipe.reader)).encode(), digest_size=16)

    def plan(self, item: CaptionToScore) -> list[_Ask]:
        """The draws of a caption; none where its image has no questions, or where what it earns is known before."""
        recipe = self._recipe
        if _earns_nothing(item, recipe) or _lacks_tokens(item, recipe):
            return []
        questions = self._questions.get(item.key, ())
        if item.key not in self._ids:
            self._ids[item.key] = [question_id(item.key, question) for question in questions]
        ids = self._ids[item.key]
        drawn = draw_questions(
            questions,
            recipe.draws,
            caption_numbers(recipe.seed, self._step, item.key, item.caption),
            replacement=recipe.replacement,
            shuffle=recipe.shuffle,
            abstain=recipe.abstain,
        )
        # Once a caption: hashing one of 16 kB takes 15 us. The prompt around it is part of the reader's identity.
        begun = self._reader.copy()
        begun.update(f"{len(item.caption)}\0{item.caption}".encode("utf-8", "surrogatepass"))
        asks = []
        for draw in drawn:
            question = questions[draw.question]
            shown = presented(question, draw.order, recipe.abstain)
            digest = begun.copy()
            digest.update(shown.text.encode("utf-8", "surrogatepass"))
            asks.append(
                _Ask(
                    digest.digest(),
                    item.caption,
                    question,
                    ids[draw.question],
                    draw,
                    shown,
                    self._prompt,
                    recipe.reader.prompt.system,
                    recipe.reader.sampling,
                )
            )
        return asks


def _record(ask: _Ask, reading: Reading | None) -> DrawRecord:
    return DrawRecord(
        ask.question_id,
        order_text(ask.draw.order),
        None if reading is None else reading.letter,
        outcome_of(reading, ask.question, ask.draw.order),
        "" if reading is None else reading.reply,
    )


def _score(item: CaptionToScore, draws: list[DrawRecord], values: dict[str, float], recipe: RewardRecipe) -> Score:
    terms = recipe.terms
    if _earns_nothing(item, recipe):
        return Score(item.key, item.rollout, 0.0, None, (), values)
    if _lacks_tokens(item, recipe):
        return Score(item.key, item.rollout, None, None, (), values, "no_tokens")
    if not draws:
        return Score(item.key, item.rollout, None, None, (), values, "no_questions")
    outcomes = [draw.outcome for draw in draws]
    share = accuracy(outcomes)
    mean_credit = credit(outcomes, wrong=terms.wrong, abstained=terms.abstained)
    missing = outcomes.count("failed")
    if mean_credit is None or len(draws) - missing < recipe.min_answered * len(draws):
        return Score(item.key, item.rollout, None, share, tuple(draws), values, "too_few_answers")
    reward = weighted_sum(mean_credit, values, terms)
    return Score(item.key, item.rollout, reward, share, tuple(draws), values)


def _earns_nothing(item: CaptionToScore, recipe: RewardRecipe) -> bool:
    return item.truncated and recipe.terms.truncated == "nothing"


def _lacks_tokens(item: CaptionToScore, recipe: RewardRecipe) -> bool:
    return item.tokens is None and recipe.terms.length is not None
