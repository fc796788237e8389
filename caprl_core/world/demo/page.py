"""Last: one page that shows it all, without a script and without the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from caprl_core.qa.page.report_sections import funnel_parts
from caprl_core.report.charts import NOTHING, Bar, bar_chart, number, share
from caprl_core.report.interval_chart import Measure, MeasuredBar, interval_chart
from caprl_core.report.markup import Html, clipped, escaped, isolated, joined
from caprl_core.report.page import (
    Column,
    Headline,
    Section,
    beside,
    headline,
    named,
    page,
    paragraph,
    table,
    table_of,
)
from caprl_core.training.page.curves import duration, reward_parts
from caprl_core.training.page.page_style import STYLE
from caprl_core.training.page.run_files import read_run
from caprl_core.training.page.watched import WatchedCaption, WatchedPicture
from caprl_core.training.page.watched_cards import watched_card
from caprl_core.world.demo.annotating import Annotated
from caprl_core.world.demo.curating import Curated
from caprl_core.world.demo.files import ERAS, DemoFolder, Era
from caprl_core.world.demo.learning import Learnt
from caprl_core.world.demo.ranking import Ranked, ranking_line
from caprl_core.world.demo.scoring import Judged, gain, table_rows

SHOWN: Final = 12
"""Pictures side by side; the first ones, whatever their captions."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the page tells. seconds: of each chapter by its title; links: what a file is -> its path."""

    curated: Curated
    learnt: Learnt
    datasets: Mapping[Era, Annotated]
    judged: Mapping[Era, Judged]
    ranked: Sequence[Ranked]
    seconds: Mapping[str, float]
    links: Mapping[str, Path]


def demo_page(told: Told, folder: DemoFolder) -> bytes:
    """One HTML file of some hundred kB; its links lead to the files around it."""
    sections = [
        Section("compared", "Before and after", _compared(told)),
        Section("prism", "Prism", _ranking(told.ranked)),
        Section("questions", "Questions, from written to kept", funnel_parts(told.curated.stats)),
        Section("learning", "Learning", [_learning(told), *reward_parts(read_run(folder.training))]),
        Section("pictures", "The same pictures before and after", _pictures(told, folder)),
        Section("datasets", "The datasets", [_datasets(told.datasets)]),
        Section("files", "Files and times", [_links(told.links, folder), _times(told.seconds)]),
    ]
    return page("CapRL on drawn pictures", [_introduction(), _headline(told)], sections, STYLE)


def _introduction() -> Html:
    return paragraph(
        "Drawn pictures with known content, four tiny models and the commands of the factory, on one machine: a model"
        " that sees wrote questions about pictures, another kept those that need the picture, and a captioner learnt by"
        " GRPO to say what a reader must know to answer them. Below, the captions it wrote before and after, of"
        " pictures that nothing was trained on."
    )


def _headline(told: Told) -> Html:
    funnel = told.curated.stats.funnel
    before, after = (told.judged[era] for era in ERAS)
    dataset = told.datasets["after"]
    return headline(
        [
            Headline("Answered after", share(after.reader, 1), f"of the questions; {share(before.reader, 1)} before"),
            Headline("Questions kept", number(funnel["kept"]), f"of {number(funnel['written'])} written"),
            Headline("Rows of each dataset", number(dataset.rows), f"of {number(dataset.samples)} samples"),
            Headline("Time", duration(sum(told.seconds.values())), "for everything on this page"),
        ]
    )


def _compared(told: Told) -> list[Html]:
    rows = table_rows(told.judged)
    columns = (Column("On the held-out pictures"), Column("Before", True), Column("After", True))
    cells = [(named(row.name, row.meaning), escaped(row.before), escaped(row.after)) for row in rows]
    mean, error = gain(told.judged)
    asked = sum(len(caption.asked) for caption in told.judged["after"].captions.values())
    explained = (
        f"{told.judged['after'].pictures} pictures, {asked:,} questions. The tiny reader answers {mean:+.3f} more of"
        f" them after training, with a standard error of {error:.3f} over pictures. The reader of rules and the share"
        " of true facts stand beside it because a captioner may learn to please its reader."
    )
    bars = [Bar(row.name, row.shares) for row in rows if row.shares is not None]
    chart = bar_chart("What the captions are worth", ERAS, bars, "share")
    return [
        beside(chart, "Shares, 0 to 1.", table_of("What the captions are worth", columns, cells)),
        paragraph(explained, quiet=True),
    ]


def _ranking(ranked: Sequence[Ranked]) -> list[Html]:
    columns = (Column("Captions"), Column("Answered", True), Column("From", True), Column("To", True))
    rows = [[escaped(one.name), *(escaped(_three(value)) for value in (one.mean, one.low, one.high))] for one in ranked]
    explained = (
        f"{ranking_line(ranked).capitalize()}. Intervals of 95 % over pictures; perfect captions name all that"
        " was drawn. Here every question counts once, above every picture."
    )
    bars = [MeasuredBar(one.name, (Measure(one.mean, one.low, one.high),)) for one in ranked]
    title = "Share of the benchmark's questions"
    chart = interval_chart(title, ("answered",), bars)
    return [beside(chart, "Per cent.", table_of(title, columns, rows)), paragraph(explained, quiet=True)]


def _three(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _learning(told: Told) -> Html:
    return paragraph(
        "The reward is the share of a picture's questions that the reader answers from the caption alone. The captioner"
        f" that wrote the second dataset is the one of step {told.learnt.step:,}, chosen by held-out pictures that are"
        " not those of the comparison."
    )


def _pictures(told: Told, folder: DemoFolder) -> list[Html]:
    # The cards name their columns by step: 0 is the start, and the other one whatever was chosen.
    steps = {"before": 0, "after": max(1, told.learnt.step)}
    names = {step: era for era, step in steps.items()}
    keys = list(dict.fromkeys(key for era in ERAS for key in told.judged[era].captions))[:SHOWN]
    cards = [
        watched_card(place, _watched(key, told.judged, steps, folder), list(steps.values()), names)
        for place, key in enumerate(keys, 1)
    ]
    explained = (
        "Marked words are new. ✓ won: the reader, seeing nothing but the caption, chose the right option. ✗ lost, and"
        " what it said instead."
    )
    return [paragraph(explained, quiet=True), joined(cards)]


def _watched(key: str, found: Mapping[Era, Judged], steps: Mapping[str, int], folder: DemoFolder) -> WatchedPicture:
    captions = {}
    for era in ERAS:
        one = found[era].captions.get(key)
        if one is not None:
            captions[steps[era]] = WatchedCaption(one.text, one.tokens, False, one.accuracy, None, one.asked)
    return WatchedPicture(key, folder.unseen / f"{key}.png", captions)


def _datasets(datasets: Mapping[Era, Annotated]) -> Html:
    reasons = list(dict.fromkeys(reason for era in ERAS for reason in datasets[era].reasons))
    rows = [
        ("samples planned", *(number(datasets[era].samples) for era in ERAS)),
        ("rows", *(number(datasets[era].rows) for era in ERAS)),
        *(
            (f"rejected: {reason.replace('_', ' ')}", *(number(datasets[era].reasons.get(reason, 0)) for era in ERAS))
            for reason in reasons
        ),
    ]
    told = [table("Every planned sample is a row or a line with a reason", _columns(), rows)]
    for era in ERAS:
        left = datasets[era].killed
        if left is not None:
            told.append(
                paragraph(
                    f"The run of the dataset {era} was killed by SIGKILL: {left.committed} samples were committed and"
                    f" {left.logged} more in its log. The same command went on from there, and none of these was asked"
                    " again."
                )
            )
    return joined(told)


def _columns() -> Sequence[Column]:
    return (Column("Samples"), *(Column(era.capitalize(), True) for era in ERAS))


def _links(links: Mapping[str, Path], folder: DemoFolder) -> Html:
    items = "".join(
        f'<li><a href="{escaped(path.relative_to(folder.root).as_posix())}">{isolated(clipped(what, 100))}</a></li>'
        for what, path in links.items()
    )
    return Html(f"<ul>{items}</ul>")


def _times(seconds: Mapping[str, float]) -> Html:
    rows = [(chapter, f"{value:.0f}") for chapter, value in seconds.items()]
    return table("Seconds of each chapter", (Column("Chapter"), Column("s", True)), rows)
