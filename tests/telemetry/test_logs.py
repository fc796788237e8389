"""Structured logs: JSON lines that say whose they are, of real processes with several shards at once."""

import json
import logging
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from caprl_core.errors import BadInputError
from caprl_core.recipe.models import LogsExecution
from caprl_core.shards.dataset import open_dataset
from caprl_core.storage.commit import list_units, read_commits
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from caprl_core.telemetry.json_logs import LONGEST, structured_logs
from caprl_core.telemetry.redaction import Redaction
from caprl_core.telemetry.shard_context import working_on
from caprl_core.world.stub_server import StubBehaviour, StubServer
from support.drawn_dataset import recipe_for
from support.stub_thread import running_stub

TESTS = Path(__file__).parents[1]


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_of_a_shards_work_carries_that_shard(images: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "lane.jsonl"
    recipe = recipe_for(
        images,
        str(tmp_path / "out"),
        dataset__shard_samples=5,
        execution__logs={"format": "json", "level": "DEBUG", "file": str(logs)},
    )
    path = tmp_path / "recipe.json"
    path.write_text(recipe.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "support.talking_lane", str(path)],
        env=os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(Store(recipe.execution.output), recipe)
    shard_of = {sample.key: shard for shard in range(12) for sample in dataset.plan.shard(shard)}
    attempts = {record.shard: record.attempt for record in read_commits(dataset.store, list_units(dataset.store))}
    assert len(attempts) == 12
    lines = lines_of(logs.read_text())

    talked = [line for line in lines if line["logger"] == "caprl_core.engines.talking"]
    assert len(talked) == 3 * 60
    for line in talked:
        kind, _, request = line["message"].partition(" ")
        assert line["shard"] == shard_of[request.split("/")[0]], line
        assert (line["revision"], line["attempt"]) == (0, 1)
        assert line["step"] in ("log read", "sample", "log flushed")
        assert ("error" in line) == (kind == "odd")
        assert kind != "odd" or f"ValueError: of {request}" in line["error"]

    steps: dict[int, list[str]] = defaultdict(list)
    for line in lines:
        assert (line["dataset"], line["flow_run"]) == ("drawn", "a-flow-run")
        if line["logger"] == "caprl_core.telemetry.lane_telemetry":
            steps[line["shard"]].append(line["step"])
            assert line["message"].startswith(line["step"])
            assert line["attempt_id"] in ("", attempts[line["shard"]])
    assert steps.keys() == attempts.keys()
    for life in steps.values():
        assert (life[0], life[-1]) == ("log read", "swept")
        assert (life.count("sample"), life.count("committed")) == (5, 1)
    order = [line["shard"] for line in talked]
    assert sum(a != b for a, b in zip(order, order[1:], strict=False)) > 12, "shards did not overlap"

    assert [line["message"] for line in lines if line["logger"] in ("a.package", "x")] == ["within"]


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub(StubBehaviour(api_key=KEY)) as server:
        yield server


KEY = "sk-engine-1e0f7a2c44"
PASSWORD = "url-password-77c1d0"


def run_flow(tmp_path: Path, images: Path, url: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, log lines, and all other output of a run as people start it."""
    logs = tmp_path / "logs.jsonl"
    engine = {"kind": "openai", "urls": [url], "served_name": "stub", "api_key_env": "MY_ENGINE", "concurrency": 4}
    recipe = recipe_for(
        images,
        str(tmp_path / "out"),
        dataset__shard_samples=10,
        execution__engine=engine | {"retries": 1, "dead_after_s": 0.5},
        execution__logs={"format": "json", "file": str(logs)},
        execution__gate={"min_samples": 5},
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "MY_ENGINE": KEY, "DB_PASSWORD": "hunter2-hunter2"}
    ended = subprocess.run(
        [sys.executable, "-m", "flows.caption_dataset", "--config", str(path), "--json"],
        env=environment,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return ended.returncode, lines_of(logs.read_text()), ended.stdout + ended.stderr


def test_a_run_writes_its_shards_lives_with_the_flow_runs_id(tmp_path: Path, images: Path, stub: StubServer) -> None:
    for path in sorted(images.iterdir())[20:30]:
        path.write_bytes(b"no picture at all")
    code, lines, rest = run_flow(tmp_path, images, stub.url)
    assert code == 5, rest
    [flow_run] = {line["flow_run"] for line in lines}
    assert len(flow_run) == 36
    committed = [line["shard"] for line in lines if line.get("step") == "committed"]
    assert sorted(set(committed)) == [0, 1, 3, 4, 5]
    [refused] = [line for line in lines if line["message"].startswith("attempt 1 ended: ShardQuarantinedError")]
    assert (refused["shard"], refused["level"], refused["attempt"]) == (2, "WARNING", 1)
    said = {line["logger"] for line in lines}
    assert {"prefect.flow_runs", "caprl_core.telemetry.lane_telemetry"} <= said
    told = [line for line in lines if line["logger"] == "prefect.flow_runs" and "shard" in line]
    assert not told, "the flow itself works on no shard"
    finished = [line for line in lines if line["logger"] == "prefect.task_runs" and "Completed()" in line["message"]]
    assert {(line["shard"], line["attempt"]) for line in finished} == {(shard, 1) for shard in (0, 1, 3, 4, 5)}


def test_no_line_has_a_credential(tmp_path: Path, images: Path, stub: StubServer) -> None:
    stub.behaviour = StubBehaviour(api_key="another")
    code, lines, rest = run_flow(tmp_path, images, stub.url.replace("://", f"://user:{PASSWORD}@"))
    assert code == 1, rest
    everything = json.dumps(lines)
    assert "check the API key" in everything
    for secret in (KEY, PASSWORD, "hunter2-hunter2"):
        assert secret not in everything
        assert secret not in rest


# The parts


def test_what_prefect_says_of_a_retry_carries_shard_and_attempt(logs: Path) -> None:
    settings = LogsExecution(format="json", file=str(logs))
    with structured_logs(settings, {}) as shards:
        shards.began(Unit(7, 1), 2)
        about = logging.getLogger("prefect.task_runs")
        about.warning("will be retried", extra={"task_run_name": "shard-000007.r1"})
        about.warning("created", extra={"task_run_name": "shard-000008"})
        about.warning("planned", extra={"task_run_name": "plan"})
    first, second, third = lines_of(logs.read_text())
    assert (first["shard"], first["revision"], first["attempt"]) == (7, 1, 2)
    assert (second["shard"], second["revision"], second["attempt"]) == (8, 0, 1)
    assert "shard" not in third


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


def test_the_human_format_adds_and_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("caprl_core.some.part")
    before = (list(logging.getLogger().handlers), logging.getLogger("caprl_core").level)
    with structured_logs(LogsExecution(), {}):
        assert (list(logging.getLogger().handlers), logging.getLogger("caprl_core").level) == before
        logger.info("nobody hears this")
    assert capfd.readouterr() == ("", "")


def test_afterwards_all_is_as_before(logs: Path) -> None:
    names = ("", "caprl_core", "flows", "tasks", "prefect.flow_runs", "prefect.task_runs")
    before = [(list(logging.getLogger(name).handlers), logging.getLogger(name).level) for name in names]
    with structured_logs(LogsExecution(format="json", file=str(logs)), {}):
        pass
    assert [(list(logging.getLogger(name).handlers), logging.getLogger(name).level) for name in names] == before


def test_lines_go_to_standard_error_unless_a_file_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with structured_logs(LogsExecution(format="json"), {"dataset": "d"}), working_on(Unit(7, 1), 2):
        logging.getLogger("tasks.x").info("said")
    out, err = capfd.readouterr()
    assert out == ""
    [line] = lines_of(err)
    del line["time"]
    assert line == {
        "level": "INFO",
        "dataset": "d",
        "shard": 7,
        "revision": 1,
        "attempt": 2,
        "attempt_id": "",
        "step": "",
        "logger": "tasks.x",
        "message": "said",
    }


def test_odd_messages_are_still_one_line_of_json(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest keeps what reaches the root's other handlers, and xdist cannot send a lone surrogate on.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with structured_logs(LogsExecution(format="json", file=str(logs)), {"lane": None}):
        logger = logging.getLogger("caprl_core.x")
        logger.warning('two\nlines, a quote ", a lone surrogate \udc80 and %s', object())
        logger.warning("x" * 100_000)
    first, second = lines_of(logs.read_text())
    assert first["message"].startswith('two\nlines, a quote ", a lone surrogate ?')
    assert len(second["message"]) < LONGEST + 10


def test_a_file_that_cannot_be_opened_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BadInputError, match=r"execution\.logs\.file"),
        structured_logs(LogsExecution(format="json", file=str(tmp_path / "file" / "x")), {}),
    ):
        pass


def test_lines_nobody_takes_are_lost_and_nothing_else(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    with structured_logs(LogsExecution(format="json"), {}):
        logging.getLogger("caprl_core").warning("into the void")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://user:pa55@host/v1?x=1", "at https://host/v1?x=1"),
        ("see s3://bucket/key and http://host:8000/v1", "see s3://bucket/key and http://host:8000/v1"),
        ("header 'Authorization': 'Bearer abc.def'", "header 'Authorization': 'Bearer …'"),
        ("Basic dXNlcjpwYTU1", "Basic …"),
        (
            "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=0f0f&X-Amz-Credential=AK%2F1&a=b failed",
            "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=…&X-Amz-Credential=…&a=b failed",
        ),
        ("key sk-1234567890 and part 4321-secret of it", "key … and part … of it"),
        ("a short key is a word: none", "a short key is a word: none"),
        ("postgresql+asyncpg://prefect:database-pw@db/prefect", "…"),
        ("the database-pw alone", "the … alone"),
        ("mail a@example.org about https://host", "mail a@example.org about https://host"),
    ],
)
def test_credentials_are_hidden_wherever_they_stand(text: str, shown: str) -> None:
    environment = {
        "OPENAI_API_KEY": "sk-1234567890",
        "PREFECT_API_AUTH_STRING": "admin:4321-secret",
        "OTHER_API_KEY": "none",
        "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://prefect:database-pw@db/prefect",
        "AWS_ACCESS_KEY_ID": "host",
        "HOME": "/home/https",
    }
    assert Redaction((), environment)(text) == shown
