"""The chapters in order, around a local S3 server that is stopped with them."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from caprl_core.world.demo.annotating import Annotated, annotate, prove
from caprl_core.world.demo.commands import Commands
from caprl_core.world.demo.curating import Curated, curate
from caprl_core.world.demo.drawing import draw_world
from caprl_core.world.demo.files import ERAS, DemoFolder, Era, Sizes
from caprl_core.world.demo.learning import Learnt, learn
from caprl_core.world.demo.page import Told, demo_page
from caprl_core.world.demo.ranking import Ranked, as_json, rank
from caprl_core.world.demo.recipes import (
    write_caption_recipe,
    write_curation_recipe,
    write_prism_recipe,
    write_score_recipe,
    write_training_recipe,
)
from caprl_core.world.demo.scoring import gain, score
from caprl_core.world.demo.terminal import Terminal
from caprl_core.world.model_folders import committed_model
from caprl_core.world.s3_server import client_environment, make_bucket, s3_server

BUCKET: Final = "caprl-demo"
THREADS: Final = "1"
"""Of every command whose recipe says nothing else: models of a million weights gain little from a second thread, and
where others use the machine, threads that wait for each other cost more than ten times the work (measured)."""


def tell_story(root: Path, sizes: Sizes, engine: str, terminal: Terminal) -> None:
    """Everything, below `root`. Raises `CaprlError`; whatever happens, everything it started is stopped."""
    began = time.monotonic()
    folder = DemoFolder(root)
    folder.clear()
    with s3_server() as endpoint:
        os.environ.update(client_environment(endpoint, {}))
        make_bucket(endpoint, BUCKET)
        commands = Commands(_environment(endpoint, folder), folder.log, terminal)
        told = _Story(folder, sizes, commands, terminal, engine=engine, endpoint=endpoint).told()
    folder.page.write_bytes(demo_page(told, folder))
    folder.figures.write_text(json.dumps(_figures(told), indent=1) + "\n", encoding="utf-8")
    width = max(map(len, told.links))
    terminal.say()
    terminal.say("\n".join(f"{what:<{width}}  {path}" for what, path in told.links.items()))
    terminal.say(f"\nDone in {time.monotonic() - began:.0f} s; the S3 server is stopped, nothing else runs.")
    terminal.say(f"All of it on one page: {folder.page}", style="bold")


def _environment(endpoint: str, folder: DemoFolder) -> dict[str, str]:
    """What the commands find: the local S3 server and no other, a Prefect of our own, no network."""
    environment = {"OMP_NUM_THREADS": THREADS} | client_environment(endpoint, os.environ)
    environment.pop("PREFECT_API_URL", None)
    return environment | {"PREFECT_HOME": str(folder.prefect), "HF_HUB_OFFLINE": "1"}


class _Story:
    """One walk through the factory."""

    def __init__(
        self,
        folder: DemoFolder,
        sizes: Sizes,
        commands: Commands,
        terminal: Terminal,
        *,
        engine: str,
        endpoint: str,
    ) -> None:
        self._folder = folder
        self._sizes = sizes
        self._engine = engine
        self._endpoint = endpoint
        self._commands = commands
        self._terminal = terminal
        self._seconds: dict[str, float] = {}

    def told(self) -> Told:
        """Every chapter."""
        folder, sizes, commands, terminal = self._folder, self._sizes, self._commands, self._terminal
        with self._chapter(
            "Pictures", "Drawn, so that their content is known; and files that no captioner should see."
        ):
            draw_world(folder, sizes, commands)
        with self._chapter(
            "Questions",
            "A tiny model writes questions about the training pictures. Another one answers them with and without the"
            " picture; those that need it are kept.",
        ):
            curated = curate(write_curation_recipe(folder), folder, commands, terminal)
        with self._chapter(
            "Learning", "GRPO: the captioner learns to say what a reader without the picture needs to answer them."
        ):
            learnt = learn(write_training_recipe(folder, sizes), commands, terminal)
        datasets, recipes = self._annotated(learnt)
        with self._chapter("Proof", "From the bucket alone: nothing is lost, doubled or changed. Then the exports."):
            prove(recipes, folder, commands)
        with self._chapter("Scores", "The reader answers true questions about the pictures from the captions alone."):
            judged = score(write_score_recipe(folder), folder, sizes, commands, terminal)
        with self._chapter("Prism", "The same as an evaluation with intervals, beside captions that say everything."):
            ranked = rank(write_prism_recipe(folder), folder, commands, terminal)
        links = _links(folder, curated, learnt, ranked)
        return Told(curated, learnt, datasets, judged, ranked, self._seconds, links)

    @contextmanager
    def _chapter(self, title: str, meaning: str) -> Iterator[None]:
        began = time.monotonic()
        self._terminal.chapter(len(self._seconds) + 1, title, meaning)
        yield
        self._seconds[title] = time.monotonic() - began
        self._terminal.ended(self._seconds[title])

    def _annotated(self, learnt: Learnt) -> tuple[dict[Era, Annotated], dict[Era, Path]]:
        captioners = {"before": committed_model("captioner"), "after": learnt.captioner}
        words = {
            "before": "The captioner before it has learnt, by a run that is killed and begun again.",
            "after": "The captioner after it has learnt, on the same pictures.",
        }
        datasets: dict[Era, Annotated] = {}
        recipes: dict[Era, Path] = {}
        for era in ERAS:
            with self._chapter(f"Dataset {era}", words[era]):
                uri = f"s3://{BUCKET}/{era}"
                recipes[era] = write_caption_recipe(
                    self._folder,
                    era,
                    captioner=captioners[era],
                    output=uri,
                    endpoint=self._endpoint,
                    engine=self._engine,
                )
                first = era == ERAS[0]
                if first:  # the other run makes its plan itself, which comes to the same
                    self._commands.run("plan", recipes[era])
                datasets[era] = annotate(recipes[era], uri, self._commands, self._terminal, kill=first)
        return datasets, recipes


def _links(folder: DemoFolder, curated: Curated, learnt: Learnt, ranked: list[Ranked]) -> dict[str, Path]:
    return {
        "report of the curation": curated.page,
        "report of the training": learnt.page,
        **{f"Prism: captions {one.name}": one.page for one in ranked},
        **{f"captions {era}": folder.captions(era) for era in ERAS},
        **{f"scores {era}": folder.scores(era) for era in ERAS},
        **{f"card of the dataset {era}": folder.card(era) for era in ERAS},
        "tars, ledgers, plan and commit records after": folder.download("after"),
        "curated questions with their pictures": folder.curated,
        "recipes": folder.recipe("train").parent,
        "what the commands wrote to standard error": folder.log,
    }


def _figures(told: Told) -> dict[str, Any]:
    learnt = told.learnt
    return {
        "seconds": {name: round(value, 1) for name, value in told.seconds.items()},
        "funnel": told.curated.stats.funnel,
        "watched": {"step": learnt.step, "before": learnt.reward_before, "after": learnt.reward_after},
        "datasets": {
            era: one._asdict() | {"killed": one.killed and one.killed._asdict()} for era, one in told.datasets.items()
        },
        "scores": {era: one.as_json() for era, one in told.judged.items()},
        "gain": gain(told.judged)._asdict(),
        "prism": as_json(told.ranked),
    }
