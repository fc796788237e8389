"""The reward as TRL's reward function: asynchronous, on TRL's event loop, the reader started at the first call."""

from collections.abc import Mapping, Sequence
from typing import Any

from caprl_core.engines.open import engine_for
from caprl_core.engines.protocol import Engine
from caprl_core.qa.question import Question
from caprl_core.recipe.reward import RewardRecipe
from caprl_core.reward.cache import ReadingCache
from caprl_core.reward.reward import score_captions
from caprl_core.reward.score import CaptionToScore, Score
from caprl_core.training.rollouts import Rollout

HELD_OUT_STEP = 0
"""Equal held-out captions are shown their questions in the same orders at every evaluation."""
EVERY_QUESTION = 64
"""Draws without replacement: more than any picture has questions, so each is asked once."""


class Reader:
    """A reward recipe with its engine, which lives on the event loop that uses it first."""

    def __init__(self, recipe: RewardRecipe) -> None:
        self.recipe = recipe
        self._engine: Engine | None = None
        self._cache = ReadingCache(recipe.execution.cache_entries)

    async def score(
        self, captions: Sequence[CaptionToScore], questions: Mapping[str, Sequence[Question]], step: int
    ) -> list[Score]:
        """One score a caption; see `score_captions`."""
        return await self._scored(captions, questions, self.recipe, step)

    async def score_held_out(
        self, captions: Sequence[CaptionToScore], questions: Mapping[str, Sequence[Question]]
    ) -> list[Score]:
        """Likewise, by every question of the picture once: evaluations then differ by their captions alone."""
        every = self.recipe.model_copy(update={"draws": EVERY_QUESTION, "replacement": False})
        return await self._scored(captions, questions, every, HELD_OUT_STEP)

    async def _scored(
        self,
        captions: Sequence[CaptionToScore],
        questions: Mapping[str, Sequence[Question]],
        recipe: RewardRecipe,
        step: int,
    ) -> list[Score]:
        if self._engine is None:
            engine = engine_for(self.recipe.reader.model, self.recipe.execution.engine)
            await engine.start()
            self._engine = engine
        return await score_captions(captions, questions, self._engine, recipe, step, cache=self._cache)

    async def close(self) -> None:
        """Stop the engine."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None


class CaptionReward:
    """Called by TRL with this process's captions. What it found is in `rollouts` until the next call."""

    __name__ = "caption_reward"  # TRL's name for it in its metrics

    def __init__(self, reader: Reader, questions: Mapping[str, Sequence[Question]]) -> None:
        """`questions` are those of training and of the held-out pictures."""
        self._reader = reader
        self._questions = questions
        self.end_tokens: frozenset[int] = frozenset()
        """Of the policy. A caption that ends with none of them was cut at the limit."""
        self.rollouts: list[Rollout] = []

    async def __call__(
        self,
        *,
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        key: Sequence[str],
        held_out: Sequence[bool],
        trainer_state: Any,
        **_: Any,
    ) -> list[float | None]:
        """The reward of each caption; None where it is missing, which TRL leaves out of its group."""
        asked = []
        for caption, ids, name in zip(completions, completion_ids, key, strict=True):
            text = caption if isinstance(caption, str) else caption[0]["content"]
            ended = bool(ids) and ids[-1] in self.end_tokens
            tokens = len(ids) - ended
            asked.append(CaptionToScore(name, text, tokens=tokens, truncated=not ended))
        # A step's captions are either all held out or none of them.
        if held_out[0]:
            scores = await self._reader.score_held_out(asked, self._questions)
        else:
            scores = await self._reader.score(asked, self._questions, trainer_state.global_step)
        self.rollouts = [
            Rollout(one.key, one.caption, one.tokens or 0, one.truncated, score)
            for one, score in zip(asked, scores, strict=True)
        ]
        return [score.reward for score in scores]
