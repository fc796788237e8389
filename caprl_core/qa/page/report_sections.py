"""The sections of a report page that are charts beside tables, from the counts of a curation."""

from collections.abc import Sequence
from typing import Final

from caprl_core.qa.evidence import is_above, is_below
from caprl_core.qa.page.report_words import SPLITS, STAGES, STEPS, reason_words, type_words
from caprl_core.qa.sets.stats import CurationStats
from caprl_core.recipe.qa import FilterRecipe
from caprl_core.report.charts import Bar, bar_chart, funnel, heat_map, number, share
from caprl_core.report.markup import Html, escaped
from caprl_core.report.page import Column, beside, named, paragraph, table, table_of

_CELLS: Final = 10  # the heat map shows accuracies rounded to a tenth at the finest
_NARROW: Final = 5  # a table of more steps of accuracy than this does not fit beside its chart
_MOST_KEPT: Final = 20  # more kept questions of an image than this are one bar
_NAMES: Final = 30  # reasons or types of a chart at most; stored stats could name any number


def funnel_parts(stats: CurationStats) -> list[Html]:
    """How many questions each step left, and what happened to the images in each stage."""
    steps = [(name, count) for name, count in stats.funnel.items() if name in STEPS]
    written = steps[0][1]
    rows, before = [], written
    for name, count in steps:
        figures = (number(count), number(before - count), share(count, written))
        rows.append((named(*STEPS[name]), *map(escaped, figures)))
        before = count
    columns = (Column("Step"), Column("Left", True), Column("Lost", True), Column("Of written", True))
    parts = [
        beside(
            funnel("Questions left after each step", [(STEPS[name].name, count) for name, count in steps], "questions"),
            "Blue: questions left after the step. Grey: what the step before had left.",
            table_of("Questions left after each step", columns, rows),
        )
    ]
    if stats.stages:
        parts.append(_stages(stats))
    counted = stats.votes + stats.failed_votes
    parts.append(
        paragraph(
            f"{number(stats.votes)} answers of the second model counted;"
            f" {number(stats.failed_votes)} requests failed ({share(stats.failed_votes, counted)}) and count neither"
            " for nor against a question.",
            quiet=True,
        )
    )
    return parts


def _stages(stats: CurationStats) -> Html:
    rows = []
    for name, counts in stats.stages.items():
        reasons = sorted(stats.rejected.get(name, {}).items(), key=lambda item: (-item[1], item[0]))
        why = ", ".join(f"{code.replace('_', ' ')} {number(count)}" for code, count in reasons[:_NAMES])
        figures = (number(counts.get(column, 0)) for column in ("samples", "rows", "rejected", "pending"))
        rows.append((named(STAGES.get(name, name), f"rejected: {why}" if why else ""), *map(escaped, figures)))
    columns = (
        Column("Stage"),
        Column("Images in", True),
        Column("Done", True),
        Column("Rejected", True),
        Column("Pending", True),
    )
    return table_of("Images in each stage, and why some were rejected", columns, rows)


def reasons_parts(stats: CurationStats) -> list[Html]:
    """Every reason a question was refused for, most frequent first."""
    merged = {
        name: stats.refused.get(name, 0) + stats.reasons.get(name, 0) for name in {**stats.refused, **stats.reasons}
    }
    found = sorted(((name, count) for name, count in merged.items() if count), key=lambda item: (-item[1], item[0]))
    if not found:
        return [paragraph("No question was refused.")]
    written = stats.funnel["written"]
    found = found[:_NAMES]
    words = {name: reason_words(name) for name, _ in found}
    bars = [Bar(words[name].name, (count,)) for name, count in found]
    rows = [(named(*words[name]), escaped(number(count)), escaped(share(count, written))) for name, count in found]
    columns = (Column("Reason"), Column("Questions", True), Column("Of written", True))
    return [
        beside(
            bar_chart("Refused questions by reason", ["questions"], bars, "questions"),
            "Each refused question has one reason: the first that applied.",
            table_of("Refused questions by reason", columns, rows),
        )
    ]


def accuracy_parts(stats: CurationStats, rules: FilterRecipe | None) -> list[Html]:
    """The grid of accuracies with and without the image, the limits in words, and how much a blind guess explains."""
    cells, parts = _coarser(stats.histogram), [paragraph(_limits(rules))]
    if not cells:
        return [*parts, paragraph("No question has been answered.")]
    last = len(cells) - 1
    values = [position / last if last else 0.0 for position in range(last + 1)]
    labels = [f"{value:.2f}" if last in (4, 8) else f"{value:.2g}" for value in values]
    outlined = set()
    if rules is not None:
        outlined = {
            (row, column)
            for row, visual in enumerate(values)
            for column, text in enumerate(values)
            if is_above(visual, rules.visual_above, rules.visual_inclusive)
            and is_below(text, rules.text_below, rules.text_inclusive)
        }
    title = "Questions by share of right answers with and without the image"
    chart = heat_map(
        title,
        labels,
        labels,
        cells,
        row_axis="right with image",
        column_axis="right without image",
        outlined=outlined,
        unit="questions",
    )
    columns = (Column("With \\ without"), *(Column(label, True) for label in labels))
    rows = [(labels[row], *(number(count) for count in cells[row])) for row in reversed(range(last + 1))]
    caption = (
        "Darker: more questions (logarithmic). Best is the upper left corner: right with the image, wrong without."
    )
    if outlined:
        caption += " Thick border: the accuracies at its edge are within both limits."
    return [*parts, beside(chart, caption, table(title, columns, rows), wide=last > _NARROW), paragraph(_leaks(stats))]


def _limits(rules: FilterRecipe | None) -> str:
    text = "Accuracy is the share of right answers, 0 to 1, over all orders of the options a question was asked in."
    if rules is None:
        return text
    above = "at least" if rules.visual_inclusive else "above"
    below = "at most" if rules.text_inclusive else "below"
    return (
        f"{text} Kept are questions with {above} {rules.visual_above:g} with the image and {below} {rules.text_below:g}"
        f" without it. Intervals hold the true share with {100 * rules.level:g} % confidence."
    )


def _leaks(stats: CurationStats) -> str:
    if stats.blind_pass_chance is None:
        return "No chance of passing by blind guessing can be given for these votes."
    steps = stats.funnel
    return (
        "Few answers prove little: who picks letters at random, without the image, passes the limit for one question"
        f" with a chance of {share(stats.blind_pass_chance, 1)} on average. Of the {number(steps['visual_pass'])}"
        f" questions answerable with the image, such guessing alone would take about"
        f" {number(round(stats.expected_leaks))} past it; {number(steps['text_pass'])} got past."
    )


def _coarser(histogram: Sequence[Sequence[int]]) -> list[list[int]]:
    """The histogram, summed into tenths where it is finer."""
    last = len(histogram) - 1
    if last <= _CELLS:
        return [list(row) for row in histogram]
    cells = [[0] * (_CELLS + 1) for _ in range(_CELLS + 1)]
    for row, counts in enumerate(histogram):
        for column, count in enumerate(counts):
            cells[(2 * row * _CELLS + last) // (2 * last)][(2 * column * _CELLS + last) // (2 * last)] += count
    return cells


def per_image_parts(stats: CurationStats) -> list[Html]:
    """How many questions of an image were kept, and how the set is split."""
    counts = list(stats.kept_per_image)
    labels = [str(place) for place in range(len(counts))]
    if len(counts) > _MOST_KEPT + 1:
        counts = [*counts[:_MOST_KEPT], sum(counts[_MOST_KEPT:])]
        labels = [*labels[:_MOST_KEPT], f"{_MOST_KEPT}+"]
    images = sum(counts)
    bars = [Bar(label, (count,)) for label, count in zip(labels, counts, strict=True)]
    rows = [(label, number(count), share(count, images)) for label, count in zip(labels, counts, strict=True)]
    columns = (Column("Kept questions"), Column("Images", True), Column("Share", True))
    splits = [
        (SPLITS.get(name, name), number(stats.images_kept.get(name, 0)), number(count))
        for name, count in stats.kept.items()
    ]
    split_columns = (Column("Part"), Column("Images", True), Column("Questions", True))
    return [
        beside(
            bar_chart("Images by number of kept questions", ["images"], bars, "images", whole=images),
            "Images with as many kept questions as the number at the left, of all images with an answered question.",
            table("Images by number of kept questions", columns, rows),
            table("Parts of the set; an image is in one part only", split_columns, splits),
        )
    ]


def letters_parts(stats: CurationStats) -> list[Html]:
    """The letters of the right answers as written and as curated."""
    before, after = stats.gold_before, stats.gold_after
    names = sorted({*before, *after})[:_NAMES]
    kept = sum(after.values())
    bars = [Bar(name, (before.get(name, 0), after.get(name, 0))) for name in names]
    rows = [
        (name, number(before.get(name, 0)), share(before.get(name, 0), kept), number(after.get(name, 0)),
         share(after.get(name, 0), kept))
        for name in names
    ]  # fmt: skip
    columns = (
        Column("Letter"),
        Column("As written", True),
        Column("Share", True),
        Column("As curated", True),
        Column("Share", True),
    )
    title = "Kept questions by letter of the right answer"
    return [
        beside(
            bar_chart(title, ["as written", "as curated"], bars, "questions", whole=kept),
            "A model must not profit from preferring a letter: with as many options each, all letters should be alike.",
            table(title, columns, rows),
        )
    ]


def types_parts(stats: CurationStats) -> list[Html]:
    """The words the questions ask with, answered and kept."""
    answered, kept = stats.types_answered, stats.types_kept
    names = sorted({*answered, *kept}, key=lambda name: (-answered.get(name, 0), name))[:_NAMES]
    bars = [Bar(type_words(name), (answered.get(name, 0), kept.get(name, 0))) for name in names]
    rows = [
        (type_words(name), number(answered.get(name, 0)), number(kept.get(name, 0)),
         share(kept.get(name, 0), answered.get(name, 0)))
        for name in names
    ]  # fmt: skip
    columns = (Column("Asks with"), Column("Answered", True), Column("Kept", True), Column("Kept of answered", True))
    title = "Questions by the word they ask with"
    return [
        beside(
            bar_chart(title, ["answered", "kept"], bars, "questions"),
            "Answered: the second model voted on it. Kept: it is part of the set.",
            table(title, columns, rows),
        )
    ]
