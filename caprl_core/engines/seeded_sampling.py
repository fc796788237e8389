"""Sampling for a batch of which every row has its own parameters, random seed and end, which transformers lacks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from caprl_core.engines.protocol import Sampling


class SeededSampling:
    """A logits processor that lets greedy search draw samples.

    The largest of (logit + Gumbel noise) is a draw from the softmax of the logits, so each row's noise comes from the
    row's own generator, and a request gets the same draws whichever batch it is in.
    """

    def __init__(self, samplings: Sequence[Sampling], prompt_starts: Sequence[int], device: Any) -> None:
        self._samplings = samplings
        self._starts = prompt_starts
        self._generators = [torch.Generator(device) for _ in samplings]
        for generator, sampling in zip(self._generators, samplings, strict=True):
            if sampling.seed is None:
                generator.seed()
            else:
                generator.manual_seed(sampling.seed)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores whose largest entries are the draws."""
        scores = scores.float().clone()
        # Of rows that are greedy the noise stays 1, whose logarithm is nothing.
        noise = torch.ones_like(scores)
        for row, (sampling, generator) in enumerate(zip(self._samplings, self._generators, strict=True)):
            logits = scores[row]
            if sampling.repetition_penalty != 1.0:
                seen = input_ids[row, self._starts[row] :].unique()
                penalised = logits[seen]
                factor = sampling.repetition_penalty
                logits[seen] = torch.where(penalised > 0, penalised / factor, penalised * factor)
            if sampling.temperature > 0:
                if sampling.temperature != 1.0:
                    logits /= sampling.temperature
                _keep_likeliest(logits, sampling)
                noise[row].exponential_(generator=generator)
        return scores - noise.log_()


def _keep_likeliest(logits: Any, sampling: Sampling) -> None:
    """Set to -inf what top_k and top_p leave out, in place."""
    if 0 < sampling.top_k < logits.shape[0]:
        least = logits.topk(sampling.top_k).values[-1]
        logits.masked_fill_(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        shares = ordered.softmax(0)
        # Out are those before which the others already have the mass; the likeliest always stays.
        logits[order[shares.cumsum(0) - shares >= sampling.top_p]] = -torch.inf


class RowEnds:
    """A stopping criterion: a row ends at its own token limit, at a stop text, or when nobody waits for it."""

    def __init__(
        self,
        prompt_width: int,
        limits: Sequence[int],
        stops: Sequence[tuple[str, ...]],
        abandoned: Callable[[int], bool],
        decode: Callable[[Any], str],
    ) -> None:
        self._width = prompt_width
        self._limits = limits
        self._stops = stops
        self._abandoned = abandoned
        self._decode = decode

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """One truth value a row."""
        return torch.tensor([self._ended(row, ids[self._width :]) for row, ids in enumerate(input_ids)]).to(
            input_ids.device
        )

    def _ended(self, row: int, completion: Any) -> bool:
        if len(completion) >= self._limits[row] or self._abandoned(row):
            return True
        return bool(self._stops[row]) and any(stop in self._decode(completion) for stop in self._stops[row])
