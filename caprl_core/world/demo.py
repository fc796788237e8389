"""`make demo`: the whole factory on one machine without GPU, internet or AWS, with one run killed on the way.

Everything below is done by the real commands, as subprocesses; this module starts them, kills one, and explains.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caprl_core.errors import CaprlError
from caprl_core.shards.dataset import open_dataset
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.store import Store
from caprl_core.world.demo_files import DemoFiles, best_engine, write_demo_files
from caprl_core.world.s3_server import client_environment, make_bucket, s3_server

BUCKET = "caprl-demo"
STOP_S = 30.0  # what a run needs at most to flush its logs and close its engine
MADE = ("pictures", "model", "prefect", "download", "annotations.json", "recipe.yaml", "captions.jsonl", "commands.log")
"""What the demo writes, and removes when it begins."""


class DemoError(CaprlError):
    """A step of the demo did not do what it should."""


class Demo:
    """One walk through the factory below `folder`."""

    def __init__(self, folder: Path, files: DemoFiles, dataset: str, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._files = files
        self._dataset = dataset
        self._environment = environment
        self._log = folder / "commands.log"

    def walk(self) -> None:
        """Plan, annotate, be killed, resume, verify, export, download. Raises `DemoError` when a step goes wrong."""
        recipe = str(self._files.recipe)
        self._say("Plan: which sample goes into which shard")
        self._command("caprl_core.cli", "plan", recipe)
        committed, logged = self._run_and_kill(recipe)
        self._resume(recipe, committed, logged)
        self._say("Where the dataset stands, and the proof that nothing is lost, doubled or changed")
        self._command("caprl_core.cli", "status", recipe)
        self._command("caprl_core.cli", "verify", recipe, "--deep")
        self._say("Export to JSONL, and a download that checks every sha256")
        self._command("caprl_core.cli", "export", recipe, "--out", str(self._folder / "captions.jsonl"))
        self._command("caprl_core.cli", "download", recipe, str(self._folder / "download"))
        self._show()

    def _run_and_kill(self, recipe: str) -> tuple[int, int]:
        self._say("Annotate through the Prefect flow, and kill it with SIGKILL after its first shard")
        run = self._start("flows.caption_dataset", "--config", recipe, "--json")
        try:
            for event in _events(run):
                if event["event"] in ("shard", "summary", "error"):
                    break
            else:
                raise DemoError(f"the run ended before its first shard; see {self._log}")
        finally:
            _kill(run)
        if event["event"] == "error":
            raise DemoError(event["error"])
        time.sleep(0.5)  # the server may still be at a request that the run had sent whole
        committed, logged = self._stored()
        print(f"  killed. In the bucket: {committed} samples committed, {logged} more in the write-ahead log")
        return committed, logged

    def _resume(self, recipe: str, committed: int, logged: int) -> None:
        self._say("The same command again resumes")
        run = self._start("flows.caption_dataset", "--config", recipe, "--json")
        try:
            summary: dict[str, Any] = {}
            for event in _events(run):
                if event["event"] in ("error", "failed", "quarantined"):
                    raise DemoError(event["error"])
                if event["event"] == "shard":
                    print(f"  {event['unit']}: {event['rows']} rows, {event['rejected']} rejected {event['reasons']}")
                if event["event"] == "summary":
                    summary = event
            if run.wait(STOP_S) != 0 or not summary:
                raise DemoError(f"the resumed run failed; see {self._log}")
        finally:
            _kill(run)
        asked, resumed, total = summary["samples_asked"], summary["samples_resumed"], summary["samples"]
        print(f"  committed before {committed} + taken from the log {resumed} + asked now {asked} = {total} samples")
        if resumed != logged or committed + resumed + asked != total:
            raise DemoError(f"{logged} samples were in the log: something was lost or captioned twice")
        print("  nothing was lost, and no sample of the log was captioned again")

    def _stored(self) -> tuple[int, int]:
        """Samples committed, and samples in the logs of shards that are not."""
        store = Store(self._dataset)
        dataset = open_dataset(store)
        done = {unit.shard for unit in list_units(store)}
        committed = sum(len(dataset.plan.shard_keys(shard)) for shard in done)
        waiting = set(range(dataset.record.shards)) - done
        return committed, sum(len(read_log(store, Unit(shard, 0))) for shard in waiting)

    def _show(self) -> None:
        line = json.loads((self._folder / "captions.jsonl").open(encoding="utf-8").readline())
        self._say("One line of the export")
        print(json.dumps(line, indent=2, ensure_ascii=False))
        print(
            "\nThe captions are noise: the model is a tiny Qwen2.5-VL with random weights. What was shown is that\n"
            "every sample becomes a row, or a ledger line with its reason, whatever dies on the way.\n"
        )
        for what, path in (
            ("pictures, good and hostile", self._files.pictures),
            ("ShareGPT4V-style annotations", self._files.annotations),
            ("the recipe", self._files.recipe),
            ("captions as JSONL", self._folder / "captions.jsonl"),
            ("tars, ledgers, plan and commit records", self._folder / "download"),
            ("what the commands wrote to standard error", self._log),
        ):
            print(f"  {what:<42} {path}")

    def _say(self, text: str) -> None:
        print(f"\n== {text}", flush=True)

    def _command(self, module: str, *arguments: str) -> None:
        """Run a command to its end, its output shown."""
        print(f"$ {'caprl' if module == 'caprl_core.cli' else 'python -m ' + module} {' '.join(arguments)}", flush=True)
        done = subprocess.run(  # noqa: S603 - our own modules
            [sys.executable, "-m", module, *arguments], env=self._environment, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode != 0:
            raise DemoError(f"`{module} {' '.join(arguments)}` ended with {done.returncode}")

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own; its standard error goes to the log."""
        print(f"$ python -m {module} {' '.join(arguments)}", flush=True)
        with self._log.open("a") as log:
            return subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", module, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )


def _events(run: subprocess.Popen[str]) -> Any:
    """The JSON lines of a run; an engine in its process may print other lines, which are passed over."""
    assert run.stdout is not None  # noqa: S101 - it was opened as a pipe
    for line in run.stdout:
        if line.startswith('{"event"'):
            yield json.loads(line)


def _kill(run: subprocess.Popen[str]) -> None:
    """SIGKILL to the whole group, if it still runs."""
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    if run.stdout is not None:
        run.stdout.close()


def run_demo(folder: Path, count: int, engine: str) -> None:
    """The whole demo below `folder`. Raises `CaprlError`; whatever happens, everything it started is stopped."""
    for name in MADE:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with s3_server() as endpoint:
        environment = client_environment(endpoint, os.environ) | {
            "PREFECT_HOME": str(folder / "prefect"),
            # The demo needs no network, and says so.
            "HF_HUB_OFFLINE": "1",
        }
        environment.pop("PREFECT_API_URL", None)
        os.environ.update(client_environment(endpoint, {}))
        make_bucket(endpoint, BUCKET)
        dataset = f"s3://{BUCKET}/dataset"
        print(f"A local S3 server at {endpoint}, a tiny captioner with random weights, engine {engine}")
        files = write_demo_files(folder, count=count, dataset=dataset, endpoint=endpoint, engine=engine)
        odd = files.records - count
        print(f"{files.records} records in {files.annotations}: {count} drawn pictures and {odd} oddities")
        Demo(folder, files, dataset, environment).walk()
    print(f"\nDone in {time.monotonic() - began:.0f} s; the S3 server is stopped, nothing else runs.")


def main() -> None:
    """`python -m caprl_core.world.demo [--folder .demo] [--pictures 58] [--engine vllm|transformers]`."""
    parser = argparse.ArgumentParser(prog="python -m caprl_core.world.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"))
    parser.add_argument("--pictures", type=int, default=58, help="good pictures to draw")
    parser.add_argument("--engine", choices=("vllm", "transformers"), default=best_engine())
    arguments = parser.parse_args()
    try:
        run_demo(arguments.folder.resolve(), arguments.pictures, arguments.engine)
    except CaprlError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
