"""The mirror of a run: what is there is whole or does not count, and losing the work folder loses no checkpoint."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caprl_core.errors import IdentityMismatchError, StoreError
from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.models import StorageExecution
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.storage.store import Store
from caprl_core.training.checkpoints import newest_checkpoint
from caprl_core.training.curve import append_line, read_lines
from caprl_core.training.mirror import Mirror
from support.flaky_proxy import FlakyProxy
from support.world_training import RECIPE

REWARDS = {2: 0.4, 4: 0.9, 6: 0.5, 8: 0.6, 10: 0.7, 12: 0.8}
"""Step 4 is the best."""


@pytest.fixture(params=["folder", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "mirror")
    return f"s3://{request.getfixturevalue('bucket')}/runs/one"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "caprl_core"):
        yield caplog


def recipe_of(output: str, *, kept: int = 2, seed: int = 0, export: str = "best", **storage: Any) -> TrainingRecipe:
    known = load_training_recipe(RECIPE)
    execution = {"output": output, "checkpoints_kept": kept, "storage": StorageExecution(**storage)}
    return known.model_copy(
        update={
            "seed": seed,
            "execution": known.execution.model_copy(update=execution),
            "evaluation": known.evaluation.model_copy(update={"export": export}),
        }
    )


def begin(recipe: TrainingRecipe, work: Path, questions: str = "q") -> None:
    work.mkdir(parents=True, exist_ok=True)
    record = {
        "recipe": identity(recipe),
        "fingerprint": fingerprint(identity(recipe)),
        "questions": {"sha256": questions},
        "held_out": {"sha256": "h"},
    }
    (work / "run.json").write_text(json.dumps(record))
    (work / "pictures").mkdir(exist_ok=True)
    (work / "pictures" / "0a.png").write_bytes(b"a picture")


def train_to(work: Path, step: int, attempt: str = "") -> Path:
    """What two steps leave: a line each, their rollouts, an evaluation and a checkpoint."""
    for one in (step - 1, step):
        append_line(work / "metrics.jsonl", {"step": one, "loss": one / 7})
        (work / "rollouts").mkdir(exist_ok=True)
        (work / "rollouts" / f"step-{one:06d}.parquet").write_bytes(f"rollouts {one}{attempt}".encode())
    append_line(work / "held_out.jsonl", {"step": step, "reward": REWARDS[step]})
    (work / "held_out").mkdir(exist_ok=True)
    (work / "held_out" / f"step-{step:06d}.parquet").write_bytes(f"held out {step}".encode())
    folder = work / "checkpoints" / f"checkpoint-{step}"
    (folder / "global_step").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(f"{step}{attempt}".encode() * 50_000)
    (folder / "optimizer.pt").write_bytes(b"\x80\x04" + bytes(range(256)) * step)
    (folder / "empty").write_bytes(b"")
    (folder / "global_step" / "shard-0.pt").write_bytes(b"nested")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mirrored(store: Store, prefix: str = "") -> dict[str, bytes]:
    return {item.key: store.get(item.key) for item in store.list(prefix)}


def steps_there(store: Store) -> list[int]:
    keys = [item.key for item in store.list("checkpoints")]
    return sorted(int(key.split("-")[1].split("/")[0]) for key in keys if key.endswith("/whole.json"))


def run_to(recipe: TrainingRecipe, work: Path, last: int) -> Mirror:
    """A run that mirrors a checkpoint every two steps."""
    begin(recipe, work)
    mirror = Mirror(recipe, work)
    mirror.restore()
    for step in range(2, last + 1, 2):
        mirror.push_checkpoint(train_to(work, step))
    return mirror


def test_a_lost_work_folder_comes_back_from_the_mirror(output: str, work: Path) -> None:
    recipe = recipe_of(output)
    run_to(recipe, work, 6).push_records()
    before = content(work)
    shutil.rmtree(work)
    Mirror(recipe, work).restore()
    after = content(work)
    missing = {name.split("/")[0] + "/" + name.split("/")[1] for name in before.keys() - after.keys()}
    # Neither the rollouts of old steps nor the checkpoint that is neither best nor newest is needed to go on.
    assert missing == {
        "checkpoints/checkpoint-2",
        *(f"rollouts/step-{n:06d}.parquet" for n in range(1, 7)),
        "pictures/0a.png",
    }
    assert {name: before[name] for name in after} == after
    assert newest_checkpoint(work / "checkpoints") == work / "checkpoints/checkpoint-6"
    assert (work / "checkpoints/checkpoint-4").is_dir(), "the best one is what will be exported"


def test_only_the_newest_is_brought_when_the_last_one_is_exported(output: str, work: Path) -> None:
    recipe = recipe_of(output, export="last")
    run_to(recipe, work, 6)
    shutil.rmtree(work)
    Mirror(recipe, work).restore()
    assert [path.name for path in (work / "checkpoints").iterdir()] == ["checkpoint-6"]


def test_a_work_folder_that_is_as_far_is_left_alone(output: str, work: Path) -> None:
    recipe = recipe_of(output)
    run_to(recipe, work, 6)
    append_line(work / "metrics.jsonl", {"step": 7})
    before = content(work)
    Mirror(recipe, work).restore()
    assert content(work) == before


def test_a_work_folder_that_fell_behind_is_brought_up(output: str, work: Path, tmp_path: Path) -> None:
    recipe = recipe_of(output)
    run_to(recipe, work, 2)
    shutil.copytree(work, tmp_path / "other")
    other = Mirror(recipe, tmp_path / "other")
    other.restore()
    for step in (4, 6):
        other.push_checkpoint(train_to(tmp_path / "other", step))
    half = work / "checkpoints" / "checkpoint-6"  # this machine died while it wrote one
    half.mkdir()
    (half / "optimizer.pt").write_bytes(b"cut")
    Mirror(recipe, work).restore()
    assert content(half) == content(tmp_path / "other/checkpoints/checkpoint-6")
    assert [line["step"] for line in read_lines(work / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_the_mirror_keeps_the_newest_checkpoints_and_the_best(output: str, work: Path) -> None:
    store = Store(output)
    recipe = recipe_of(output, kept=2)
    begin(recipe, work)
    mirror = Mirror(recipe, work)
    seen = []
    for step in REWARDS:
        made = train_to(work, step)
        mirror.push_checkpoint(made)
        seen.append(steps_there(store))
    assert seen == [[2], [2, 4], [4, 6], [4, 6, 8], [4, 8, 10], [4, 10, 12]]
    assert {key.split("/")[1] for key in mirrored(store, "checkpoints")} == {f"checkpoint-{n}" for n in (4, 10, 12)}


def test_what_a_killed_push_left_does_not_count_and_goes_with_the_next(output: str, work: Path) -> None:
    store = Store(output)
    recipe = recipe_of(output, kept=3)
    run_to(recipe, work, 4)
    for key, data in mirrored(store, "checkpoints/checkpoint-4").items():
        if not key.endswith("whole.json"):
            store.put(key.replace("-4/", "-6/"), data)  # a push of step 6, killed before its last object
    shutil.rmtree(work)
    mirror = Mirror(recipe, work)
    mirror.restore()
    assert newest_checkpoint(work / "checkpoints") == work / "checkpoints/checkpoint-4"
    mirror.push_checkpoint(train_to(work, 8))
    assert steps_there(store) == [2, 4, 8]
    assert not mirrored(store, "checkpoints/checkpoint-6")


def damage(store: Store, how: str, key: str) -> None:
    data = store.get(key)
    if how == "gone":
        store.delete([key])
    elif how == "cut":
        store.put(key, data[:-1])
    else:
        store.put(key, data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json", "whole.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, work: Path, warned: pytest.LogCaptureFixture, how: str, name: str
) -> None:
    output = str(tmp_path / "mirror")
    store = Store(output)
    recipe = recipe_of(output, kept=3)
    run_to(recipe, work, 6)
    before = content(work / "checkpoints/checkpoint-4")
    damage(store, how, f"checkpoints/checkpoint-6/{name}")
    shutil.rmtree(work)
    mirror = Mirror(recipe, work)
    mirror.restore()
    assert newest_checkpoint(work / "checkpoints") == work / "checkpoints/checkpoint-4"
    assert content(work / "checkpoints/checkpoint-4") == before
    assert [path.name for path in (work / "checkpoints").iterdir()] == ["checkpoint-4"]
    if (how, name) != ("gone", "whole.json"):  # that one is merely half
        assert "checkpoint 6 is passed over" in warned.text
    mirror.push_checkpoint(train_to(work, 6, "made again"))
    shutil.rmtree(work)
    Mirror(recipe, work).restore()
    assert content(work / "checkpoints/checkpoint-6")["model.safetensors"] == b"6made again" * 50_000


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/escaped", "a/../../escaped", "a\\b", ""])
def test_a_manifest_cannot_name_a_file_elsewhere(
    tmp_path: Path, work: Path, warned: pytest.LogCaptureFixture, name: str
) -> None:
    output = str(tmp_path / "mirror")
    store = Store(output)
    recipe = recipe_of(output)
    run_to(recipe, work, 2)
    key = "checkpoints/checkpoint-2/whole.json"
    manifest = json.loads(store.get(key))
    manifest["files"][0]["name"] = name
    store.put(key, json.dumps(manifest).encode())
    shutil.rmtree(work)
    Mirror(recipe, work).restore()
    assert newest_checkpoint(work / "checkpoints") is None
    assert "checkpoint 2 is passed over" in warned.text
    assert not list(tmp_path.rglob("*escaped*"))


def test_curves_reach_as_far_as_a_checkpoint_that_counts(output: str, work: Path) -> None:
    """`push_records` is not asked for: a kill may come between."""
    run_to(recipe_of(output), work, 6)
    store = Store(output)
    assert store.get("metrics.jsonl") == (work / "metrics.jsonl").read_bytes()
    assert store.get("held_out.jsonl") == (work / "held_out.jsonl").read_bytes()
    assert store.get("rollouts/step-000006.parquet") == b"rollouts 6"
    assert store.get("pictures/0a.png") == b"a picture"


def test_files_are_put_once_and_again_when_they_are_made_again(output: str, work: Path) -> None:
    store = Store(output)
    recipe = recipe_of(output)
    mirror = run_to(recipe, work, 4)
    modified = {item.key: item.modified for item in store.list("rollouts")}
    mirror.push_records()
    again = Mirror(recipe, work)  # the run is killed and resumed at step 4
    again.restore()
    again.push_records()
    assert {item.key: item.modified for item in store.list("rollouts")} == modified
    (work / "rollouts" / "step-000004.parquet").write_bytes(b"ROLLOUTS 4")  # of the same size
    again.push_records()
    assert store.get("rollouts/step-000004.parquet") == b"ROLLOUTS 4"


def test_the_note_of_a_stop_goes_when_the_run_goes_on(output: str, work: Path) -> None:
    store = Store(output)
    mirror = run_to(recipe_of(output), work, 2)
    (work / "stopped.json").write_text('{"step": 2, "reason": "collapse"}')
    mirror.push_records()
    assert store.size("stopped.json") is not None
    shutil.copytree(work, work.with_name("kept"))
    shutil.rmtree(work)
    mirror = Mirror(recipe_of(output), work)
    mirror.restore()
    assert (work / "stopped.json").exists(), "a collapsed run must not go on elsewhere unawares"
    (work / "stopped.json").unlink()
    mirror.push_records()
    assert store.size("stopped.json") is None


def test_the_captioner_is_put_whole_in_the_place_of_an_earlier_one(output: str, work: Path) -> None:
    store = Store(output)
    mirror = run_to(recipe_of(output), work, 2)
    captioner = work / "captioner"
    captioner.mkdir()
    (captioner / "model-00001.safetensors").write_bytes(b"x" * 100)
    (captioner / "README.md").write_text("# First")
    mirror.push_captioner(captioner)
    (captioner / "model-00001.safetensors").rename(captioner / "model.safetensors")
    (captioner / "README.md").write_text("# Second")
    mirror.push_captioner(captioner)
    there = mirrored(store, "captioner")
    manifest = json.loads(there.pop("captioner/whole.json"))
    assert there == {f"captioner/{name}": data for name, data in content(captioner).items()}
    assert [(one["name"], one["size"]) for one in manifest["files"]] == [("README.md", 8), ("model.safetensors", 100)]


@pytest.mark.parametrize("differs", ["recipe", "questions"])
def test_the_mirror_of_another_run_is_refused_and_left_as_it_is(output: str, work: Path, differs: str) -> None:
    run_to(recipe_of(output), work, 2)
    before = mirrored(Store(output))
    ours = recipe_of(output, seed=5 if differs == "recipe" else 0)
    begin(ours, work.with_name("other"), questions="other" if differs == "questions" else "q")
    with pytest.raises(IdentityMismatchError, match="seed" if differs == "recipe" else "questions"):
        Mirror(ours, work.with_name("other")).restore()
    assert mirrored(Store(output)) == before
    if differs == "recipe":
        with pytest.raises(IdentityMismatchError, match="seed: 5 here, 0 there"):
            Mirror(ours, work.with_name("new")).restore()


def test_a_new_work_folder_takes_over_the_record_even_without_a_checkpoint(output: str, work: Path) -> None:
    recipe = recipe_of(output)
    begin(recipe, work)
    Mirror(recipe, work).push_records()
    Mirror(recipe, work.with_name("new")).restore()
    assert content(work.with_name("new")) == {"run.json": (work / "run.json").read_bytes()}


def test_a_mirror_without_a_run_has_nothing_to_restore(output: str, work: Path) -> None:
    Mirror(recipe_of(output), work).restore()
    assert not work.exists()


def test_training_goes_on_without_the_store_and_catches_up(
    s3_endpoint: str, bucket: str, work: Path, warned: pytest.LogCaptureFixture
) -> None:
    proxy = FlakyProxy(s3_endpoint)
    proxy.faults = ("error 503",)
    output = f"s3://{bucket}/run"
    recipe = recipe_of(output, kept=3, endpoint=proxy.endpoint, retries=1, retry_timeout_s=2)
    begin(recipe, work)
    mirror = Mirror(recipe, work)
    mirror.restore()
    mirror.push_checkpoint(train_to(work, 2))
    proxy.share = 1.0
    mirror.push_checkpoint(train_to(work, 4))
    mirror.push_records()
    assert "checkpoint 4 could not be put into the mirror" in warned.text
    assert "the records could not be put into the mirror" in warned.text
    assert steps_there(Store(output)) == [2]
    with pytest.raises(StoreError):
        mirror.push_records(last=True)
    with pytest.raises(StoreError):
        mirror.push_checkpoint(work / "checkpoints/checkpoint-4", last=True)
    with pytest.raises(StoreError):
        mirror.push_captioner(work / "checkpoints/checkpoint-4")
    with pytest.raises(StoreError):
        Mirror(recipe, work).restore()
    proxy.share = 0.0
    mirror.push_checkpoint(train_to(work, 6))
    assert steps_there(Store(output)) == [2, 4, 6]
    assert Store(output).get("rollouts/step-000003.parquet") == b"rollouts 3"
    proxy.close()


def test_a_checkpoint_the_store_was_too_weak_for_comes_with_the_captioner(
    s3_endpoint: str, bucket: str, work: Path
) -> None:
    proxy = FlakyProxy(s3_endpoint)
    proxy.faults = ("error 500",)
    recipe = recipe_of(f"s3://{bucket}/run", endpoint=proxy.endpoint, retries=0, retry_timeout_s=2)
    begin(recipe, work)
    mirror = Mirror(recipe, work)
    proxy.share = 1.0
    mirror.push_checkpoint(train_to(work, 2))
    proxy.share = 0.0
    mirror.push_captioner(work / "pictures")
    store = Store(f"s3://{bucket}/run")
    assert steps_there(store) == [2]
    assert store.size("metrics.jsonl") == (work / "metrics.jsonl").stat().st_size
    proxy.close()


def test_a_flickering_store_gives_whole_checkpoints_or_none(s3_endpoint: str, bucket: str, work: Path) -> None:
    proxy = FlakyProxy(s3_endpoint, seed=3)
    proxy.faults = ("error 500", "half request", "half reply", "lost reply")
    proxy.share = 0.2
    recipe = recipe_of(f"s3://{bucket}/run", endpoint=proxy.endpoint, timeout_s=5, retries=8, retry_timeout_s=30)
    run_to(recipe, work, 8).push_records(last=True)
    before = content(work / "checkpoints")
    shutil.rmtree(work)
    Mirror(recipe, work).restore()
    after = content(work / "checkpoints")
    assert {name.split("/")[0] for name in after} == {"checkpoint-8", "checkpoint-4"}
    assert {name: before[name] for name in after} == after
    assert len(proxy.seen) == 4
    proxy.close()
