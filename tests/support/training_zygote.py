"""Training runs by fork from one process that has imported everything, each killed at its own moment or not at all.

Run as a module it reads a JSON line a run: the recipe's path, a file for its events, and where it is to be killed.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Moment(NamedTuple):
    """The `occurrence`-th call of a function, by `module:Class.name`: before it does anything, or when it has returned.

    With `leaves` the file it was told to write, its last argument, is left with so many bytes.
    """

    function: str
    occurrence: int
    after: bool = False
    leaves: int | None = None


class Zygote:
    """Starts training runs by fork; `run` returns their exit status, negative for a signal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.training_zygote"],
            env=os.environ
            | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            | {"PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(
        self, recipe: Path, kill: Moment | None = None, kill_after_s: float | None = None
    ) -> tuple[int, list[dict[str, Any]]]:
        """Exit status, and the events the run told."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._runs += 1
        told = self._folder / f"run-{self._runs}.jsonl"
        line = {"recipe": str(recipe), "told": str(told), "kill": kill, "kill_after_s": kill_after_s}
        self._process.stdin.write(f"{json.dumps(line)}\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        lines = [line for line in told.read_text().splitlines() if line.startswith('{"event"')]
        return status, [json.loads(line) for line in lines]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def armed(moment: Moment) -> None:
    """This process will kill itself then."""
    module, _, path = moment.function.partition(":")
    place: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        place = getattr(place, parent)
    usual: Callable[..., Any] = getattr(place, name)
    calls = 0

    def deadly(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != moment.occurrence:
            return usual(*arguments, **keywords)
        if moment.after:
            usual(*arguments, **keywords)
        if moment.leaves is not None:
            os.truncate(arguments[-1], moment.leaves)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    setattr(place, name, deadly)


def run(line: dict[str, Any]) -> int:
    """In the child: the same main function as `python -m caprl_core.training`."""
    from caprl_core.training.__main__ import main

    told = os.open(line["told"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(told, 1)
    if line["kill"] is not None:
        armed(Moment(*line["kill"]))
    if line["kill_after_s"] is not None:
        threading.Timer(line["kill_after_s"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    sys.argv = ["caprl_core.training", "--recipe", line["recipe"]]
    return main()


def main() -> None:
    import caprl_core.training.run
    import caprl_core.training.trainer  # noqa: F401 - the point of it all

    for text in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            status = 1
            try:
                status = run(json.loads(text))
                sys.stdout.flush()
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        _, state = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(state), flush=True)


if __name__ == "__main__":
    main()
