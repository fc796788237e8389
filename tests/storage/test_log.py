"""The write-ahead log: what `append` returned for is durable; what a killed writer leaves can always be read."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from caprl_core.data.row import Result
from caprl_core.errors import StoreError
from caprl_core.storage.layout import Attempt, Unit
from caprl_core.storage.log import SampleLog, read_log, read_logged
from caprl_core.storage.store import Store

UNIT = Unit(3, 0)


def result(number: int, text: str = "caption") -> Result:
    ledger = {"key": f"k{number}", "index": number, "status": "row"}
    return Result(f"k{number}", number, ledger, {"key": f"k{number}", "caption": text})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


async def test_an_appended_result_is_in_the_store_when_append_returns(store: Store) -> None:
    log = SampleLog(store, Attempt.begin(UNIT), flush_s=0.05, flush_samples=100)
    await log.append(result(1))
    assert read_log(store, UNIT) == {"k1": result(1)}
    await log.close()


async def test_a_full_buffer_is_flushed_without_waiting_for_the_clock(store: Store) -> None:
    log = SampleLog(store, Attempt.begin(UNIT), flush_s=3600, flush_samples=5)
    await asyncio.gather(*(log.append(result(n)) for n in range(5)))
    assert len(read_log(store, UNIT)) == 5
    await log.close()


async def test_closing_writes_what_nobody_waits_for_any_more(store: Store) -> None:
    log = SampleLog(store, Attempt.begin(UNIT), flush_s=3600, flush_samples=100)
    waiting = [asyncio.create_task(log.append(result(n))) for n in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await log.close()
    assert len(read_log(store, UNIT)) == 3


async def test_of_two_attempts_that_logged_a_sample_the_older_counts(store: Store) -> None:
    for identity, text in (("0000000000002-b", "late"), ("0000000000001-a", "early")):
        log = SampleLog(store, Attempt(UNIT, identity), flush_s=0.01, flush_samples=1)
        await log.append(result(1, text))
        await log.close()
    row: Any = read_log(store, UNIT)["k1"].row
    assert row["caption"] == "early"
    assert read_log(store, UNIT, ignored={"0000000000001-a", "0000000000002-b"}) == {}


async def test_a_spoilt_line_costs_its_sample_and_no_other(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    attempt = Attempt.begin(UNIT)
    log = SampleLog(store, attempt, flush_s=0.01, flush_samples=2)
    await asyncio.gather(log.append(result(1)), log.append(result(2)))
    await log.close()
    [segment] = [item.key for item in store.list(attempt.prefix)]
    first, second = store.get(segment).splitlines()
    store.put(segment, first[:-20] + b"\n" + second + b"\n")
    assert list(read_log(store, UNIT)) == ["k2"]
    assert "asked again" in caplog.text


async def test_logs_of_other_shards_and_revisions_are_not_mixed_in(store: Store) -> None:
    for unit in (Unit(3, 0), Unit(3, 1), Unit(30, 0)):
        log = SampleLog(store, Attempt.begin(unit), flush_s=0.01, flush_samples=1)
        await log.append(result(unit.shard * 10 + unit.revision))
        await log.close()
    assert list(read_log(store, Unit(3, 0))) == ["k30"]


class FullStore(Store):
    def put(self, key: str, data: bytes) -> None:
        raise StoreError(f"{key}: no space left on device")


async def test_a_store_that_refuses_fails_every_waiting_append_and_the_next(tmp_path: Path) -> None:
    log = SampleLog(FullStore(str(tmp_path)), Attempt.begin(UNIT), flush_s=0.01, flush_samples=10)
    failures = await asyncio.gather(*(log.append(result(n)) for n in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreError] * 3
    with pytest.raises(StoreError, match="no space"):
        await log.append(result(9))
    await log.close()


async def test_an_observer_that_raises_fails_the_waiting_appends_and_leaves_none_hanging(store: Store) -> None:
    def flushed() -> None:
        raise BrokenPipeError("the terminal went away")

    log = SampleLog(store, Attempt.begin(UNIT), flush_s=0.01, flush_samples=10, flushed=flushed)
    async with asyncio.timeout(10):
        failures = await asyncio.gather(*(log.append(result(n)) for n in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [BrokenPipeError] * 3
    assert len(read_log(store, UNIT)) == 3, "what was written counts all the same"
    await log.close()


class SlowlyFailingStore(Store):
    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.putting = threading.Event()
        self.fail = threading.Event()

    def put(self, key: str, data: bytes) -> None:
        self.putting.set()
        self.fail.wait(10)
        raise StoreError(f"{key}: no space left on device")


async def test_who_joins_during_a_write_that_fails_is_told_too(tmp_path: Path) -> None:
    slow = SlowlyFailingStore(str(tmp_path))
    log = SampleLog(slow, Attempt.begin(UNIT), flush_s=0.01, flush_samples=1)
    first = asyncio.create_task(log.append(result(1)))
    await asyncio.to_thread(slow.putting.wait, 10)
    second = asyncio.create_task(log.append(result(2)))
    await asyncio.sleep(0)
    slow.fail.set()
    async with asyncio.timeout(10):
        failures = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreError] * 2
    await log.close()


async def test_the_engines_seconds_of_all_attempts_are_in_their_logs(store: Store) -> None:
    for identity, seconds in (("0000000000001-a", 1.5), ("0000000000002-b", 0.25)):
        log = SampleLog(store, Attempt(UNIT, identity), flush_s=0.01, flush_samples=1)
        await log.append(result(1), seconds)
        await log.append(result(int(identity[12])), seconds)
        await log.close()
    logged = read_logged(store, UNIT)
    assert set(logged.results) == {"k1", "k2"}
    assert logged.engine_s == 3.5, "what was asked twice was paid twice"
    redone = read_logged(store, UNIT, ignored={"0000000000001-a", "0000000000002-b"})
    assert redone == ({}, 3.5), "what an operator had redone too"


def test_a_log_of_before_the_seconds_can_be_read(store: Store) -> None:
    line = {"key": "k1", "ledger": {"index": 1}, "row": None}
    store.put(Attempt.begin(UNIT).log_key(0, 1), orjson.dumps(line))
    assert read_logged(store, UNIT) == ({"k1": Result("k1", 1, {"index": 1}, None)}, 0.0)
