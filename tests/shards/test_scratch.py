"""Scratch folders vanish with their owner, and never while the owner lives."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from caprl_core.shards.scratch import remove_abandoned, scratch_folder


def test_a_folder_is_removed_on_leaving_even_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), scratch_folder(str(tmp_path)) as folder:
        (folder / "spool").write_bytes(b"x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_owner_left_is_removed_by_the_next(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with scratch_folder(str(tmp_path)) as folder:
            (folder / "spool").write_bytes(b"x" * 1000)
            os.write(writing, b"!")
            signal.pause()
    os.read(reading, 1)
    assert remove_abandoned(tmp_path) == 0, "a living owner's folder was removed"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with scratch_folder(str(tmp_path)) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_neighbours_who_start_and_clean_up_at_once_never_take_each_other_for_dead(tmp_path: Path) -> None:
    def start(number: int) -> None:
        with scratch_folder(str(tmp_path)) as folder:
            (folder / "spool").write_text(str(number))
            remove_abandoned(tmp_path)
            assert (folder / "spool").read_text() == str(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(400)))
    assert list(tmp_path.iterdir()) == []
