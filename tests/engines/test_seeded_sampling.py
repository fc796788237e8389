"""Draws of the seeded sampler are draws from the softmax, cut as top_k and top_p say."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caprl_core.engines.protocol import Sampling
from caprl_core.engines.seeded_sampling import SeededSampling


@settings(max_examples=60, deadline=None)
@given(
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.sampled_from([-1, 1, 3, 50]),
    top_p=st.sampled_from([1.0, 0.8, 0.2]),
    seed=st.integers(0, 2**40),
)
def test_draws_come_from_what_top_k_and_top_p_leave(temperature: float, top_k: int, top_p: float, seed: int) -> None:
    logits = torch.linspace(3, -3, 16)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    draw = SeededSampling([sampling], [0], "cpu")(torch.zeros(1, 1, dtype=torch.long), logits[None]).argmax().item()
    shares = (logits / temperature).softmax(0)
    if top_k > 0:
        assert draw < top_k
    assert draw == 0 or shares[: int(draw)].sum() < top_p or top_p == 1


def test_draws_follow_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    sampler = SeededSampling([Sampling(seed=0)], [0], "cpu")
    counts = torch.zeros(4)
    for _ in range(4000):
        counts[sampler(torch.zeros(1, 1, dtype=torch.long), logits[None]).argmax()] += 1
    # Three standard deviations of a share of 4,000 draws are below 0.024.
    assert torch.allclose(counts / 4000, logits.softmax(0), atol=0.025)
