"""SIGKILL at any moment of a training run: the same command goes on, and nobody can tell from the curve.

Compared with a run that was never killed: every figure of every step to six digits, every caption, answer and reward,
the evaluations, and the captioner that comes out.
"""

import json
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from caprl_core.storage.store import Store
from caprl_core.world.question_set import write_question_set
from support.training_zygote import Moment, Zygote
from support.world_training import lines, training_process, world_recipe

STEPS = 6
FIGURES = ("loss", "reward", "reward_std", "kl", "entropy", "learning_rate", "grad_norm", "length_mean", "accuracy")
EXACT = ("key", "rollout", "caption", "tokens", "truncated", "reward", "accuracy", "reason", "terms", "draws")

# After an evaluation each step reads once, learns from two micro-batches and updates once; there are
# checkpoints after steps 2, 4 and 6. All of these are in step 4 or right after it.
READING = Moment("caprl_core.training.rewarding:Reader.score", 4)
CAPTIONS_WRITTEN = Moment("caprl_core.training.trainer:CaptionTrainer._generate_single_turn", 5, after=True)
HALF_THE_GRADIENT = Moment("accelerate:Accelerator.backward", 7, after=True)
WEIGHTS_CHANGED = Moment("torch.optim.adamw:AdamW.step", 4, after=True)
NOTHING_SAVED = Moment("transformers.trainer:Trainer._save_checkpoint", 2)
WEIGHTS_SAVED = Moment("transformers.trainer:Trainer._save_optimizer_and_scheduler", 2)
STATE_BEGUN = Moment("transformers.trainer_callback:TrainerState.save_to_json", 2, after=True, leaves=0)
STATE_CUT = Moment("transformers.trainer_callback:TrainerState.save_to_json", 2, after=True, leaves=300)


class Course(NamedTuple):
    """A run folder that came to its end, and how long that took."""

    folder: Path
    seconds: float


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Zygote]:
    process = Zygote(tmp_path_factory.mktemp("events"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def unbroken(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("unbroken")
    began = time.monotonic()
    status, _ = zygote.run(recipe_in(folder))
    assert status == 0
    assert all(line["kl"] > 0 for line in lines(folder / "run/metrics.jsonl")[1:]), "nothing is learnt: no test"
    return Course(folder / "run", time.monotonic() - began)


def recipe_in(folder: Path, **changes: Any) -> Path:
    usual = {"steps": STEPS, "evaluation__every": STEPS, "optimiser__warmup_steps": 0, "execution__micro_batch": 8}
    return world_recipe(folder, **(usual | changes))


def check_same_course(run: Path, expected: Path) -> None:
    ours, theirs = lines(run / "metrics.jsonl"), lines(expected / "metrics.jsonl")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for line, other in zip(ours, theirs, strict=True):
        for name in FIGURES:
            assert line[name] == pytest.approx(other[name], abs=1e-6, rel=1e-6), (name, line["step"])
    ours, theirs = lines(run / "held_out.jsonl"), lines(expected / "held_out.jsonl")
    assert [{**line, "at": 0} for line in ours] == [{**line, "at": 0} for line in theirs]
    weights, others = (load_file(folder / "captioner/model.safetensors") for folder in (run, expected))
    assert weights.keys() == others.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], others[name], rtol=0, atol=1e-6)


def check_same_rollouts(run: Path, expected: Path) -> None:
    for kind in ("rollouts", "held_out"):
        names = sorted(path.name for path in (expected / kind).iterdir())
        assert sorted(path.name for path in (run / kind).iterdir()) == names
        for name in names:
            ours, theirs = (pq.read_table(folder / kind / name) for folder in (run, expected))
            assert ours.select(EXACT).equals(theirs.select(EXACT)), f"{kind}/{name}"
            if kind == "rollouts":
                pairs = zip(ours["advantage"].to_pylist(), theirs["advantage"].to_pylist(), strict=True)
                assert all(mine == pytest.approx(other, abs=1e-5) for mine, other in pairs)


def keys_of(run: Path, step: int) -> list[str]:
    """The pictures of a step in its order, each once."""
    return list(dict.fromkeys(pq.read_table(run / f"rollouts/step-{step:06d}.parquet")["key"].to_pylist()))


def check_whole_checkpoints(run: Path, *steps: int) -> None:
    checkpoints = sorted(path.name for path in (run / "checkpoints").iterdir() if path.is_dir())
    assert checkpoints == [f"checkpoint-{step}" for step in steps]
    assert all((run / "checkpoints" / name / "optimizer.pt").exists() for name in checkpoints)


def killed_and_resumed(zygote: Zygote, recipe: Path, moment: Moment, *, done: int, resumes_at: int) -> None:
    status, told = zygote.run(recipe, kill=moment)
    assert status == -signal.SIGKILL
    assert [event["step"] for event in told if event["event"] == "step"] == list(range(1, done + 1))
    status, told = zygote.run(recipe)
    assert status == 0
    assert (told[0]["event"], told[0]["step"], told[0]["resumed"]) == ("begin", resumes_at, resumes_at > 0)
    assert [event["step"] for event in told if event["event"] == "step"] == list(range(resumes_at + 1, STEPS + 1))


@pytest.mark.parametrize(
    ("moment", "done"), [(READING, 3), (WEIGHTS_CHANGED, 3), (STATE_CUT, 4)], ids=["reading", "update", "checkpoint"]
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    zygote: Zygote, unbroken: Course, tmp_path: Path, moment: Moment, done: int
) -> None:
    killed_and_resumed(zygote, recipe_in(tmp_path), moment, done=done, resumes_at=2)
    check_same_course(tmp_path / "run", unbroken.folder)
    check_same_rollouts(tmp_path / "run", unbroken.folder)
    check_whole_checkpoints(tmp_path / "run", 2, 4, 6)


def test_a_run_killed_in_a_later_pass_over_the_pictures_goes_on_in_that_pass(zygote: Zygote, tmp_path: Path) -> None:
    """Each pass has an order of its own. With 8 pictures, 4 a step, step 3 is in the midst of the second of three."""

    def passes(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        few = write_question_set(folder / "few.parquet", "train", 8)
        return recipe_in(folder, questions__train=str(few), execution__checkpoint_every=3)

    assert zygote.run(passes("unbroken"))[0] == 0
    unbroken = tmp_path / "unbroken/run"
    orders = [keys_of(unbroken, step) + keys_of(unbroken, step + 1) for step in (1, 3, 5)]
    assert all(len(set(order)) == 8 for order in orders)
    assert orders[0] != orders[1] != orders[2], "nothing is shuffled: no test"
    killed_and_resumed(zygote, passes("killed"), READING._replace(occurrence=5), done=4, resumes_at=3)
    check_same_course(tmp_path / "killed/run", unbroken)
    check_same_rollouts(tmp_path / "killed/run", unbroken)


@pytest.mark.long
@pytest.mark.parametrize(
    ("moment", "done"),
    [(CAPTIONS_WRITTEN, 3), (HALF_THE_GRADIENT, 3), (NOTHING_SAVED, 4), (WEIGHTS_SAVED, 4), (STATE_BEGUN, 4)],
    ids=["captions written", "half the gradient", "nothing saved", "weights saved", "state begun"],
)
def test_killed_at_further_moments(zygote: Zygote, unbroken: Course, tmp_path: Path, moment: Moment, done: int) -> None:
    killed_and_resumed(zygote, recipe_in(tmp_path), moment, done=done, resumes_at=2)
    check_same_course(tmp_path / "run", unbroken.folder)
    check_same_rollouts(tmp_path / "run", unbroken.folder)
    check_whole_checkpoints(tmp_path / "run", 2, 4, 6)


@pytest.mark.long
def test_killed_before_the_first_checkpoint_it_begins_anew(zygote: Zygote, unbroken: Course, tmp_path: Path) -> None:
    killed_and_resumed(zygote, recipe_in(tmp_path), READING._replace(occurrence=2), done=1, resumes_at=0)
    check_same_course(tmp_path / "run", unbroken.folder)
    check_same_rollouts(tmp_path / "run", unbroken.folder)


@pytest.mark.long
def test_killed_after_its_last_step_it_only_exports(zygote: Zygote, unbroken: Course, tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path)
    killed_and_resumed(
        zygote, recipe, Moment("caprl_core.training.run:export_captioner", 1), done=STEPS, resumes_at=STEPS
    )
    check_same_course(tmp_path / "run", unbroken.folder)
    status, told = zygote.run(recipe)
    assert (status, [event["event"] for event in told]) == (0, ["begin", "exported", "done"])


@pytest.mark.long
def test_checkpoints_that_a_kill_left_half_take_no_whole_ones_place(
    zygote: Zygote, unbroken: Course, tmp_path: Path
) -> None:
    assert zygote.run(recipe_in(tmp_path, execution__checkpoints_kept=2), kill=WEIGHTS_SAVED)[0] == -signal.SIGKILL
    assert (tmp_path / "run/checkpoints/checkpoint-4/model.safetensors").exists()
    # Another rhythm, which is no part of what the run is: step 4 will not be saved again.
    recipe = recipe_in(tmp_path, execution__checkpoints_kept=2, execution__checkpoint_every=3)
    assert zygote.run(recipe, kill=WEIGHTS_CHANGED._replace(occurrence=3))[0] == -signal.SIGKILL
    check_whole_checkpoints(tmp_path / "run", 2, 3)
    assert zygote.run(recipe)[0] == 0
    check_same_course(tmp_path / "run", unbroken.folder)
    check_whole_checkpoints(tmp_path / "run", 3, 6)


def test_a_run_whose_folder_was_lost_goes_on_from_the_mirror(
    zygote: Zygote, unbroken: Course, tmp_path: Path, bucket: str
) -> None:
    work = tmp_path / "work"
    recipe = recipe_in(tmp_path, execution__output=f"s3://{bucket}/run", execution__work=str(work))
    assert zygote.run(recipe, kill=READING)[0] == -signal.SIGKILL
    shutil.rmtree(work)
    status, told = zygote.run(recipe)
    assert (status, told[0]["event"], told[0]["step"]) == (0, "begin", 2)
    check_same_course(work, unbroken.folder)
    brought_down(Store(f"s3://{bucket}/run"), tmp_path / "mirror")
    check_same_course(tmp_path / "mirror", unbroken.folder)
    check_same_rollouts(tmp_path / "mirror", unbroken.folder)
    check_whole_checkpoints(tmp_path / "mirror", 2, 4, 6)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_while_it_mirrors_or_restores_and_its_folder_lost(
    zygote: Zygote, unbroken: Course, tmp_path: Path, bucket: str
) -> None:
    work = tmp_path / "work"
    recipe = recipe_in(tmp_path, execution__output=f"s3://{bucket}/run", execution__work=str(work))
    # Everything of checkpoint 4 is there but its manifest.
    assert zygote.run(recipe, kill=Moment("caprl_core.storage.store:Store.put", 2))[0] == -signal.SIGKILL
    assert (work / "checkpoints/checkpoint-4/trainer_state.json").exists()
    shutil.rmtree(work)
    for moment in (
        Moment("caprl_core.training.mirrored_folder:_fetch", 4),
        Moment("caprl_core.training.mirror:Mirror._place", 1),
        Moment("caprl_core.training.mirror:Mirror._bring", 2, after=True),
    ):
        assert zygote.run(recipe, kill=moment) == (-signal.SIGKILL, [])
    status, told = zygote.run(recipe)
    assert (status, told[0]["event"], told[0]["step"]) == (0, "begin", 2)
    check_same_course(work, unbroken.folder)
    brought_down(Store(f"s3://{bucket}/run"), tmp_path / "mirror")
    check_same_course(tmp_path / "mirror", unbroken.folder)
    check_same_rollouts(tmp_path / "mirror", unbroken.folder)


def brought_down(store: Store, folder: Path) -> None:
    for item in store.list(""):
        target = folder / item.key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.get(item.key))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_at_random_moments_again_and_again(zygote: Zygote, unbroken: Course, tmp_path: Path) -> None:
    moments = random.Random(1)
    seconds = unbroken.seconds
    killed = 0
    for trial in range(4):
        folder = tmp_path / f"trial-{trial}"
        folder.mkdir()
        recipe = recipe_in(folder)
        for _ in range(8):
            status, _ = zygote.run(recipe, kill_after_s=moments.uniform(0.3, 0.9) * seconds)
            assert status in (0, -signal.SIGKILL)
            killed += status != 0
        if killed:
            break
        seconds /= 2  # the unbroken run had a busier machine: this one was done before it could be killed
    assert killed
    assert zygote.run(recipe)[0] == 0
    check_same_course(folder / "run", unbroken.folder)
    check_same_rollouts(folder / "run", unbroken.folder)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_adapters_go_on_as_if_nothing_had_been(zygote: Zygote, tmp_path: Path) -> None:
    lora = {"policy__lora": {"rank": 4, "alpha": 8}}
    (tmp_path / "unbroken").mkdir()
    assert zygote.run(recipe_in(tmp_path / "unbroken", **lora))[0] == 0
    assert lines(tmp_path / "unbroken/run/metrics.jsonl")[-1]["kl"] > 0
    for number, (moment, done, resumes_at) in enumerate(
        [(READING._replace(occurrence=2), 1, 0), (WEIGHTS_CHANGED, 3, 2), (WEIGHTS_SAVED, 4, 2)]
    ):
        folder = tmp_path / f"killed-{number}"
        folder.mkdir()
        killed_and_resumed(zygote, recipe_in(folder, **lora), moment, done=done, resumes_at=resumes_at)
        check_same_course(folder / "run", tmp_path / "unbroken/run")
        check_same_rollouts(folder / "run", tmp_path / "unbroken/run")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_command_itself_killed_from_outside_and_given_again(unbroken: Course, tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path)
    process = training_process(recipe)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith('{"event": "step"') and '"step": 3,' in line:
            process.kill()
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    again = training_process(recipe)
    assert '"event": "done"' in again.communicate()[0]
    assert again.returncode == 0
    check_same_course(tmp_path / "run", unbroken.folder)
    check_same_rollouts(tmp_path / "run", unbroken.folder)


def test_a_collapse_of_before_does_not_end_the_run_that_began_anew(zygote: Zygote, tmp_path: Path) -> None:
    """Weights were lost before the first checkpoint; the same command began anew, and then was killed."""
    recipe = recipe_in(tmp_path)
    (tmp_path / "run").mkdir()
    words = {"step": 2, "reason": "collapse", "detail": "loss was nan at step 2"}
    (tmp_path / "run/stopped.json").write_text(json.dumps(words))
    killed_and_resumed(zygote, recipe, READING, done=3, resumes_at=2)
