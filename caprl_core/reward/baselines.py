"""Rewards to compare with: a vision-language model that rates captions, and overlap with a reference caption."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caprl_core.data.row import clean_text
from caprl_core.data.sample import PreparedImage
from caprl_core.engines.protocol import Engine, Reply, Request
from caprl_core.qa.blocks.wording import comparable, excerpt
from caprl_core.recipe.reward import CAPTION, JudgeRecipe
from caprl_core.reward.asking import ask_all
from caprl_core.reward.reading import REPLY_CHARACTERS
from caprl_core.reward.score import CaptionToScore
from caprl_core.shards.request_sampling import request_sampling

LOWEST, HIGHEST = 1, 5
"""The scale of the paper's judge baselines (fact sheet 6)."""

_RATING = re.compile(
    r"[\s*_`\"'(\[]{0,6}(?:(?:the\s)?(?:final\s|overall\s)?(?:grade|rating|score|number|answer)\s{0,2}(?:is\s{0,2}|[:=]\s{0,2}))?"
    r"[*_`(\[]{0,3}([1-5])(?:\s?(?:/|out\sof)\s?5)?[*_`)\]\"'.]{0,4}",
    re.IGNORECASE,
)
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge's verdict. rating: 1 to 5; reward: 0 to 1; both None where there is no reply or it is no rating."""

    key: str
    rollout: int
    rating: int | None
    reward: float | None
    reply: str


async def judge_reward(
    captions: Sequence[CaptionToScore], images: Mapping[str, PreparedImage], engine: Engine, recipe: JudgeRecipe
) -> list[Judged]:
    """One verdict a caption, in order: (rating - 1) / 4, from one request with the image (paper, Table 3).

    All requests are in flight together up to `engine.concurrency`, those about an image next to each other. Failures
    are retried, then missing, never zero. Raises `KeyError` for a caption whose image is not given.
    """
    asks = [_JudgeAsk(place, item, images[item.key], recipe) for place, item in enumerate(captions)]
    replies: dict[int, str] = {}

    def answered(ask: _JudgeAsk, reply: Reply) -> None:
        replies[ask.place] = reply.text

    together = sorted(asks, key=lambda ask: ask.item.key)
    await ask_all(together, engine, retries=recipe.execution.retries, answered=answered)
    return [_judged(ask.item, replies.get(ask.place)) for ask in asks]


@dataclass(frozen=True, slots=True)
class _JudgeAsk:
    place: int
    item: CaptionToScore
    image: PreparedImage
    recipe: JudgeRecipe

    def request(self, request_id: str) -> Request:
        before, _, after = self.recipe.prompt.text.partition(CAPTION)
        sampling = request_sampling(self.recipe.sampling, self.item.key, 1, self.item.rollout)
        text = clean_text(f"{before}{self.item.caption}{after}")
        return Request(request_id, text, sampling, images=(self.image,), system=self.recipe.prompt.system)


def read_rating(reply: str) -> int | None:
    """1 to 5 where the whole reply is one number (`4`, `4/5`, `Rating: 4.`); None for anything else, also `4 or 5`."""
    match = _RATING.fullmatch(reply.strip()) if len(reply) < 200 else None
    return None if match is None else int(match[1])


def _judged(item: CaptionToScore, reply: str | None) -> Judged:
    rating = None if reply is None else read_rating(reply)
    reward = None if rating is None else (rating - LOWEST) / (HIGHEST - LOWEST)
    return Judged(item.key, item.rollout, rating, reward, excerpt(reply or "", REPLY_CHARACTERS))


def overlap_reward(caption: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (ROUGE-L of Lin, 2004, beta 1), 0 to 1; 0 if either has no word.

    Words are runs of letters and digits, single characters in Chinese and Japanese; case and width make no difference.
    """
    ours, theirs = (_WORD.findall(comparable(text)) for text in (caption, reference))
    if not ours or not theirs:
        return 0.0
    # 2 common / (a + b) is the harmonic mean of common / a and common / b.
    return 2 * common_words(ours, theirs) / (len(ours) + len(theirs))


def common_words(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence, by rows of bits (Hyyro, 2004): 1 ms for 1,000 words against 1,000."""
    places: dict[str, int] = {}
    for place, word in enumerate(ours):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(ours)) - 1
    row = everything
    for word in theirs:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & everything
    return len(ours) - row.bit_count()
