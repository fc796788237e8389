"""What Prefect costs a shard: the same tiny shards through a lane in threads, and through the flow with a Prefect
server on PostgreSQL. An engine that answers at once leaves nothing but the work around it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, runtime
from prefect.task_runners import ThreadPoolTaskRunner

from bench.measuring import Report, options
from caprl_core.captioning.stage import CaptionStage
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.lane import Lane
from caprl_core.shards.progress import unfinished_units
from caprl_core.storage.store import Store
from flows.shard_run import MAX_IN_FLIGHT
from flows.whole_dataset import run_dataset
from tests.support.drawn_dataset import draw_pictures, planned, recipe_for
from tests.support.echo_engine import EchoEngine
from tests.support.postgres_server import PostgresServer, postgres_programs
from tests.support.prefect_on_postgres import PrefectServer

METHOD = """2,000 shards of one picture of 56 x 56 px, local folder, four in flight, an engine in the process that
answers within 1 ms. Straight: Lane and a thread pool, before and after the flow, the mean of both. Flow: the flow every
dataset is run by, one task a shard, on a Prefect server with the settings of docs/operating.md and a password,
PostgreSQL with its default settings (it waits for the disk), both on the same cores as the run, so that what they take
is missing there. Each in a process of its own, timed inside it from the call to its return. Final states: from then
until the API counts as many completed task runs as there are shards, asked five times a second. CPU: user and system
seconds of the run's process and its decoder from the call to its return; of the server and of PostgreSQL from before
the run's process to the last final state."""
LONGEST_S = 600.0


def recipe_of(folder: Path, name: str) -> CaptionRecipe:
    return recipe_for(
        folder / "images",
        str(folder / name),
        name=name,
        dataset__shard_samples=1,
        execution__runner={"shards_in_flight": 4, "decode_workers": 1, "flush_s": 3.0},
    )


def straight(recipe: CaptionRecipe) -> dict[str, Any]:
    started, used = time.time(), cpu_seconds()
    dataset = open_dataset(Store(recipe.execution.output), recipe)
    units = unfinished_units(dataset)
    with (
        Lane(recipe, dataset, CaptionStage(recipe), lambda _: EchoEngine()) as lane,
        ThreadPoolExecutor(recipe.execution.runner.shards_in_flight) as pool,
    ):
        done = list(pool.map(lane.run, units))
    assert all(result.won for result in done)
    return {"seconds": time.time() - started, "cpu": cpu_seconds() - used, "shards": len(done)}


@flow(name="bench", task_runner=ThreadPoolTaskRunner(max_workers=MAX_IN_FLIGHT), persist_result=False)  # type: ignore[arg-type]
def orchestrated(name: str, folder: str) -> dict[str, Any]:
    recipe = recipe_of(Path(folder), name)
    summary = run_dataset("bench", recipe, stage=CaptionStage(recipe), open_engine=EchoEngine)
    return {"shards": summary["shards_committed"], "flow_run": str(runtime.flow_run.id)}


def through_the_flow(recipe: CaptionRecipe, folder: Path) -> dict[str, Any]:
    started, used = time.time(), cpu_seconds()
    done = orchestrated(recipe.name, str(folder))
    ended = time.time()
    return {"seconds": ended - started, "ended": ended, "cpu": cpu_seconds() - used, **done}


def cpu_seconds(*pids: int) -> float:
    """User and system seconds of these processes (default: this one) and their children, ended ones included."""
    total = 0.0
    for pid in pids or (os.getpid(),):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            total += sum(one.cpu_times()[:4])
    return total


@contextmanager
def child(job: str, name: str, folder: Path, environment: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """What a job in a process of its own answers, as soon as it does; at the end the process has ended."""
    command = [sys.executable, "-m", "bench.orchestration", "--job", job, "--name", name, "--folder", str(folder)]
    log = folder / f"{name}.log"
    with (
        log.open("wb") as output,  # a worker's runs write their lines, too
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=output, text=True) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"{job} ended with {process.returncode}; its last words:\n{log.read_text()[-4000:]}")


def timed_straight(folder: Path, name: str) -> dict[str, Any]:
    with child("straight", name, folder) as answer:
        return answer


def completed(server: PrefectServer, flow_run: str) -> int:
    """Task runs of a flow run that the API shows as completed."""
    wanted = {
        "flow_runs": {"id": {"any_": [flow_run]}},
        "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    with server.http() as client:
        return int(client.post("/task_runs/count", json=wanted).raise_for_status().json())


def seconds_until_final(server: PrefectServer, answer: dict[str, Any]) -> tuple[float, int]:
    """From the end of the flow until every task run is shown as completed, and how many were at the first look."""
    first = seen = completed(server, answer["flow_run"])
    while seen < answer["shards"]:
        if time.time() - answer["ended"] > LONGEST_S:
            raise RuntimeError(f"{seen} of {answer['shards']} task runs are shown as completed")
        time.sleep(0.2)
        seen = completed(server, answer["flow_run"])
    return time.time() - answer["ended"], first


def database(postgres: PostgresServer) -> tuple[int, int]:
    """Its bytes, indexes included, and its rows."""
    postgres.query("vacuum analyze")
    [[size]] = postgres.query("select pg_database_size(current_database())")
    [[rows]] = postgres.query("select sum(n_live_tup) from pg_stat_user_tables")
    return int(size), int(rows)


def measure(report: Report, folder: Path, shards: int) -> None:
    draw_pictures(folder / "images", shards)
    for name in ("before", "flow", "after"):
        planned(recipe_of(folder, name))
    with PostgresServer() as postgres, PrefectServer(postgres.url, folder) as server:
        environment = server.client_environment()
        size, rows = database(postgres)
        servers = {"server": server.pid, "PostgreSQL": postgres.pid}
        before = timed_straight(folder, "before")
        used = {name: cpu_seconds(pid) for name, pid in servers.items()}
        with child("flow", "flow", folder, environment) as answer:
            final_s, first = seconds_until_final(server, answer)
        used = {name: cpu_seconds(pid) - used[name] for name, pid in servers.items()}
        after = timed_straight(folder, "after")
        time.sleep(10)  # events and logs are written after the states
        grown, more_rows = (now - then for now, then in zip(database(postgres), (size, rows), strict=True))
    assert answer["shards"] == before["shards"] == after["shards"] == shards
    alone = (before["seconds"] + after["seconds"]) / 2
    report.figure("straight, before", 1000 * before["seconds"] / shards, "ms a shard")
    report.figure("straight, after", 1000 * after["seconds"] / shards, "ms a shard")
    report.figure("flow", 1000 * answer["seconds"] / shards, "ms a shard")
    for name, seconds in {"flow's process": answer["cpu"], **used}.items():
        report.figure(f"CPU of the {name}", 1000 * seconds / shards, "ms a shard")
    report.figure("CPU of the straight process", 1000 * (before["cpu"] + after["cpu"]) / 2 / shards, "ms a shard")
    report.figure("completed task runs shown when first asked", first, "task runs")
    report.figure("rows in the database", more_rows / shards, "a shard")
    report.figure("database with its indexes", grown / shards / 1000, "kB a shard")
    report.require("orchestration, ms a shard", 1000 * (answer["seconds"] - alone) / shards, most=20)
    report.require("end of the flow to the last final state, s", final_s, most=10)


def arguments_of(given: Iterable[str] | None = None) -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("--shards", type=int, help="how many; 2,000 by default")
    parser.add_argument("--job", choices=("straight", "flow"), help="internal: one timed job")
    parser.add_argument("--name", help="internal: its dataset")
    parser.add_argument("--folder", type=Path, help="internal: where it lies")
    arguments = parser.parse_args(given)
    if not arguments.job and postgres_programs() is None:
        parser.exit(
            0, "PostgreSQL's programs are not installed (Debian: apt-get install postgresql): nothing measured\n"
        )
    return arguments


def main() -> None:
    arguments = arguments_of()
    if arguments.job:
        recipe = recipe_of(arguments.folder, arguments.name)
        answer = straight(recipe) if arguments.job == "straight" else through_the_flow(recipe, arguments.folder)
        print(json.dumps(answer), flush=True)
        return
    report = Report("orchestration", METHOD, quick=arguments.quick, packages=("prefect", "asyncpg", "sqlalchemy"))
    with tempfile.TemporaryDirectory(prefix="caprl-bench-") as name:
        measure(report, Path(name), arguments.shards or (100 if arguments.quick else 2000))
    report.finish()


if __name__ == "__main__":
    main()
