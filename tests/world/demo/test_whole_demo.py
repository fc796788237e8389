"""`make demo` from its first line to its last, small; and what it leaves when it is ended on the way: nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from caprl_core.world.demo.files import ERAS, DemoFolder

BEGUN = "$ caprl qa run"


def demo(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "caprl_core.world.demo", "--folder", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "100", "CAPRL_DEMO_TEST": str(folder)},
    )


def left_behind(folder: Path) -> list[str]:
    """Processes with the environment that the demo was started with."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CAPRL_DEMO_TEST") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_on_the_way_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    running = demo(tmp_path / "demo", "--curated", "8", "--captioned", "4", "--watched", "4")
    try:
        assert running.stdout is not None
        said = iter(running.stdout)
        assert any(line.startswith(BEGUN) for line in said)
        time.sleep(1.0)
        running.send_signal(number)
        rest = "".join(said)
        assert running.wait(60) == 128 + number
    finally:
        running.kill()
    assert "Traceback" not in rest
    deadline = time.monotonic() + 20
    while left_behind(tmp_path / "demo") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_behind(tmp_path / "demo") == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_whole_story(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    running = demo(folder.root, "--curated", "24", "--captioned", "60", "--watched", "8", "--steps", "4")
    said, _ = running.communicate(timeout=880)
    assert running.returncode == 0, said
    told = json.loads(folder.figures.read_text())
    assert 0 < told["funnel"]["kept"] <= told["funnel"]["written"]
    before, after = (told["datasets"][era] for era in ERAS)
    # 60 pictures, the rotated one, and five that are refused each for its own reason.
    assert before["samples"] == after["samples"] == 66
    assert before["rows"] == after["rows"] == 61
    assert before["reasons"] == after["reasons"] and set(after["reasons"].values()) == {1}
    assert before["killed"]["committed"] >= 1
    assert "questions answered, tiny reader" in said
    assert str(folder.page) in said
    for era in ERAS:
        assert len(folder.captions(era).read_text().splitlines()) == 61
        assert told["scores"][era]["captioned"] == 60
    page = folder.page.read_text()
    for path in ("learning/report.html", "captions/after.jsonl"):
        assert f'href="{path}"' in page and (folder.root / path).exists()
    assert left_behind(folder.root) == []
