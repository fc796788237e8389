"""The register of captioners: written once, found again as it was, refused when it is another's or has been touched."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from caprl_core.errors import BadInputError, IdentityMismatchError, StoreError
from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.storage.store import Store
from caprl_core.training.exporting import CAPTIONER
from caprl_core.training.mirrored_folder import push_folder
from caprl_core.training.registry import (
    REGISTERED,
    find_captioner,
    local_captioner,
    register_captioner,
    registered_before,
)

ROOT = Path(__file__).parents[2]
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "nested/merges.txt": b"a b\n"}


class Run:
    """The folder of a run that has exported its captioner, mirrored where its output is elsewhere."""

    def __init__(self, folder: Path, output: str, **changes: Any) -> None:
        self.work = folder / "work"
        document = yaml.safe_load((ROOT / "configs/grpo-world.yaml").read_text()) | changes
        document["execution"] |= {"output": output, "work": None if output == str(self.work) else str(self.work)}
        file = folder / "recipe.yaml"
        file.write_text(yaml.safe_dump(document))
        self.recipe: TrainingRecipe = load_training_recipe(file)
        self.output = output
        self.export(FILES)
        record = {
            "recipe": identity(self.recipe),
            "policy": {"name": "world/captioner", "revision": "r3", "path": "somewhere"},
            "questions": {"uri": "a", "images": 32, "questions": 128, "sha256": "aa" * 32},
            "held_out": {"uri": "b", "images": 6, "questions": 24, "sha256": "bb" * 32},
            "versions": {"torch": "2.13.0", "peft": None},
        }
        (self.work / "run.json").write_text(json.dumps(record))
        lines = [{"step": 0, "reward": 0.25}, {"step": 20, "reward": 0.5}, {"step": 40, "reward": 0.375}]
        (self.work / "held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def export(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.work / CAPTIONER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if self.output != str(self.work):
            push_folder(Store(self.output), CAPTIONER, self.work / CAPTIONER)


@pytest.fixture(params=["in the run folder", "in another folder", "on s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    outputs: dict[str, Callable[[], str]] = {
        "in the run folder": lambda: str(tmp_path / "work"),
        "in another folder": lambda: str(tmp_path / "output"),
        "on s3": lambda: f"s3://{request.getfixturevalue('bucket')}/runs/grpo",
    }
    return Run(tmp_path, outputs[request.param]())


@pytest.fixture
def local(tmp_path: Path) -> Run:
    return Run(tmp_path, str(tmp_path / "work"))


def test_what_is_registered_is_found_with_its_lineage(run: Run) -> None:
    assert registered_before(run.recipe) is None
    register_captioner(run.recipe, run.work, 20)
    found = find_captioner(run.output)
    record = found.record
    assert {file.name: (file.size, file.sha256) for file in record.files} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()
    }
    assert (record.name, record.step) == ("grpo-world", 20)
    assert (record.held_out_before, record.held_out_reward) == (0.25, 0.5)
    assert record.fingerprint == fingerprint(identity(run.recipe)) == fingerprint(record.recipe)
    assert (record.questions.sha256, record.held_out.sha256) == ("aa" * 32, "bb" * 32)
    assert (record.policy.name, record.policy.revision) == ("world/captioner", "r3")
    assert record.prompt == run.recipe.policy.prompt
    assert record.image == run.recipe.policy.image
    assert record.versions == {"torch": "2.13.0", "peft": None}
    before = registered_before(run.recipe)
    assert before is not None
    assert (before.uri, before.record) == (found.uri, record)


def test_registering_again_changes_nothing(run: Run) -> None:
    store = Store(run.output)
    first = register_captioner(run.recipe, run.work, 20)
    written = store.get(REGISTERED)
    assert register_captioner(run.recipe, run.work, 20).record == first.record
    assert store.get(REGISTERED) == written


def test_another_captioner_is_refused_and_what_differs_is_named(run: Run) -> None:
    register_captioner(run.recipe, run.work, 20)
    written = Store(run.output).get(REGISTERED)
    with pytest.raises(IdentityMismatchError, match=r"held_out_reward: 0\.375 here, 0\.5 there; step: 40 here, 20"):
        register_captioner(run.recipe, run.work, 40)
    run.export({"model.safetensors": b"others"})
    with pytest.raises(IdentityMismatchError, match=r"files\.model\.safetensors"):
        register_captioner(run.recipe, run.work, 20)
    assert Store(run.output).get(REGISTERED) == written


def test_another_recipe_is_refused_before_it_is_trained(local: Run, tmp_path: Path) -> None:
    register_captioner(local.recipe, local.work, 20)
    other = local.recipe.model_copy(update={"seed": 7})
    with pytest.raises(IdentityMismatchError, match=r"grpo-world of another recipe registered.*seed: 7 here, 0 there"):
        registered_before(other)
    with pytest.raises(IdentityMismatchError, match="the run of another recipe"):
        register_captioner(other, local.work, 20)
    elsewhere = local.recipe.execution.model_copy(update={"output": str(tmp_path / "elsewhere")})
    assert registered_before(local.recipe.model_copy(update={"execution": elsewhere})) is None


def test_a_run_that_has_exported_nothing_is_not_registered(local: Run, tmp_path: Path) -> None:
    (local.work / CAPTIONER).rename(tmp_path / "away")
    with pytest.raises(BadInputError, match="no captioner to register yet"):
        register_captioner(local.recipe, local.work, 20)
    (local.work / "run.json").unlink()
    with pytest.raises(BadInputError, match="no captioner to register yet"):
        register_captioner(local.recipe, local.work, 20)
    assert not (local.work / REGISTERED).exists()


def test_a_captioner_that_did_not_arrive_at_its_output_is_not_registered(tmp_path: Path, bucket: str) -> None:
    run = Run(tmp_path, f"s3://{bucket}/run")
    store = Store(run.output)
    store.delete([f"{CAPTIONER}/model.safetensors"])
    with pytest.raises(StoreError, match=r"model\.safetensors is missing"):
        register_captioner(run.recipe, run.work, 20)
    assert store.size(REGISTERED) is None


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("model.safetensors", b"weights" * 999 + b"WEIGHTS", "has another sha256"),
        ("config.json", b"{ }", "has 3 bytes instead of 2"),
        ("model.safetensors.index.json", b"{}", "does not belong to it"),
        ("config.json", None, "is missing"),
    ],
)
def test_a_captioner_that_was_touched_is_not_found(run: Run, name: str, content: bytes | None, problem: str) -> None:
    register_captioner(run.recipe, run.work, 20)
    store = Store(run.output)
    if content is None:
        store.delete([f"{CAPTIONER}/{name}"])
    else:
        store.put(f"{CAPTIONER}/{name}", content)
    with pytest.raises(StoreError, match=f"{name} {problem}"):
        find_captioner(run.output)


def test_where_none_is_registered_none_is_found_and_nothing_is_made(tmp_path: Path, local: Run, bucket: str) -> None:
    with pytest.raises(BadInputError, match="no such folder"):
        find_captioner(str(tmp_path / "mistyped"))
    assert not (tmp_path / "mistyped").exists()
    for uri in (local.output, f"s3://{bucket}/nothing"):
        with pytest.raises(BadInputError, match="no captioner is registered here"):
            find_captioner(uri)
    (local.work / REGISTERED).write_text("{}")
    with pytest.raises(StoreError, match="no record of a captioner"):
        find_captioner(local.output)


def test_a_stage_gets_a_verified_local_folder(run: Run, tmp_path: Path) -> None:
    register_captioner(run.recipe, run.work, 20)
    found = find_captioner(run.output)
    folder = local_captioner(found, tmp_path / "copy")
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert local_captioner(found, tmp_path / "copy") == folder
    if not found.store.is_local:
        (folder / "config.json").write_bytes(b"[]")
        with pytest.raises(BadInputError, match=r"config\.json has another sha256"):
            local_captioner(found, tmp_path / "copy")
