"""What a run raises as events, and that the shipped automations act on each, on a real server."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect import flow, get_run_logger
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import StateType
from prefect.events.worker import EventsWorker

from caprl_core.errors import EngineDeadError, IncompleteError, ShardQuarantinedError
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.events import ShardEvent
from caprl_core.shards.tally import RunStart
from caprl_core.shards.watcher import NoWatcher
from caprl_core.storage.layout import Unit
from caprl_core.world.stub_server import StubServer
from flows.caption_dataset import caption_dataset
from flows.shard_run import RunBooks
from support.drawn_dataset import draw_pictures, recipe_for
from support.prefect_commands import ROOT
from support.prefect_server import Server
from support.stub_thread import running_stub
from tasks.alerts import EVENTS_A_KIND
from tasks.sliding_window import Outcome

ALERTS = {
    "failure-budget": "caprl.failure-budget.exceeded",
    "slow-run": "caprl.rate.below-expectation",
    "stalled-lane": "caprl.lane.stalled",
    "quarantined-shard": "caprl.shard.quarantined",
    "engine-given-up": "caprl.engine.given-up",
}


@pytest.fixture(scope="session")
def automations(server: Server) -> dict[str, str]:
    """Alert -> id of its automation, each made from its file as the documents say."""
    found = {}
    for alert in ALERTS:
        server.prefect("automation", "create", "--from-file", f"docs/alerts/{alert}.yaml")
        name = yaml.safe_load((ROOT / "docs" / "alerts" / f"{alert}.yaml").read_text())["name"]
        made = server.client._client.post("/automations/filter").json()
        found[alert] = next(one["id"] for one in made if one["name"] == name)
    return found


@pytest.fixture
def recipe(tmp_path: Path) -> CaptionRecipe:
    return recipe_for(
        tmp_path,
        str(tmp_path / "out"),
        name=f"drawn-{uuid4().hex[:8]}",
        execution__alerts={"failure_budget": 0.1, "samples_per_second_at_least": 1e6, "window_s": 0.2},
    )


def books_of(recipe: CaptionRecipe, shards: int = 1000, **options: Any) -> RunBooks:
    samples = 10_000_000
    start = RunStart(recipe.name, "out", samples=samples, total=samples, done=0, rejected=0, shards=shards)
    return RunBooks("caption-dataset", recipe, start, NoWatcher(), get_run_logger(), **options)


def eventually(what: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def executed(server: Server, automation: str) -> list[dict[str, Any]]:
    """The server's own record that it carried out the automation's action."""
    wanted = f"prefect.automation.{automation}"
    return [
        one
        for one in server.events("prefect.automation.action.executed")
        if one["resource"]["prefect.resource.id"] == wanted
    ]


def told(server: Server, recipe: CaptionRecipe, kind: str) -> list[dict[str, Any]]:
    wanted = f"caprl.dataset.{recipe.name}"
    return [one for one in server.events(kind) if one["resource"]["prefect.resource.id"] == wanted]


@flow(persist_result=False)
def troubled(recipe: CaptionRecipe, trouble: Callable[[RunBooks], None]) -> UUID:
    """A run that has a kind of trouble."""
    books = books_of(recipe)
    trouble(books)
    return get_run_logger().extra["flow_run_id"]  # type: ignore[union-attr,index,return-value]


def slow(books: RunBooks) -> None:
    books.observe(ShardEvent(Unit(0, 0), "sample", 1, 0))
    books.tick()
    time.sleep(0.3)
    books.tick()


TROUBLES: dict[str, Callable[[RunBooks], None]] = {
    "slow-run": slow,
    "stalled-lane": lambda books: books.lane_stalled(3, "silent for 15 minutes"),
    "quarantined-shard": lambda books: books.note(
        Outcome(Unit(7, 0), None, ShardQuarantinedError("shard 7 is quarantined")), True
    ),
    "engine-given-up": lambda books: books.note(
        Outcome(Unit(7, 0), None, EngineDeadError("http://user:a-password@host: the engine is gone")), False
    ),
}


@pytest.mark.parametrize("alert", TROUBLES)
def test_an_alert_is_told_and_its_automation_acts(
    server: Server, automations: dict[str, str], recipe: CaptionRecipe, alert: str
) -> None:
    run = troubled.with_options(validate_parameters=False)(recipe, TROUBLES[alert])
    [event] = eventually(lambda: told(server, recipe, ALERTS[alert]))
    assert event["event"] == ALERTS[alert]
    assert event["resource"]["prefect.resource.name"] == recipe.name
    assert event["payload"]["uri"] == "out"
    assert event["payload"]["message"]
    assert "a-password" not in json.dumps(event)
    assert f"prefect.flow-run.{run}" in {one["prefect.resource.id"] for one in event["related"]}
    [done] = eventually(lambda: executed(server, automations[alert]))
    assert any(one["prefect.resource.id"] == f"prefect.event.{event['id']}" for one in done["related"]), done["related"]


def test_a_run_over_its_failure_budget_is_cancelled(
    server: Server, automations: dict[str, str], recipe: CaptionRecipe
) -> None:
    states: list[StateType | None] = []

    def spoil(books: RunBooks) -> None:
        for done in range(1, 201):
            books.observe(ShardEvent(Unit(0, 0), "sample", done, done // 2))
        books.tick()
        run = UUID(str(get_run_logger().extra["flow_run_id"]))  # type: ignore[union-attr,index]
        eventually(lambda: server.client.read_flow_run(run).state_type is StateType.CANCELLING)
        states.append(server.client.read_flow_run(run).state_type)

    troubled.with_options(validate_parameters=False)(recipe, spoil, return_state=True)
    assert states == [StateType.CANCELLING]
    [event] = eventually(lambda: told(server, recipe, ALERTS["failure-budget"]))
    assert (event["payload"]["rejected"], event["payload"]["done"]) == (100, 200)


def test_a_real_run_tells_of_its_quarantined_shard(server: Server, tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "images", 30)
    for path in sorted(images.iterdir())[10:20]:
        path.write_bytes(b"no picture at all")
    name = f"drawn-{uuid4().hex[:8]}"
    with running_stub() as stub:
        config = _written(tmp_path, images, stub, name)
        state = caption_dataset(config, return_state=True)
    assert state.is_failed()
    found = eventually(
        lambda: [one for one in server.events("caprl.shard") if one["resource"]["prefect.resource.name"] == name]
    )
    assert [one["payload"]["shard"] for one in found] == [1]
    assert "caprl release" in found[0]["payload"]["message"]


def _written(tmp_path: Path, images: Path, stub: StubServer, name: str) -> str:
    engine = {"kind": "openai", "urls": [stub.url], "served_name": "stub", "concurrency": 4}
    recipe = recipe_for(
        images,
        str(tmp_path / "out"),
        name=name,
        dataset__shard_samples=10,
        execution__engine=engine,
        execution__gate={"min_samples": 5},
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return str(path)


def test_a_lane_that_works_for_another_run_tells_of_its_engine_alone(server: Server, recipe: CaptionRecipe) -> None:
    @flow(persist_result=False)
    def slice_run() -> None:
        books = books_of(recipe, slice_of_a_run=True)
        slow(books)
        TROUBLES["quarantined-shard"](books)
        for _ in range(3):
            TROUBLES["engine-given-up"](books)

    slice_run()
    _drained()
    [event] = eventually(lambda: told(server, recipe, "caprl."))
    assert event["event"] == ALERTS["engine-given-up"]


def test_however_many_shards_are_quarantined_the_events_are_few(server: Server, recipe: CaptionRecipe) -> None:
    @flow(persist_result=False)
    def poisoned() -> None:
        books = books_of(recipe)
        for shard in range(EVENTS_A_KIND + 50):
            books.note(Outcome(Unit(shard, 0), None, ShardQuarantinedError(f"shard {shard}")), True)
        books.note(Outcome(Unit(999, 0), None, IncompleteError("no alert of its own")), False)

    poisoned()
    _drained()
    wanted = {"event": {"prefix": ["caprl."]}, "resource": {"id": [f"caprl.dataset.{recipe.name}"]}}
    total = eventually(
        lambda: (
            server.client._client.post("/events/filter", json={"filter": wanted}).json()["total"] >= EVENTS_A_KIND
            and server.client._client.post("/events/filter", json={"filter": wanted}).json()["total"]
        )
    )
    assert total == EVENTS_A_KIND


def test_a_run_goes_on_where_nobody_takes_events(recipe: CaptionRecipe, server: Server, monkeypatch: Any) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("no server")

    monkeypatch.setattr("tasks.alerts.emit_event", refuse)
    troubled.with_options(validate_parameters=False)(recipe, TROUBLES["stalled-lane"])


def _drained() -> None:
    """Every event of this process is with the server."""
    EventsWorker.instance().drain()


@contextlib.contextmanager
def mailbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web hook: its address, and what it was sent."""
    received: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=hook.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{hook.server_port}/", received
    finally:
        hook.shutdown()
        thread.join()
        hook.server_close()


def test_the_notification_reaches_a_block_of_the_operator(
    server: Server, recipe: CaptionRecipe, tmp_path: Path
) -> None:
    with mailbox() as (address, received):
        block = CustomWebhookNotificationBlock(
            name="caprl", url=address, json_data={"subject": "{{subject}}", "body": "{{body}}"}
        )
        identifier = block.save(f"caprl-{uuid4().hex[:8]}")
        text = (
            (ROOT / "docs" / "alerts" / "notify.yaml")
            .read_text()
            .replace("block_document_id: BLOCK-ID", f"block_document_id: {identifier}")
        )
        (tmp_path / "notify.yaml").write_text(text)
        server.prefect("automation", "create", "--from-file", str(tmp_path / "notify.yaml"))
        troubled.with_options(validate_parameters=False)(recipe, TROUBLES["stalled-lane"])
        [message] = eventually(lambda: received)
    assert message["subject"] == f"{recipe.name}: caprl.lane.stalled"
    assert message["body"] == "lane 3: silent for 15 minutes (out)"
