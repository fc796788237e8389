"""Chapter 2: a model that sees writes questions, another answers them with and without the picture, some are kept."""

from pathlib import Path
from typing import NamedTuple

from caprl_core.qa.finish import read_stats
from caprl_core.qa.sets.stats import CurationStats
from caprl_core.recipe.load import load_qa_recipe
from caprl_core.world.demo.commands import Commands, DemoError
from caprl_core.world.demo.files import DemoFolder
from caprl_core.world.demo.following import summary_of
from caprl_core.world.demo.terminal import Terminal


class Curated(NamedTuple):
    """What came of it; `page` is the report of the curated set."""

    stats: CurationStats
    page: Path


def curate(recipe: Path, folder: DemoFolder, commands: Commands, terminal: Terminal) -> Curated:
    """Run the curation, show its funnel, export the kept questions. Raises `DemoError`."""
    with commands.follow("qa", "run", recipe, "--json") as run, terminal.busy("starting") as busy:
        filtered = summary_of(run, busy)["stages"]["filter"]
    commands.run("qa", "stats", recipe)
    stats = read_stats(load_qa_recipe(recipe), filtered["set"])
    if not stats.kept:
        raise DemoError("the curation has kept no question, so there is nothing to learn from")
    commands.run("qa", "export", recipe, "--out", folder.curated)
    return Curated(stats, Path(filtered["page"]))
