"""The report page of a dataset: where it stands, what was rejected and why, what it has cost. Written after a run."""

from typing import Final

from caprl_core.recipe.models import CostExecution
from caprl_core.report.charts import Bar, bar_chart, funnel, number, share
from caprl_core.report.markup import Html
from caprl_core.report.page import Column, Headline, Section, beside, headline, page, pairs, paragraph, table
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.progress import Progress, progress

PAGE: Final = "report/index.html"
"""Key of the page in the dataset's store. Advisory: each run writes it anew."""
SHOWN: Final = 40
"""Reasons, and shards in quarantine, shown at most."""


def write_dataset_page(dataset: Dataset, cost: CostExecution) -> str:
    """Write the page and return its address in the store. Three listings, the commit records, one put.

    Raises `StoreError`.
    """
    dataset.store.put(PAGE, dataset_page(progress(dataset, cost), dataset.record.stage, dataset.store.uri))
    return f"{dataset.store.uri}/{PAGE}"


def dataset_page(now: Progress, stage: str, uri: str) -> bytes:
    """The whole file."""
    done = now.rows + now.rejected
    lead = [
        paragraph(f"Stage {stage}, in {uri}."),
        headline(
            [
                Headline("Rows", number(now.rows), f"{share(now.rows, now.samples)} of the planned samples"),
                Headline("Rejected", number(now.rejected), f"{share(now.rejected, done)} of the samples done"),
                Headline("Shards", number(now.shards_done), f"of {number(now.shards)}"),
                Headline("GPU-hours", f"{now.gpu_hours:,.2f}", "of committed shards"),
            ]
        ),
    ]
    sections = [_samples(now), _reasons(now), _cost(now)]
    if now.quarantined:
        sections.append(_quarantine(now))
    return page(now.name, lead, sections)


def _samples(now: Progress) -> Section:
    done = now.rows + now.rejected
    chart = funnel("Samples", [("planned", now.samples), ("done", done), ("rows", now.rows)], "samples")
    rows = [
        ["planned", number(now.samples), share(now.samples, now.samples)],
        ["done", number(done), share(done, now.samples)],
        ["rows", number(now.rows), share(now.rows, now.samples)],
        ["rejected", number(now.rejected), share(now.rejected, now.samples)],
        ["pending", number(now.pending_samples), share(now.pending_samples, now.samples)],
    ]
    rows += [[f"rows of attempt {name}", number(count), share(count, now.rows)] for name, count in now.attempts.items()]
    columns = [Column("samples"), Column("count", number=True), Column("share", number=True)]
    listing = table("Samples by what became of them", columns, rows)
    return Section("samples", "Samples", [beside(chart, "What is left after each step.", listing)])


def _reasons(now: Progress) -> Section:
    shown = list(now.reasons.items())[:SHOWN]
    if not shown:
        return Section("reasons", "Rejected", [paragraph("No sample was rejected.")])
    chart = bar_chart("Rejected samples by reason", ["samples"], [Bar(name, (count,)) for name, count in shown])
    columns = [Column("reason"), Column("samples", number=True), Column("of those done", number=True)]
    rows = [[name, number(count), share(count, now.rows + now.rejected)] for name, count in shown]
    listing = table("Rejected samples by reason", columns, rows)
    return Section("reasons", "Rejected", [beside(chart, "Every one has a line in its shard's ledger.", listing)])


def _cost(now: Progress) -> Section:
    entries = {
        "prompt tokens": number(now.prompt_tokens),
        "completion tokens": number(now.completion_tokens),
        "GPU-hours": f"{now.gpu_hours:,.3f}",
        f"cost, {now.currency}": f"{now.cost:,.2f}",
    }
    if now.rate:
        entries["samples/s over the newest commits"] = f"{now.rate:,.2f}"
    if now.pending_samples and now.eta_s is not None:
        entries["hours left at that rate"] = f"{now.eta_s / 3600:,.2f}"
    if now.pending_samples and now.gpu_hours_left is not None and now.cost_left is not None:
        entries["GPU-hours to come"] = f"{now.gpu_hours_left:,.3f}"
        entries[f"cost to come, {now.currency}"] = f"{now.cost_left:,.2f}"
    return Section("cost", "Tokens, time and cost", [pairs(entries)])


def _quarantine(now: Progress) -> Section:
    more = len(now.quarantined) - SHOWN
    listed = ", ".join(map(str, now.quarantined[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")
    parts: list[Html] = [
        paragraph(f"Shards {listed}."),
        paragraph("`caprl status` says where their verdicts with examples lie, `caprl release` decides.", quiet=True),
    ]
    return Section("quarantine", "In quarantine", parts)
