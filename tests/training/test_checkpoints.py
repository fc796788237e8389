"""Which checkpoints of a folder are whole, which is the newest, which the best."""

from pathlib import Path

import pytest

from caprl_core.training.checkpoints import (
    WHOLE,
    best_step,
    is_whole,
    kept_steps,
    newest_checkpoint,
    remove_half_written,
    remove_old,
    step_of,
    whole_checkpoints,
)


def checkpoint(folder: Path, step: int, state: str | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    if state is not None:
        (path / WHOLE).write_text(state)
    return path


@pytest.mark.parametrize(
    ("state", "whole"),
    [
        ('{"global_step": 5}', True),
        (None, False),
        ("", False),
        ('{"global_step": 5', False),
        ('{"global_step": 4}', False),
        ("[5]", False),
    ],
    ids=["its own", "none", "empty", "cut", "of another step", "no record"],
)
def test_it_is_whole_when_its_last_file_says_its_step(tmp_path: Path, state: str | None, whole: bool) -> None:
    assert is_whole(checkpoint(tmp_path, 5, state)) is whole


def test_the_newest_is_of_the_latest_step_and_whole(tmp_path: Path) -> None:
    two, ten = (checkpoint(tmp_path, step, f'{{"global_step": {step}}}') for step in (2, 10))
    half = checkpoint(tmp_path, 12)
    (tmp_path / "checkpoint-13").write_text("a file")
    (tmp_path / "checkpoint-best").mkdir()
    assert newest_checkpoint(tmp_path) == ten
    assert whole_checkpoints(tmp_path) == {2: two, 10: ten}
    assert remove_half_written(tmp_path) == [12]
    assert not half.exists()
    assert two.exists()
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_what_is_called_otherwise_is_no_checkpoint() -> None:
    with pytest.raises(ValueError, match="is not called like a checkpoint"):
        step_of(Path("run/captioner"))


def test_the_best_is_the_later_of_equals_among_those_at_hand() -> None:
    lines = [{"step": step, "reward": reward} for step, reward in ((0, 0.9), (2, 0.5), (4, 0.5), (6, None), (8, 0.4))]
    assert best_step(lines, {2, 4, 6, 8}) == 4
    assert best_step(lines, {6}) is None
    assert best_step([], {2}) is None


@pytest.mark.parametrize(
    ("best", "kept"),
    [(None, {4, 5}), (2, {2, 4, 5}), (4, {4, 5}), (5, {4, 5}), (0, {4, 5})],
    ids=["nothing evaluated", "an earlier one", "one of the latest", "the last", "the start, which has no checkpoint"],
)
def test_the_latest_are_kept_and_an_earlier_best_besides(best: int | None, kept: set[int]) -> None:
    lines = [{"step": step, "reward": 0.9 if step == best else 0.1} for step in range(6) if best is not None]
    assert kept_steps({1, 2, 3, 4, 5}, lines, 2) == kept


def test_what_is_too_old_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint(tmp_path, step, f'{{"global_step": {step}}}')
    checkpoint(tmp_path, 6)
    remove_old(tmp_path, [{"step": 1, "reward": 0.5}, {"step": 3, "reward": 0.4}], 2)
    assert sorted(step_of(path) for path in tmp_path.iterdir()) == [1, 4, 5, 6]
    remove_old(tmp_path / "nowhere", [], 2)
