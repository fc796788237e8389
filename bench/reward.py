"""The reward of one step, 1,024 captions x 8 draws, against one endpoint, beside an ideal closed loop.

The server is a process of its own; the latency of a request is a function of its bytes, and both contestants send the
same bytes, so both meet the same latencies.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.closed_loop import served_closed_loop
from bench.measuring import Report, options
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import EngineInfo, Reply, Request
from caprl_core.qa.question import Question
from caprl_core.recipe.reward import RewardRecipe
from caprl_core.reward.reward import score_captions
from caprl_core.reward.score import CaptionToScore, Score
from caprl_core.world.stub_server import WORDS

METHOD = """Stub server with as many places as the client has requests in flight; log-normal latencies, sigma 1, none
over 30 medians; median 0.5 s with 64 places, 1.5 s with 256, so that the processor time of client and server (two
cores) stays below their capacity. One step: 128 images x 8 captions of 150 words, 8 questions with four options an
image, each drawn once a caption (so that no two of the 8,192 requests are equal), options shuffled. Ours:
score_captions, from captions to scores. Ideal: as many asyncio workers as places pull the same finished requests in the
same order through the same engine and throw the replies away. Own time: score_captions with an engine that answers at
once, which is all the processor time the reward path adds."""
IMAGES, ROLLOUTS, QUESTIONS = 128, 8, 8


class AnswersAtOnce:
    """An engine without a model that remembers what it was asked."""

    image_encoding = "png"

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.requests: list[Request] = []

    async def start(self) -> EngineInfo:
        return EngineInfo("none", "1", "none", None)

    async def generate(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply("B", "stop", 0, 1, 0.0)

    async def close(self) -> None:
        pass


def step_of(images: int, words: int = 150) -> tuple[list[CaptionToScore], dict[str, list[Question]]]:
    """Captions of a step and the questions about their images."""
    generator = random.Random(0)
    captions = [
        CaptionToScore(f"image-{image}", " ".join(generator.choices(WORDS, k=words)), rollout)
        for image in range(images)
        for rollout in range(ROLLOUTS)
    ]
    questions = {
        f"image-{image}": [
            Question(f"What is thing {number} of picture {image}?", ("a tree", "a bird", "a lake", "a roof"), 1)
            for number in range(QUESTIONS)
        ]
        for image in range(images)
    }
    return captions, questions


def recipe_for(url: str, places: int) -> RewardRecipe:
    return RewardRecipe.model_validate(
        {
            "reader": {"model": {"name": "stub"}},
            "replacement": False,
            "execution": {"engine": {"kind": "openai", "urls": [url], "concurrency": places}},
        }
    )


@contextmanager
def stub_server(places: int, median_s: float) -> Iterator[str]:
    settings = {"median": median_s, "sigma": 1, "cap": 30 * median_s, "places": places}
    command = [sys.executable, "-m", "caprl_core.world.stub_server"]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def ideal(recipe: RewardRecipe, requests: Sequence[Request]) -> float:
    """Seconds of a closed loop."""
    return await served_closed_loop(recipe.reader.model, recipe.execution.engine, requests)


async def ours(
    recipe: RewardRecipe, captions: Sequence[CaptionToScore], questions: dict[str, list[Question]]
) -> tuple[float, list[Score]]:
    """Seconds of the step, and its scores."""
    engine = OpenAIEngine(recipe.reader.model, recipe.execution.engine)
    await engine.start()
    started = time.monotonic()
    scores = await score_captions(captions, questions, engine, recipe, step=0)
    seconds = time.monotonic() - started
    await engine.close()
    return seconds, scores


def main() -> None:
    arguments = options(__doc__).parse_args()
    images, scale = (8, 0.1) if arguments.quick else (IMAGES, 1.0)
    report = Report("reward", METHOD, quick=arguments.quick, packages=("openai", "httpx"))
    captions, questions = step_of(images)
    recipe = recipe_for("http://127.0.0.1:1/v1", 256)
    engine = AnswersAtOnce(256)
    started = time.process_time()
    asyncio.run(score_captions(captions, questions, engine, recipe, step=0))
    report.figure("own time of a step", time.process_time() - started, "CPU s")
    report.figure("requests of a step", len(engine.requests), "requests")
    for places, median in ((64, 0.5), (256, 1.5)):
        with stub_server(places, median * scale) as url:
            recipe = recipe_for(url, places)
            best = asyncio.run(ideal(recipe, engine.requests))
            seconds, scores = asyncio.run(ours(recipe, captions, questions))
        assert all(score.reward is not None and len(score.draws) == recipe.draws for score in scores)
        report.figure(f"ideal closed loop, {places} places", len(engine.requests) / best, "requests/s")
        report.figure(f"reward, {places} places", len(engine.requests) / seconds, "requests/s")
        report.require(f"reward / ideal, {places} places", best / seconds, least=0.95)
    report.finish()


if __name__ == "__main__":
    main()
