"""What goes into the reward and what comes out: a caption to score, and its score with every draw."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from caprl_core.reward.reading import Outcome

NoReward = Literal["no_questions", "no_tokens", "too_few_answers"]
"""Why a caption has no reward: its image has no questions; its number of tokens, which the length term needs, is not
known; too many of its requests failed."""


@dataclass(frozen=True, slots=True)
class CaptionToScore:
    """A caption of an image.

    key:       the image's key in the question set.
    rollout:   number of the caption among its image's; it names the score and changes nothing.
    tokens:    length in tokens of the model that wrote it; the length term needs it.
    truncated: it was cut at the token limit.
    """

    key: str
    caption: str
    rollout: int = 0
    tokens: int | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class DrawRecord:
    """One draw. order: as of `order_text`; letter: what the reader named; reply: its beginning, empty for a failure."""

    question_id: str
    order: str
    letter: str | None
    outcome: Outcome
    reply: str


@dataclass(frozen=True, slots=True)
class Score:
    """A caption's score.

    reward:   None is a missing value (see `reason`), never a zero.
    accuracy: share of the answered draws that are right, 0 to 1; None where none was answered.
    draws:    every draw, failed ones too.
    terms:    values of the optional terms that are on, before their weights.
    """

    key: str
    rollout: int
    reward: float | None
    accuracy: float | None
    draws: tuple[DrawRecord, ...] = ()
    terms: Mapping[str, float] = field(default_factory=dict)
    reason: NoReward | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "key": self.key,
            "rollout": self.rollout,
            "reward": self.reward,
            "accuracy": self.accuracy,
            "terms": dict(self.terms),
            "reason": self.reason,
            "draws": [{name: getattr(draw, name) for name in DrawRecord.__slots__} for draw in self.draws],
        }
