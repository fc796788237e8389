"""From one reply to one stored vote, and from votes to counts."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from caprl_core.engines.protocol import Reply
from caprl_core.qa.letters import read_letter
from caprl_core.qa.present import Presented
from caprl_core.qa.question import LETTERS, Question
from caprl_core.qa.rotation import Order, order_text

REPLY_CHARACTERS = 2000
"""So much of a reply is stored. The letter is read from all of it."""
NO_LOGPROBS = "the engine reports no log-probabilities: answerer.mode logprob needs an engine that does"


@dataclass(frozen=True, slots=True)
class Counts:
    """Evidence of one branch: votes that count, those of them that are right, and requests that failed."""

    trials: int
    successes: int
    failures: int

    @property
    def accuracy(self) -> float | None:
        """Share of right votes, 0 to 1; None where no vote counts."""
        return self.successes / self.trials if self.trials else None


def counts(votes: Iterable[Mapping[str, Any]]) -> Counts:
    """A reply without a readable letter is a wrong one; a failed request is neither right nor wrong."""
    trials = successes = failures = 0
    for vote in votes:
        if vote["failure"] is not None:
            failures += 1
        else:
            trials += 1
            successes += bool(vote["correct"])
    return Counts(trials, successes, failures)


def sampled_vote(question: Question, order: Order, shown: Presented, reply: Reply) -> dict[str, Any]:
    """The vote of a written reply."""
    if reply.failure is not None:
        return _vote(question, order, failure=reply.failure)
    return _vote(question, order, letter=read_letter(reply.text, shown.options), reply=reply.text[:REPLY_CHARACTERS])


def logprob_vote(question: Question, order: Order, shown: Presented, reply: Reply) -> dict[str, Any]:
    """The vote of a forward pass: the likeliest of the letters offered, and the gold letter's share of their mass."""
    failure = reply.failure
    if failure is None and (reply.choice_logprobs is None or len(reply.choice_logprobs) != len(shown.options)):
        failure = NO_LOGPROBS
    if failure is not None:
        return _vote(question, order, failure=failure)
    shares = _shares(reply.choice_logprobs or ())
    best = max(shares, default=0.0)
    # Letters that tie (logits of 16 bits do) fall to the first of them; the gold stands first no oftener than others.
    letter = LETTERS[shares.index(best)] if best > 0 else None
    return _vote(question, order, letter=letter, gold_p=shares[order.index(question.gold)])


def _shares(logprobs: Iterable[float | None]) -> list[float]:
    """Softmax over the letters offered; one that the engine does not report has no share."""
    values = [-math.inf if value is None or math.isnan(value) else value for value in logprobs]
    most = max(values, default=-math.inf)
    if not math.isfinite(most):
        return [0.0] * len(values)
    weights = [math.exp(value - most) for value in values]
    return [weight / sum(weights) for weight in weights]


def _vote(
    question: Question,
    order: Order,
    *,
    letter: str | None = None,
    reply: str = "",
    gold_p: float | None = None,
    failure: str | None = None,
) -> dict[str, Any]:
    return {
        "order": order_text(order),
        "letter": letter,
        "correct": letter is not None and letter == LETTERS[order.index(question.gold)],
        "reply": reply,
        "gold_p": gold_p,
        "failure": failure,
    }
