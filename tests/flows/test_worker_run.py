"""A flow run whose worker is killed ends in order: as by SIGTERM, though its output is a pipe that nobody reads."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

LANE = """
import os, signal, sys, time
from pathlib import Path
from flows.worker_run import ending_with_the_worker

def stop(number, frame):
    print("this line has no reader", flush=True)
    Path(sys.argv[1]).write_text(str(number))
    os._exit(0)

signal.signal(signal.SIGTERM, stop)
with ending_with_the_worker():
    Path(sys.argv[1] + ".pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.1)
"""
WORKER = """
import subprocess, sys
lane = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE)
lane.wait()
"""


def worker_of_a_lane(told: Path, **environment: str) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, LANE, str(told)], env=os.environ | environment)
    pid = Path(f"{told}.pid")
    while not pid.exists() or not pid.read_text():
        assert worker.poll() is None
        time.sleep(0.05)
    return worker, psutil.Process(int(pid.read_text()))


def test_a_run_ends_with_the_worker_that_started_it(tmp_path: Path) -> None:
    worker, lane = worker_of_a_lane(tmp_path / "told", PREFECT__FLOW_RUN_ID="some-run")
    worker.kill()
    worker.wait()
    lane.wait(60)
    assert (tmp_path / "told").read_text() == str(int(signal.SIGTERM))


def test_a_run_that_no_worker_started_goes_on(tmp_path: Path) -> None:
    worker, lane = worker_of_a_lane(tmp_path / "told", PREFECT__FLOW_RUN_ID="")
    worker.kill()
    worker.wait()
    time.sleep(2.5)
    assert lane.is_running()
    lane.kill()
    assert not (tmp_path / "told").exists()
