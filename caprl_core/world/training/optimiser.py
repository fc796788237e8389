"""One optimiser for all models: Muon for the matrices, AdamW for the rest, one schedule for both."""

from collections.abc import Iterable
from typing import Any

import torch

MUON_RATE = 0.01
ADAM_RATE = 2e-3
"""Learning rates and choice of optimisers of design section 8."""
WARM_UP = 50
FLAT = 0.6
"""Steps of linear warm-up; share of all steps after which the rate falls linearly."""
LAST = 0.02  # of the full rate, at the last step
CLIP = 1.0  # gradient norm at most


class Optimiser:
    """Steps through `steps` updates of the parameters."""

    def __init__(self, parameters: Iterable[tuple[str, Any]], steps: int, rate: float = 1.0) -> None:
        self._steps = steps
        matrices: list[Any] = []
        rest: list[Any] = []
        for name, parameter in parameters:
            is_matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if is_matrix else rest).append(parameter)
        self._parameters = [*matrices, *rest]
        self._optimisers = [
            torch.optim.Muon(matrices, lr=MUON_RATE * rate, weight_decay=0.01, adjust_lr_fn="original"),
            torch.optim.AdamW(rest, lr=ADAM_RATE * rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._schedules = [torch.optim.lr_scheduler.LambdaLR(one, self._share) for one in self._optimisers]

    def _share(self, step: int) -> float:
        done = step / self._steps
        return min(1.0, (step + 1) / WARM_UP) * (1.0 if done < FLAT else max(LAST, (1.0 - done) / (1.0 - FLAT)))

    def step(self, loss: Any) -> None:
        """One update against the gradient of `loss`."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP)
        for optimiser, schedule in zip(self._optimisers, self._schedules, strict=True):
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            schedule.step()
