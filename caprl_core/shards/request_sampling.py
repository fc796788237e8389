"""The sampling of one request: what the recipe says, and a seed of the request's own."""

import hashlib

from caprl_core.engines.protocol import Sampling
from caprl_core.recipe.models import SamplingRecipe

CHARACTERS_A_TOKEN = 256
"""No token of the usual vocabularies spells more than 128. A reply beyond `max_tokens` of these was not sampled as
asked; checking 13 MB of it would hold the event loop for 5 s and take 800 MB."""


def request_seed(base: int, key: str, attempt: int, number: int = 0) -> int:
    """Seed of one request, 31 bits (the widest every engine takes): same sample and attempt, same seed."""
    digest = hashlib.blake2b(f"{base}/{key}/{attempt}/{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFF_FFFF


def request_sampling(recipe: SamplingRecipe, key: str, attempt: int, number: int = 0) -> Sampling:
    """The recipe's sampling for request `number` (0-based) of an attempt at the sample `key`."""
    return Sampling(
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        top_k=recipe.top_k,
        repetition_penalty=recipe.repetition_penalty,
        max_tokens=recipe.max_tokens,
        seed=request_seed(recipe.seed, key, attempt, number),
    )
