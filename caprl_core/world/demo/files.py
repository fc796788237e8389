"""Where the demo keeps what it makes, and how much of everything there is."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Era = Literal["before", "after"]
"""Of the captioner: before it has learnt, and after."""
ERAS: Final[tuple[Era, ...]] = ("before", "after")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much the demo does: the usual sizes take some minutes on two cores.

    curated:   training pictures that questions are written about.
    watched:   held-out pictures that training looks at, to choose its best checkpoint.
    captioned: other held-out pictures, which each of the two datasets is about.
    steps:     of training.
    """

    curated: int = 128
    watched: int = 64
    captioned: int = 96
    steps: int = 60


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Paths below `root`."""

    root: Path

    @property
    def taught(self) -> Path:
        """Folder of the pictures that questions are curated about."""
        return self.root / "pictures" / "train"

    @property
    def unseen(self) -> Path:
        """Folder of the pictures that are captioned, and of the files that cannot be."""
        return self.root / "pictures" / "held-out"

    @property
    def annotations(self) -> Path:
        """ShareGPT4V-style list of what is to be captioned."""
        return self.root / "pictures" / "annotations.json"

    @property
    def watched(self) -> Path:
        """True questions about the pictures that training watches."""
        return self.root / "questions" / "watched.parquet"

    @property
    def asked(self) -> Path:
        """True questions about the captioned pictures."""
        return self.root / "questions" / "asked.parquet"

    @property
    def curated(self) -> Path:
        """Folder of the exported curated questions."""
        return self.root / "questions" / "curated"

    @property
    def curation(self) -> Path:
        """Output of the curation."""
        return self.root / "curation"

    @property
    def benchmark(self) -> Path:
        """True questions about the captioned pictures as a benchmark."""
        return self.root / "benchmark"

    @property
    def evaluation(self) -> Path:
        """Output of the evaluations."""
        return self.root / "prism"

    @property
    def training(self) -> Path:
        """The training run."""
        return self.root / "learning"

    @property
    def page(self) -> Path:
        """The page that shows it all."""
        return self.root / "index.html"

    @property
    def figures(self) -> Path:
        """The same for programs."""
        return self.root / "demo.json"

    @property
    def log(self) -> Path:
        """What the commands write to standard error."""
        return self.root / "commands.log"

    @property
    def prefect(self) -> Path:
        """Database of the runs."""
        return self.root / "prefect"

    def recipe(self, name: str) -> Path:
        """A recipe that a command is given."""
        return self.root / "recipes" / f"{name}.yaml"

    def captions(self, era: Era) -> Path:
        """The exported captions of a dataset."""
        return self.root / "captions" / f"{era}.jsonl"

    def scores(self, era: Era) -> Path:
        """What each of its captions earned."""
        return self.root / "captions" / f"{era}-scores.jsonl"

    def card(self, era: Era) -> Path:
        """The dataset's card."""
        return self.root / "captions" / f"{era}-card.md"

    def download(self, era: Era) -> Path:
        """A verified copy of a dataset."""
        return self.root / "captions" / f"{era}-download"

    def clear(self) -> None:
        """Make the folder, and remove from it what an earlier demo made, and nothing else."""
        self.root.mkdir(parents=True, exist_ok=True)
        made = ("pictures", "questions", "benchmark", "curation", "learning", "captions", "prism", "recipes", "prefect")
        for name in made:
            shutil.rmtree(self.root / name, ignore_errors=True)
        for path in (self.page, self.figures, self.log):
            path.unlink(missing_ok=True)
        for path in (self.annotations, self.watched, self.recipe("any"), self.captions("before")):
            path.parent.mkdir(parents=True, exist_ok=True)
