"""A run as artifacts on a real server: what they say, that they stay small, and that they are changed in place."""

import json
import logging
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_run_logger
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact

from caprl_core.errors import IncompleteError, ShardQuarantinedError
from caprl_core.recipe.models import CostExecution, StorageExecution
from caprl_core.shards.events import ShardEvent, ShardResult
from caprl_core.shards.tally import RunStart, Tally
from caprl_core.storage.commit import Usage
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.page_address import page_address
from support.commit_records import commit_record
from support.prefect_server import Server
from tasks.reports import RunReport
from tasks.shard_table import TABLE_ROWS, ShardTable
from tasks.sliding_window import Outcome

SHARDS = 5000
START = RunStart("drawn", "s3://b/drawn", samples=5_000_000, total=5_000_000, done=0, rejected=0, shards=SHARDS)
COST = CostExecution(gpus=2, gpu_hour_price=3.0, currency="EUR")


def committed(shard: int, rejected: int = 0, *, won: bool = True) -> ShardResult:
    usage = Usage(prompt_tokens=1, completion_tokens=123_456, engine_s=360.0, wall_s=600.0)
    attempts = {"1": 990 - rejected, "2": 10}
    record = commit_record(Unit(shard, 0), samples=1000, rejected=rejected, attempts=attempts, usage=usage)
    return ShardResult(record.unit, record, won=won, resumed=5)


def table_of(*outcomes: Outcome) -> ShardTable:
    table = ShardTable(logging.getLogger("nobody"))
    for outcome in outcomes:
        table.add(outcome, "3")
    return table


def test_a_row_tells_what_became_of_a_shard() -> None:
    now = Tally(START)
    now.event(ShardEvent(Unit(4, 0), "sample", 17, 1))
    rows = table_of(
        Outcome(Unit(0, 0), committed(0), None),
        Outcome(Unit(1, 0), committed(1, won=False), None),
        Outcome(Unit(2, 0), None, ShardQuarantinedError("too many are empty")),
        Outcome(Unit(3, 1), None, IncompleteError("x" * 1000)),
    ).rows(now.snapshot())
    assert [(row["shard"], row["state"]) for row in rows] == [
        ("000002.r000", "quarantined"),
        ("000003.r001", "failed"),
        ("000004.r000", "working"),
        ("000000.r000", "committed"),
        ("000001.r000", "found committed"),
    ]
    assert rows[0]["reasons"] == "too many are empty"
    assert len(rows[1]["reasons"]) == 300
    assert rows[2]["done"] == 17
    assert rows[3] == {
        "shard": "000000.r000",
        "state": "committed",
        "rows": 1000,
        "rejected": 0,
        "reasons": "",
        "attempts": "1: 990, 2: 10",
        "resumed": 5,
        "tokens": 123_456,
        "seconds": 600.0,
        "engine_s": 360.0,
        "lane": "3",
    }


def test_of_many_shards_those_worth_a_look_are_kept() -> None:
    outcomes = [Outcome(Unit(shard, 0), committed(shard, rejected=shard == 17), None) for shard in range(SHARDS)]
    outcomes[4000] = Outcome(Unit(4000, 0), None, IncompleteError("lost"))
    table = table_of(*outcomes)
    rows = table.rows(Tally(START).snapshot())
    assert len(rows) == TABLE_ROWS
    assert [row["shard"] for row in rows[:2]] == ["004000.r000", "000017.r000"]
    assert "5,000 shards" in table.words()
    assert len(json.dumps(rows)) < 300_000


@flow(persist_result=False)
def reported() -> str:
    """A run of 5,000 shards, reported as it goes."""
    logger = get_run_logger()
    tally, report = Tally(START), RunReport("caption-dataset", START, logger, COST)
    logger.setLevel(50)
    for shard in range(1000):
        result = committed(shard, rejected=1)
        tally.event(ShardEvent(result.unit, "sample", 1000, 1))
        tally.finished(result)
        report.add(Outcome(result.unit, result, None))
        if shard in (10, 500):
            report.progress(tally.snapshot(), at_once=True)
    report.progress(tally.snapshot(), at_once=True)
    report.link(lambda: ("file:///out/report/index.html", "/out/report/index.html"))
    report.finish({"rows": 999_000, "reasons": {"empty": 1000}})
    report.settle()
    return str(logger.extra["flow_run_id"])  # type: ignore[union-attr,index]


def artifacts(server: Server, run: str) -> list[Artifact]:
    return server.client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(exists_=True)),
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run)])),
    )


def test_figures_and_shards_are_artifacts_of_the_run_changed_in_place(server: Server) -> None:
    found = artifacts(server, reported())
    assert sorted(str(one.key) for one in found) == [
        "caption-dataset-drawn-figures",
        "caption-dataset-drawn-page",
        "caption-dataset-drawn-progress",
        "caption-dataset-drawn-shards",
        "caption-dataset-drawn-summary",
    ], "one of each, however often it was changed"
    by_key: dict[str, Any] = {str(one.key).removeprefix("caption-dataset-drawn-"): one for one in found}
    assert by_key["progress"].data == 20.0
    told = by_key["progress"].description
    assert "1,000,000 of 5,000,000 samples, 1,000 rejected" in told
    assert "200.0 GPU-h spent, 800.0 to come, 600.00 EUR spent, 2,400.00 to come" in told
    figures = by_key["figures"].data
    assert "| samples | 1,000,000 | 4,000,000 |" in figures
    assert "| GPU-hours | 200.0 | 800.0 |" in figures
    assert "| cost, EUR | 600.00 | 2,400.00 |" in figures
    rows = json.loads(by_key["shards"].data)
    assert len(rows) == 1000
    assert "[report page](file:///out/report/index.html)" in by_key["page"].data
    assert "| rows | 999000 |" in by_key["summary"].data


def test_a_server_that_is_away_costs_the_artifacts_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no server")

    for name in ("create_progress_artifact", "create_markdown_artifact", "create_table_artifact"):
        monkeypatch.setattr(f"tasks.reports.{name}", refuse)
    found = artifacts(server, reported())
    assert [str(one.key) for one in found] == ["caption-dataset-drawn-page"]


def test_a_server_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, published = threading.Event(), []

    def wait(*_: object, key: str, **__: object) -> None:
        answers.wait()
        published.append(key)

    for name in ("create_progress_artifact", "create_markdown_artifact", "create_table_artifact"):
        monkeypatch.setattr(f"tasks.reports.{name}", wait)
    tally, report = Tally(START), RunReport("caption-dataset", START, logging.getLogger("nobody"), COST)
    for _ in range(50):
        report.progress(tally.snapshot(), at_once=True)
    assert not published, "it was waited for"
    answers.set()
    report.settle()
    assert len(published) <= 6, "what nobody had taken was replaced by what is newer"
    assert {key.rpartition("-")[2] for key in published} == {"progress", "figures", "shards"}


@pytest.mark.parametrize(
    ("uri", "endpoint", "address"),
    [
        (
            "s3://bucket/a b/page.html",
            "http://user:secret@10.0.0.5:9000/",
            "http://10.0.0.5:9000/bucket/a%20b/page.html",
        ),
        ("s3://bucket/x/page.html", None, "https://bucket.s3.eu-west-1.amazonaws.com/x/page.html"),
    ],
)
def test_a_pages_address_is_one_a_browser_takes_and_has_no_credential(
    uri: str, endpoint: str | None, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert page_address(uri, StorageExecution(endpoint=endpoint, region="eu-west-1")) == address


def test_a_local_pages_address_is_a_file(tmp_path: Path) -> None:
    assert page_address(f"{tmp_path}/a b.html", StorageExecution()) == f"file://{tmp_path}/a%20b.html"
