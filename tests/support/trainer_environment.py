"""A virtual environment for LLaMA-Factory, whose pins clash with ours: built once by uv, kept in `.cache`."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = "0.9.5"
STUB = '"""Only pictures are read here; the builds of torchaudio on PyPI need CUDA beside them."""\n'


def llamafactory_python() -> str:
    """Its interpreter: LLAMAFACTORY_PYTHON if set, else that of an environment made here.

    The calling test is skipped, with the installer's own words, where the package cannot be installed.
    """
    if given := os.environ.get("LLAMAFACTORY_PYTHON"):
        return given
    kept = ROOT / ".cache" / f"llamafactory-{VERSION}"
    python = kept / "bin" / "python"
    if not (kept / "complete").exists():
        shutil.rmtree(kept, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        _run([str(uv), "venv", "--quiet", "--python", sys.executable, str(kept)], {})
        torch = importlib.metadata.version("torch")
        command = [str(uv), "pip", "install", "--quiet", "--python", str(python), f"llamafactory=={VERSION}"]
        if torch.endswith("+cpu"):
            # What scripts/install.py takes beside a CPU torch, and for the same reasons.
            overrides = kept / "overrides.txt"
            never = [f"{name} ; sys_platform == 'never'" for name in ("torchaudio", "triton")]
            overrides.write_text("\n".join([f"torch=={torch}", "torchvision==0.16.2", *never]))
            command += ["--override", str(overrides)]
        _run(command, _uv_settings())
        if torch.endswith("+cpu"):
            packages = next((kept / "lib").glob("python3*")) / "site-packages"
            (packages / "torchaudio.py").write_text(STUB)
        (kept / "complete").touch()
    return str(python)


def _uv_settings() -> Mapping[str, str]:
    """pip's configuration for uv, as `make setup` hands it on."""
    spec = spec_from_file_location("caprl_install_for_trainers", ROOT / "scripts" / "install.py")
    assert spec is not None and spec.loader is not None
    install = module_from_spec(spec)
    sys.modules[spec.name] = install  # dataclasses look their module up
    spec.loader.exec_module(install)
    pip = Path(sys.base_prefix) / "bin" / "python3"
    listed = subprocess.run([str(pip), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    settings: Mapping[str, str] = install.uv_settings(listed.stdout, os.environ)
    return settings


def _run(command: list[str], settings: Mapping[str, str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **settings})
    if done.returncode:
        pytest.skip(f"LLaMA-Factory {VERSION} cannot be installed here: {done.stderr.strip()[-500:]}")
