"""The shape of the project: who may import whom, how long a file may be, and that every module is described."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400

LAYERS: dict[str, int] = {
    "errors": 0,
    "exit_codes": 1,
    "data": 1,
    "recipe": 1,
    "storage": 2,
    "engines": 2,
    "shards": 3,
    "captioning": 4,
    "qa": 4,
    "reward": 4,
    "telemetry": 4,
    "training": 4,
    "prism": 4,
    "pretraining": 4,
    "factory": 4,
    "export": 4,
    "report": 4,
    "doctor": 4,
    "world": 4,
    "cli": 5,
}
"""Sub-packages of caprl_core; one may import what lies below it, its neighbours in layers 1 and 4, and itself."""

NEIGHBOURS_MAY_MEET = (1, 4)
"""data and recipe describe one another's values; stages use each other's exports. storage and engines stay apart."""


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


CODE = python_files("caprl_core", "flows", "tasks")
EVERYTHING = [*CODE, *python_files("tests", "bench", "scripts")]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in CODE}


def imports(path: Path) -> list[tuple[str, int]]:
    """(module, line) of every import in a file, inside functions and type-checking blocks too."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)}:{node.lineno}: relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append((inner if inner in MODULES else node.module, node.lineno))
    return found


def subpackage(module: str) -> str:
    """`caprl_core.recipe.load` -> `recipe`; the package itself -> ``."""
    return module.split(".")[1] if "." in module else ""


# Who may import whom


@pytest.mark.parametrize("forbidden", ["prefect", "flows", "tasks"])
def test_caprl_core_imports_no_prefect_and_nothing_above_it(forbidden: str) -> None:
    found = [
        f"{shown(path)}:{line}: {module}"
        for path in python_files("caprl_core")
        for module, line in imports(path)
        if module.split(".")[0] == forbidden
    ]
    assert not found, "\n".join(found)


def test_tasks_import_no_flows() -> None:
    found = [
        f"{shown(path)}:{line}: {module}"
        for path in python_files("tasks")
        for module, line in imports(path)
        if module.split(".")[0] == "flows"
    ]
    assert not found, "\n".join(found)


IMPORT_ALL = """
import importlib, sys
skipped = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Optional parts: an engine that is not installed here, or the demo's embedded server.
        if (error.name or "").split(".")[0] not in ("vllm", "moto"):
            raise
        skipped.append(name)
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "prefect")
print("skipped:", *skipped)
print("prefect:", *loaded[:5])
"""


def test_importing_every_module_of_caprl_core_loads_no_prefect() -> None:
    names = [name for name in MODULES if subpackage(name) and name.split(".")[0] == "caprl_core"]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "prefect:", done.stdout


def test_every_measurement_can_be_started() -> None:
    """They share servers and drawn datasets with the tests, whose folder is not on their path."""
    paths = sorted((ROOT / "bench").glob("*.py"))
    names = [f"bench.{path.stem}" for path in paths if not path.stem.startswith("__")]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_every_subpackage_has_a_layer() -> None:
    known = {subpackage(name) for name in MODULES if name.startswith("caprl_core.")}
    assert known <= set(LAYERS), f"give these a layer: {sorted(known - set(LAYERS))}"


def test_imports_run_one_way() -> None:
    found = []
    for name, path in MODULES.items():
        if not name.startswith("caprl_core."):
            continue
        own = subpackage(name)
        for module, line in imports(path):
            if not module.startswith("caprl_core."):
                continue
            other = subpackage(module)
            mine, theirs = LAYERS[own], LAYERS[other]
            if theirs > mine or (theirs == mine and own != other and mine not in NEIGHBOURS_MAY_MEET):
                found.append(f"{shown(path)}:{line}: {own} (layer {mine}) imports {module} (layer {theirs})")
    assert not found, "\n".join(found)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: sorted({module for module, _ in imports(path) if module in MODULES and module != name})
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for module in graph[name]:
                visit(module, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


# What a file looks like


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_every_module_says_what_it_does() -> None:
    silent = [shown(path) for path in EVERYTHING if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent, silent


def test_files_are_named_after_their_one_job() -> None:
    vague = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}
    assert not [shown(path) for path in CODE if path.stem in vague]


def test_test_files_have_unique_names() -> None:
    # pytest imports them by basename, as there are no packages among the tests.
    names = [path.name for path in python_files("tests") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def test_every_module_is_described_in_the_architecture_page() -> None:
    page = ROOT / "docs" / "architecture.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    missing = []
    for path in CODE:
        if path.name == "__init__.py" and len(ast.parse(path.read_text(encoding="utf-8")).body) <= 1:
            continue  # nothing but its docstring
        name = shown(path).removeprefix("caprl_core/")
        if not re.search(rf"(?<![\w/])(caprl_core/)?{re.escape(name)}(?!\w)", text):
            missing.append(shown(path))
    assert not missing, "not named in docs/architecture.md:\n" + "\n".join(missing)
