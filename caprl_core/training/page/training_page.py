"""The page of a training run, `report.html`: readable at any time, of a run that goes on as of one that has ended."""

from pathlib import Path
from typing import Final

from caprl_core.report.markup import Html, clipped, joined
from caprl_core.report.page import Section, page, paragraph
from caprl_core.training.page.curves import caption_parts, optimiser_parts, reward_parts, time_parts
from caprl_core.training.page.page_style import STYLE
from caprl_core.training.page.run_files import RunFiles, best_evaluation, read_run
from caprl_core.training.page.run_sections import evaluation_parts, key_figures, lead_parts, recipe_parts, step_parts
from caprl_core.training.page.watched import watched_pictures
from caprl_core.training.page.watched_cards import watched_card

REPORT: Final = "report.html"
_NAME: Final = 100


def write_training_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of the run in `folder` to `out` (`report.html` in the folder by default), and return its path.

    It shows what is there: files that are missing, cut short or half copied cost their part of the page alone. Only
    the columns that are shown are read, and no rollouts, however large the run is. An older page is replaced whole.
    Raises `BadInputError` when there is no such folder, and `OSError` when the page cannot be written.
    """
    path = folder / REPORT if out is None else out
    text = training_page(read_run(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(text)
    return partial.replace(path)


def training_page(run: RunFiles) -> bytes:
    """One HTML file of a few megabytes at most; the same bytes for the same files."""
    name = run.about.get("name")
    title = f"Training: {clipped(name if isinstance(name, str) else run.folder.resolve().name, _NAME)}"
    sections = [
        Section("reward", "Reward", reward_parts(run)),
        Section("captions", "Captions and answers", caption_parts(run)),
        Section("optimiser", "Policy and optimiser", [*optimiser_parts(run), *step_parts(run)]),
        Section("time", "Where the time goes", time_parts(run)),
        Section("pictures", "The same pictures over time", _pictures(run)),
        Section("evaluations", "Evaluations", evaluation_parts(run)),
        Section("recipe", "How this run was made", recipe_parts(run)),
    ]
    return page(title, [*lead_parts(run), key_figures(run)], sections, STYLE)


def _pictures(run: RunFiles) -> list[Html]:
    steps, shown = watched_pictures(run)
    if not shown:
        return [paragraph("No held-out picture with a caption to show yet.")]
    best = best_evaluation(run.evaluations)
    names: dict[int, str] = {steps[0]: "before" if steps[0] == 0 else "first"}
    for step, name in ((None if best is None else best["step"], "best"), (steps[-1], "last")):
        if step in steps:
            names[step] = f"{names[step]}, {name}" if step in names else name
    explained = (
        "Greedy captions of pictures the policy never learns from, at a few checkpoints. Marked words are new against"
        " the caption before. ✓ won: the reader, seeing nothing but the caption, chose the right option. ✗ lost, and"
        " what it said instead. — not asked about that caption."
    )
    return [
        paragraph(explained, quiet=True),
        joined(watched_card(place, one, steps, names) for place, one in enumerate(shown, 1)),
    ]
