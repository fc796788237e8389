"""Chapter 8: Prism on drawn pictures, of the two datasets and of the best captions there could be."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from caprl_core.world.demo.commands import Commands
from caprl_core.world.demo.files import ERAS, DemoFolder
from caprl_core.world.demo.following import summary_of
from caprl_core.world.demo.terminal import Terminal

PERFECT: Final = "perfect"
"""Captions that say everything there is: what the judge makes of them is the most there is to reach."""
RANKED: Final = (*ERAS, PERFECT)


class Ranked(NamedTuple):
    """Whose captions, the share of questions answered from them with its interval, and where the results lie."""

    name: str
    mean: float
    low: float | None
    high: float | None
    results: Path

    @property
    def page(self) -> Path:
        """The page of the evaluation."""
        return self.results / "index.html"


def rank(recipe: Path, folder: DemoFolder, commands: Commands, terminal: Terminal) -> list[Ranked]:
    """Judge all three, worst first as it should be; show scores and the comparison of the two datasets."""
    captions: dict[str, Path] = {era: folder.captions(era) for era in ERAS}
    captions[PERFECT] = folder.benchmark / "perfect.jsonl"
    found = [_judged(recipe, name, file, commands, terminal) for name, file in captions.items()]
    before, after, _ = found
    commands.run("prism", "compare", before.results, after.results)
    terminal.say(ranking_line(found))
    return found


def ranking_line(found: Sequence[Ranked]) -> str:
    """Whether the order is beyond doubt."""
    if apart(found):
        return "the intervals do not touch: " + " < ".join(f"{one.name} {one.mean:.3f}" for one in found)
    return "the intervals touch or the order is another: too few pictures or steps tell nothing"


def apart(found: Sequence[Ranked]) -> bool:
    """Each interval ends below the next one's beginning."""
    return all(
        one.high is not None and other.low is not None and one.high < other.low for one, other in pairwise(found)
    )


def as_json(found: Sequence[Ranked]) -> list[dict[str, Any]]:
    """The figures."""
    return [{"captions": one.name, "mean": one.mean, "low": one.low, "high": one.high} for one in found]


def _judged(recipe: Path, name: str, captions: Path, commands: Commands, terminal: Terminal) -> Ranked:
    with (
        commands.follow("prism", "judge", recipe, "--captions", captions, "--name", name, "--json") as run,
        terminal.busy("starting") as busy,
    ):
        summary: Mapping[str, Any] = summary_of(run, busy)["stages"]["score"]
    mean = summary["mean"]
    terminal.say(f"{name}: {mean['value']:.3f} of the questions ({mean['low']:.3f} to {mean['high']:.3f})")
    return Ranked(name, mean["value"], mean["low"], mean["high"], Path(summary["uri"]))
