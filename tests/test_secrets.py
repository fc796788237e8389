"""Credentials go to whom they are meant for and nowhere else: not into data, logs, pages, artifacts or errors.

Each run is a process of its own with a Prefect server of its own, or goes through workers of a production server, so
all it leaves can be searched: the bucket, its output, the files it made, Prefect's database with its logs, parameters,
states and artifacts.
"""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from caprl_core.storage.store import Store
from caprl_core.world.stub_server import StubBehaviour, StubServer
from support.drawn_dataset import draw_pictures, recipe_for
from support.postgres_server import PostgresServer
from support.prefect_box import PrefectBox
from support.prefect_on_postgres import PrefectServer
from support.stub_thread import running_stub

KEY = "sk-engine-7f3a9c51d2"
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "aws-secret-4be81c07a9",
    "AWS_SESSION_TOKEN": "aws-session-e2915fd603",
    "ENGINE_KEY": KEY,
    "OPENAI_API_KEY": "sk-openai-18d0c5e77b",
    "HF_TOKEN": "hf-token-90b6e4f1a8",
    "PREFECT_API_AUTH_STRING": "admin:prefect-c47d20ab96",
    "PREFECT_API_KEY": "pnu-prefect-5a61fe3b08",
}
URL_PASSWORD = "url-password-d83f6b2e14"
DATABASE_PASSWORD = "database-e60d1b7f42"
SECRETS = [value.rpartition(":")[2] for value in ENVIRONMENT.values()] + [URL_PASSWORD, DATABASE_PASSWORD]


def forms(secret: str) -> list[bytes]:
    """As it is, and inside base64 at each of the three offsets, as in an `Authorization` header."""
    found = [secret.encode()]
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + secret.encode() + b"yy")
        found.append(encoded[4 if offset else 0 : -4])
    return found


def readable(name: str, data: bytes) -> bytes:
    """Parquet is compressed: its values are searched, too."""
    if name.endswith(".parquet"):
        data += json.dumps(pq.read_table(io.BytesIO(data)).to_pylist(), default=str).encode()
    return data


class Run:
    """A finished run and all it left, by name."""

    def __init__(self, code: int, left: dict[str, bytes]) -> None:
        self.code = code
        self.left = left

    def leaks(self) -> list[str]:
        return [
            f"{secret} in {name}"
            for name, data in self.left.items()
            for secret in SECRETS
            if any(form in data for form in forms(secret))
        ]


def annotate(tmp_path: Path, stub: StubServer, bucket: str, url: str | None = None) -> Run:
    """Run the captioning flow with every credential set; `url` is the stub's, written otherwise."""
    engine = {"kind": "openai", "urls": [url or stub.url], "served_name": "stub", "api_key_env": "ENGINE_KEY"}
    made = recipe_for(
        draw_pictures(tmp_path / "images", 10),
        f"s3://{bucket}/drawn",
        execution__engine=engine | {"concurrency": 4, "retries": 1, "dead_after_s": 0.5},
        execution__gate__max_share={"*": 1.0},
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(made.model_dump(mode="json")))
    work = tmp_path / "work"
    work.mkdir()
    environment = os.environ | ENVIRONMENT | {"PREFECT_HOME": str(work / "prefect"), "TMPDIR": str(work)}
    ended = subprocess.run(
        [sys.executable, "-m", "flows.caption_dataset", "--config", str(recipe), "--json"],
        env={name: value for name, value in environment.items() if name != "PREFECT_API_URL"},
        capture_output=True,
        timeout=200,
        check=False,
    )
    left = {"standard output": ended.stdout, "standard error": ended.stderr}
    left |= {str(path): path.read_bytes() for path in work.rglob("*") if path.is_file()}
    store = Store(made.execution.output)
    left |= {item.key: readable(item.key, store.get(item.key)) for item in store.list("")}
    assert any("prefect.db" in name for name in left)
    return Run(ended.returncode, left)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub(StubBehaviour(api_key=KEY)) as server:
        yield server


def test_a_run_that_ends_well_leaves_no_secret(tmp_path: Path, stub: StubServer, bucket: str) -> None:
    run = annotate(tmp_path, stub, bucket)
    assert run.code == 0, run.left["standard output"][-2000:]
    assert any(name.endswith(".tar") for name in run.left)
    assert any(name.endswith(".ledger.parquet") for name in run.left)
    assert not run.leaks()


def test_a_run_whose_key_is_refused_leaves_no_secret(tmp_path: Path, stub: StubServer, bucket: str) -> None:
    stub.behaviour = StubBehaviour(api_key="another")
    run = annotate(tmp_path, stub, bucket, stub.url.replace("://", f"://user:{URL_PASSWORD}@"))
    assert run.code != 0
    assert b"check the API key" in run.left["standard output"]
    assert not run.leaks()


def test_refused_requests_leave_no_secret_in_the_published_ledger(
    tmp_path: Path, stub: StubServer, bucket: str
) -> None:
    stub.behaviour = StubBehaviour(api_key=KEY, script=["400"] * 4)
    run = annotate(tmp_path, stub, bucket)
    ledgers = [data for name, data in run.left.items() if name.endswith(".ledger.parquet")]
    assert any(b"HTTP 400" in data for data in ledgers), run.left["standard output"][-2000:]
    assert not run.leaks()


def test_a_planted_secret_is_found_in_each_of_its_forms() -> None:
    header = b"Basic " + base64.b64encode(f"someone:{URL_PASSWORD}".encode())
    table = io.BytesIO()
    pq.write_table(pa.table({"detail": [f"a page said {KEY}"] * 50}), table, compression="zstd")
    left = {"a log": f"at http://user:{URL_PASSWORD}@host".encode(), "a trace": header, "a page": b"nothing"}
    left["x.parquet"] = readable("x.parquet", table.getvalue())
    assert {leak.rpartition(" in ")[2] for leak in Run(0, left).leaks()} == {"a log", "a trace", "x.parquet"}


@pytest.mark.production
@pytest.mark.timeout(900)
def test_lanes_of_a_pool_leave_no_secret(tmp_path: Path, bucket: str, stub: StubServer) -> None:
    stub.behaviour = StubBehaviour(script=["400"] * 3)  # they end in the ledger, with the server's words
    url = stub.url.replace("://", f"://user:{URL_PASSWORD}@")
    engine = {"kind": "openai", "urls": [url], "served_name": "stub", "api_key_env": "ENGINE_KEY"}
    recipe = recipe_for(
        draw_pictures(tmp_path / "images", 60),
        f"s3://{bucket}/drawn",
        dataset__shard_samples=10,
        execution__engine=engine | {"concurrency": 4, "retries": 1, "dead_after_s": 0.5},
        execution__gate__max_share={"*": 1.0},
    )
    config = tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    work = tmp_path / "work"
    work.mkdir()
    auth = ENVIRONMENT["PREFECT_API_AUTH_STRING"]
    credentials = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("PREFECT")}
    with PostgresServer(DATABASE_PASSWORD) as postgres, PrefectServer(postgres.url, work, auth=auth) as server:
        box = PrefectBox(server, work, os.environ | credentials | {"TMPDIR": str(work)})
        box.deploy(config=str(config), lanes=2)
        with box.worker("cpu-pool"), box.worker("gpu-pool", "--limit", "1", CUDA_VISIBLE_DEVICES="fake0"):
            box.prefect("deployment", "run", "caption-dataset/caption-dataset", "-p", "max_shards=3")
            box.eventually(lambda: bool(box.runs("caption-dataset", *ENDED)), 400)
            assert box.runs("caption-dataset", "COMPLETED"), box.words()
            stub.behaviour = StubBehaviour(api_key="another")  # and a lane whose key is refused
            box.prefect("deployment", "run", "caption-shards/caption-shards", "-p", "shards=[4]")
            box.eventually(lambda: bool(box.runs("caption-shards", "FAILED")), 200)
        left = {f"api: {path}": json.dumps(box.ask(path)).encode() for path in LISTS}
        left["database"] = postgres.dump()
        postgres.kill()
        with server.http() as client:
            client.post("/flow_runs/filter", json={})  # without its database the server fails, and says how
        postgres.start()
        left["PostgreSQL's log"] = postgres.log.encode()
    left |= {str(path): path.read_bytes() for path in work.rglob("*") if path.is_file()}
    store = Store(recipe.execution.output)
    left |= {item.key: readable(item.key, store.get(item.key)) for item in store.list("")}
    assert b"check the API key" in left["api: /flow_runs/filter"], "the error of the lane is among what is searched"
    assert b"shard-000000" in left["api: /task_runs/filter"]
    assert b"drawn-progress" in left["api: /artifacts/filter"]
    assert b"rows, " in left["api: /logs/filter"]
    assert any(name.endswith(".ledger.parquet") and b"HTTP 400" in data for name, data in left.items())
    assert b"Traceback" in left[str(server.log)]
    assert not Run(0, left).leaks()


ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
KINDS = ("deployments", "flow_runs", "task_runs", "logs", "artifacts", "events", "work_pools", "block_documents")
LISTS = [f"/{kind}/filter" for kind in KINDS]
"""Lists of the API that what this project writes, or is given, may end up in."""
