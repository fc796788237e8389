"""What an operator types: `prefect` commands and workers, as processes of their own."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
COMMAND_S = 180.0
OF_A_WORKER = {"CAPRL_HOME": str(ROOT), "PREFECT_WORKER_QUERY_SECONDS": "1"}
"""Where the pull step of `prefect.yaml` finds the code; and no more than a second until a run is seen."""


def run_prefect(*arguments: str, environment: Mapping[str, str], log: Path | None = None) -> str:
    """Standard output of a command, which must succeed; all it said is added to `log`."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_S,
    )
    if log is not None:
        with log.open("a") as file:
            file.write(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start_worker(
    pool: str, *arguments: str, environment: Mapping[str, str], log: Path, within: Sequence[str] = ()
) -> psutil.Popen:
    """A worker in a session of its own, whose words are added to `log`; `within` is a command that runs another."""
    with log.open("ab") as output:
        return psutil.Popen(
            [*within, sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, *arguments],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
