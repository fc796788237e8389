"""The bucket goes away, or the credentials expire, while a lane works: it waits, keeps its samples, asks none twice."""

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from caprl_core.engines.protocol import Request
from caprl_core.errors import StoreAwayError, StoreError
from caprl_core.recipe.models import StorageExecution
from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.verify import verify
from caprl_core.storage import aws
from caprl_core.storage.layout import Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.patience import PatientStore
from caprl_core.storage.store import Store
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine
from support.flaky_proxy import FlakyProxy
from support.token_gate import TokenGate

WINDOW = 8
RUNNER = {"flush_s": 0.05, "decode_workers": 1, "window": WINDOW}
STORAGE = {"timeout_s": 3.0, "retries": 2, "retry_timeout_s": 4.0, "outage_s": 60.0}


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FlakyProxy]:
    made = FlakyProxy(s3_endpoint)
    yield made
    made.close()


class Counted(EchoEngine):
    """Tells when so many requests have been answered, and how often each sample was asked."""

    def __init__(self, tell_at: int) -> None:
        super().__init__(4, latency_s=lambda _: 0.02, asked=self._note)
        self.reached = threading.Event()
        self._tell_at = tell_at

    def _note(self, request: Request) -> None:
        if len(self.requests) >= self._tell_at:
            self.reached.set()

    def times(self) -> set[int]:
        return set(Counter(request.split("/")[0] for request in self.requests).values())


class Scene:
    """A dataset of 40 samples in two shards, whose lane reaches the bucket through a proxy."""

    def __init__(self, folder: Path, bucket: str, endpoint: str, **storage: Any) -> None:
        self.recipe = recipe_for(
            draw_pictures(folder / "images", 40),
            f"s3://{bucket}/d",
            execution__storage=STORAGE | {"endpoint": endpoint} | storage,
            execution__runner=RUNNER,
        )
        self.dataset: Dataset = planned(self.recipe)

    def run(self, engine: EchoEngine) -> None:
        with lane_for(self.recipe, self.dataset, engine) as lane, ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(lane.run, Unit(shard, 0)) for shard in range(2)]:
                done.result(900)


def everything(bucket: str) -> Dataset:
    return open_dataset(Store(f"s3://{bucket}/d"))


@pytest.mark.parametrize("fault", ["error 503", "error 429", "error 400", "half request", "lost reply"])
def test_an_outage_in_mid_shard_is_waited_out(proxy: FlakyProxy, bucket: str, tmp_path: Path, fault: str) -> None:
    scene = Scene(tmp_path, bucket, proxy.endpoint)
    engine = Counted(10)
    proxy.faults = (fault,)
    asked: list[int] = []

    def outage() -> None:
        engine.reached.wait()
        proxy.share = 1.0
        while proxy.seen.total() < 20:  # the requests of some seconds, each refused
            time.sleep(0.05)
        asked.append(len(engine.requests))
        proxy.share = 0.0

    breaker = threading.Thread(target=outage)
    breaker.start()
    scene.run(engine)
    breaker.join()
    assert asked[0] <= 10 + 2 * WINDOW + 4, "no more samples than the windows hold are asked while nothing is logged"
    assert engine.times() == {1}
    report = verify(everything(bucket), deep=True)
    assert report.sound, report.problems
    assert (report.rows, report.pending) == (40, 0)


def test_an_outage_that_is_too_long_ends_the_attempt_and_loses_no_more_than_the_windows(
    proxy: FlakyProxy, bucket: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, bucket, proxy.endpoint, outage_s=1.0)
    engine = Counted(10)
    proxy.faults = ("error 503",)
    breaker = threading.Thread(target=lambda: (engine.reached.wait(), setattr(proxy, "share", 1.0)))
    breaker.start()
    with pytest.raises(StoreAwayError, match=r"waited \d+ s, execution.storage.outage_s"):
        scene.run(engine)
    breaker.join()
    proxy.share = 0.0
    logged = sum(len(read_log(everything(bucket).store, Unit(shard, 0))) for shard in range(2))
    assert len(engine.requests) - logged <= 2 * WINDOW
    second = Counted(1000)
    scene.run(second)
    assert len(second.requests) == 40 - logged
    assert verify(everything(bucket), deep=True).rows == 40


def test_a_lane_that_is_told_to_stop_does_not_wait_for_the_store(
    proxy: FlakyProxy, bucket: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, bucket, proxy.endpoint, outage_s=3600.0)
    engine = Counted(10)
    proxy.faults = ("error 503",)
    lane = lane_for(scene.recipe, scene.dataset, engine)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lane.run, Unit(0, 0))
        engine.reached.wait(60)
        proxy.share = 1.0
        while proxy.seen.total() < 10:
            time.sleep(0.05)
        lane.close()  # an hour later, if it waited
        with pytest.raises((CancelledError, StoreError)):
            running.result(60)
    assert engine.closed


def test_what_waiting_cannot_cure_is_told_at_once(s3_client: Any, s3_endpoint: str, tmp_path: Path) -> None:
    store = PatientStore("s3://no-such-bucket-anywhere/d", StorageExecution(outage_s=3600.0))
    with pytest.raises(StoreError, match="the bucket does not exist"):
        store.put("key", b"")


@pytest.fixture
def gate(s3_endpoint: str) -> Iterator[TokenGate]:
    made = TokenGate(s3_endpoint)
    yield made
    made.close()


def write_profile(path: Path, token: str) -> None:
    """Whole, as those that renew such files do."""
    new = path.with_suffix(".new")
    new.write_text(f"[factory]\naws_access_key_id = key\naws_secret_access_key = secret\naws_session_token = {token}\n")
    new.replace(path)


@pytest.fixture(params=["file", "process"])
def renewable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the token that new credentials bring: a file that another process rewrites, or `credential_process`."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    monkeypatch.setenv("AWS_PROFILE", "factory")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    if request.param == "file":
        config.write_text("[profile factory]\n")
        return lambda token: write_profile(credentials, token)
    answer = tmp_path / "answer.json"
    config.write_text(
        f"[profile factory]\ncredential_process = {sys.executable} -c \"print(open('{answer}').read())\"\n"
    )

    def renew(token: str) -> None:
        answer.write_text(
            json.dumps({"Version": 1, "AccessKeyId": "key", "SecretAccessKey": "secret", "SessionToken": token,
                        "Expiration": "2099-01-01T00:00:00Z"})
        )  # fmt: skip

    return renew


@pytest.mark.parametrize("status", [400, 403], ids=["as-aws", "as-others"])
def test_a_token_that_expires_in_mid_run_is_renewed(
    gate: TokenGate, renewable: Any, bucket: str, tmp_path: Path, status: int
) -> None:
    gate.status = status
    renewable("first")
    gate.good = {"first"}
    scene = Scene(tmp_path, bucket, gate.endpoint)
    engine = Counted(10)

    def expiry() -> None:
        engine.reached.wait()
        gate.good = {"second"}
        while not gate.refused:
            time.sleep(0.01)
        renewable("second")  # somebody renews them some time after they have expired

    clock = threading.Thread(target=expiry)
    clock.start()
    scene.run(engine)
    clock.join()
    assert gate.refused > 0
    assert engine.times() == {1}
    assert verify(everything_through(scene), deep=True).rows == 40


def everything_through(scene: Scene) -> Dataset:
    return open_dataset(Store(scene.dataset.store.uri, scene.recipe.execution.storage))


def test_a_token_renewed_in_time_is_never_refused(
    gate: TokenGate, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that nobody told of a refusal reads the file again after a while."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_PROFILE", "factory")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setattr(aws, "RESOLVED_FOR_S", 0.2)
    write_profile(credentials, "first")
    gate.good = {"first", "second"}
    store = Store(f"s3://{bucket}/d", StorageExecution(endpoint=gate.endpoint))
    store.put("a", b"1")
    write_profile(credentials, "second")
    while "second" not in gate.seen:
        store.put("a", b"2")
        time.sleep(0.02)
    gate.good = {"second"}
    assert store.size("a") == 1
    assert gate.refused == 0


def test_expired_credentials_of_the_environment_are_named_and_lose_nothing(
    gate: TokenGate, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "first")
    gate.good = {"first"}
    scene = Scene(tmp_path, bucket, gate.endpoint, outage_s=1.0)
    engine = Counted(10)
    clock = threading.Thread(target=lambda: (engine.reached.wait(), setattr(gate, "good", {"second"})))
    clock.start()
    with pytest.raises(StoreAwayError, match=r"expired \(ExpiredToken\); those in the environment cannot change"):
        scene.run(engine)
    clock.join()
    monkeypatch.setenv("AWS_SESSION_TOKEN", "second")
    logged = sum(len(read_log(everything_through(scene).store, Unit(shard, 0))) for shard in range(2))
    second = Counted(1000)
    again = Scene(tmp_path, bucket, gate.endpoint)
    again.run(second)
    assert len(second.requests) == 40 - logged
    assert len(engine.requests) - logged <= 2 * WINDOW
    assert os.environ["AWS_SESSION_TOKEN"] not in str(verify(everything_through(again), deep=True))
