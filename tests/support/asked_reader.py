"""A reader for tests that knows what is right, and a small question set to ask it."""

from collections.abc import Callable
from typing import Any

from caprl_core.engines.protocol import Request
from caprl_core.qa.question import LETTERS, Question
from caprl_core.recipe.reward import RewardRecipe
from caprl_core.reward.score import CaptionToScore
from support.echo_engine import EchoEngine

ABSTAIN = "Cannot be answered from the description"


def question(number: int, gold: int = 0, options: tuple[str, ...] = ("red", "blue", "green", "white")) -> Question:
    """`What colour is thing <number>?`"""
    return Question(f"What colour is thing {number}?", options, gold)


def reward_recipe(**changes: Any) -> RewardRecipe:
    """`changes` are dotted paths with `__` for the dot."""
    values: dict[str, Any] = {
        "reader": {"model": {"name": "test/reader"}},
        "execution": {"engine": {"kind": "transformers"}, "retries": 0},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return RewardRecipe.model_validate(values)


def caption(text: str = "A red thing.", key: str = "a", rollout: int = 0, **more: Any) -> CaptionToScore:
    return CaptionToScore(key, text, rollout, **more)


def shown_options(request: Request) -> dict[str, str]:
    """Letter -> text, as the reader sees them."""
    lines = [line.split(") ", 1) for line in request.text.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2 and line[0] in LETTERS}


def stem_of(request: Request) -> str:
    return next(line for line in request.text.splitlines() if line.startswith("What "))


def names(option: Callable[[Request], str]) -> Callable[[Request], str]:
    """A reader that gives the letter of the option it is told to choose."""

    def answer(request: Request) -> str:
        wanted = option(request)
        return next(letter for letter, text in shown_options(request).items() if text == wanted)

    return answer


def reader(answer: Callable[[Request], str], concurrency: int = 8, **more: Any) -> EchoEngine:
    return EchoEngine(concurrency, lambda _: 0.0, answer, **more)
