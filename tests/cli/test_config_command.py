"""`caprl config` and what holds for every `caprl` command, as a user at a shell sees it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from caprl_core.errors import (
    BadInputError,
    CaprlError,
    EngineDeadError,
    IdentityMismatchError,
    ShardQuarantinedError,
    StoreError,
)
from caprl_core.exit_codes import MEANINGS, ExitCode, exit_code
from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.load import load_any_recipe, load_recipe

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.yaml"


def caprl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "caprl_core.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.fixture
def bad_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(DEMO.read_text() + "samplng: {temperature: 1}\n")
    return path


def test_check_accepts_every_shipped_recipe_and_prints_its_fingerprint() -> None:
    configs = sorted((ROOT / "configs").glob("*.yaml"))
    done = caprl("config", "check", *configs)
    assert done.returncode == ExitCode.OK, done.stderr
    expected = [
        f"{path}: ok: {(r := load_any_recipe(path)).name}, fingerprint {fingerprint(identity(r))}" for path in configs
    ]
    assert done.stdout.splitlines() == expected


def test_check_names_the_problem_and_goes_on_to_the_next_file(bad_recipe: Path) -> None:
    done = caprl("config", "check", bad_recipe, DEMO)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "samplng: unknown key; did you mean `sampling`?" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"{DEMO}: ok" in done.stdout


def test_check_as_json_tells_scripts_the_same(bad_recipe: Path) -> None:
    done = caprl("config", "check", "--json", bad_recipe, DEMO)
    assert done.returncode == ExitCode.BAD_INPUT
    bad, good = json.loads(done.stdout)
    assert (bad["ok"], good["ok"]) == (False, True)
    assert "samplng" in bad["problems"][0]
    assert good["name"] == "demo"


def test_show_prints_a_recipe_that_loads_to_the_same_identity(tmp_path: Path) -> None:
    done = caprl("config", "show", DEMO)
    assert done.returncode == ExitCode.OK
    shown = tmp_path / "shown.yaml"
    shown.write_text(done.stdout)
    assert load_recipe(shown) == load_recipe(DEMO)


def test_show_identity_names_no_place() -> None:
    done = caprl("config", "show", "--identity", DEMO)
    shown = yaml.safe_load(done.stdout)
    assert shown == identity(load_recipe(DEMO))
    assert "execution" not in shown


def test_show_as_json_carries_recipe_identity_and_fingerprint() -> None:
    shown = json.loads(caprl("config", "show", "--json", DEMO).stdout)
    assert shown["fingerprint"] == fingerprint(shown["identity"])
    assert shown["recipe"]["execution"]["engine"]["kind"] == "transformers"


def test_show_of_a_bad_recipe_ends_with_2_and_no_traceback(bad_recipe: Path) -> None:
    done = caprl("config", "show", bad_recipe)
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stdout == ""
    assert done.stderr.startswith("caprl: ")
    assert len(done.stderr.splitlines()) == 1


def test_schema_lists_every_field_with_default_kind_and_description() -> None:
    text = caprl("config", "schema").stdout
    assert "sampling.temperature  [identity, default 1.0]\n    Softmax temperature; 0 is greedy." in text
    assert "execution.output  [execution, required]" in text
    assert "sources.*.uri  [execution, required]" in text


def test_schema_as_json_is_a_json_schema() -> None:
    schema = json.loads(caprl("config", "schema", "--json").stdout)
    assert schema["type"] == "object"
    assert {"sources", "model", "execution"} <= set(schema["properties"])


# Every command


def test_help_states_each_exit_code() -> None:
    text = " ".join(caprl("--help").stdout.split())
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {meaning}" in text
    assert set(MEANINGS) == set(ExitCode)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from caprl_core.cli import app\n"
        "heavy = {'torch', 'transformers', 'vllm', 'pyarrow', 'obstore', 's3fs', 'prefect', 'PIL', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_usage_ends_with_2() -> None:
    assert caprl("config", "check").returncode == ExitCode.BAD_INPUT
    assert caprl("no-such-command").returncode == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInputError("x"), 2),
        (IdentityMismatchError("x"), 2),
        (ShardQuarantinedError("x"), 5),
        (StoreError("x"), 1),
        (EngineDeadError("x"), 1),
        (CaprlError("x"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_has_its_exit_code(error: CaprlError, code: int) -> None:
    assert exit_code(error) == code


INTERRUPTIBLE = """
import time
from caprl_core.cli import app, main

@app.command("wait")
def wait() -> None:
    print("waiting", flush=True)
    time.sleep(60)

main()
"""


def test_an_interrupted_command_ends_with_130_and_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in stderr
