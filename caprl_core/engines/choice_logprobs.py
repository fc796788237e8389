"""Log-probabilities of a few texts as a reply's first token: by token in this process, by a server's list elsewhere.

A chat template ends behind the assistant's header and, mostly, a line break, so that the first token of a reply is the
bare letter; models whose header ends otherwise, and SentencePiece vocabularies, begin with a space. Where a vocabulary
has both tokens their probabilities are added up. Values are those of the model itself: before temperature, penalties
and truncation.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SPACES = ("", "\u0120", "\u2581")
"""What may stand before a letter in a vocabulary: nothing, or the space of byte-level BPE or of SentencePiece."""
TOP_LOGPROBS = 20
"""So many a server is asked for: OpenAI's limit, and the default one of vLLM."""
_MOST = 1e6


class ChoiceTokens:
    """Which tokens of a vocabulary stand for a choice."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._vocabulary = vocabulary
        self._found: dict[str, tuple[int, ...]] = {}

    def ids(self, choice: str) -> tuple[int, ...]:
        """Token ids of `choice` (ASCII letters), with and without a space before it; none if it is no single token."""
        if choice not in self._found:
            tokens = (space + choice for space in SPACES)
            self._found[choice] = tuple(self._vocabulary[token] for token in tokens if token in self._vocabulary)
        return self._found[choice]

    def all_ids(self, choices: Iterable[str]) -> list[int]:
        """Token ids of all choices, each once."""
        return list(dict.fromkeys(number for choice in choices for number in self.ids(choice)))

    def logprobs(self, choices: Iterable[str], by_token: Mapping[int, float]) -> tuple[float | None, ...]:
        """One value a choice from log-probabilities by token id; None where no token of it has any."""
        return tuple(_sum(by_token[number] for number in self.ids(choice) if number in by_token) for choice in choices)


class FirstScores:
    """A logits processor of transformers that changes nothing and keeps what was asked for of the first step.

    It must be the first of the list, or it sees what others made of the scores. `by_token[row]` maps the row's token
    ids to log-probabilities.
    """

    def __init__(self, tokens: Sequence[Sequence[int]]) -> None:
        self._tokens = tokens
        self.by_token: list[dict[int, float]] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores as they are."""
        if not self.by_token:
            for row, tokens in enumerate(self._tokens):
                values = scores[row].float().log_softmax(0)[list(tokens)].tolist() if tokens else []
                self.by_token.append(dict(zip(tokens, values, strict=True)))
        return scores


def reported(logprobs: Any, choices: Sequence[str]) -> tuple[float | None, ...] | None:
    """One value a choice from the `logprobs` of an OpenAI-compatible reply; None where it has none.

    Total: a server may send anything, and what is no token with a number is passed over.
    """
    content = getattr(logprobs, "content", None)
    if not isinstance(content, list) or not content:
        return None
    tops = getattr(content[0], "top_logprobs", None)
    values: dict[str, float] = {}
    for entry in [content[0], *(tops if isinstance(tops, list) else [])[: 2 * TOP_LOGPROBS]]:
        token, value = getattr(entry, "token", None), getattr(entry, "logprob", None)
        # The bound keeps out infinities and integers of any size, and NaN, which no bound holds for.
        if isinstance(token, str) and isinstance(value, int | float) and abs(value) < _MOST:
            # By text, because the token drawn is in both places.
            values[token] = float(value)
    found: dict[str, list[float]] = {choice: [] for choice in choices}
    for token, value in values.items():
        bare = token[1:] if token[:1] in (" ", *SPACES[1:]) else token
        if bare in found:
            found[bare].append(value)
    return tuple(_sum(found[choice]) for choice in choices)


def _sum(logprobs: Iterable[float]) -> float | None:
    """Logarithm of the sum of probabilities; None for a probability of 0."""
    finite = [value for value in logprobs if math.isfinite(value)]
    if not finite:
        return None
    most = max(finite)
    return most + math.log(sum(math.exp(value - most) for value in finite))
