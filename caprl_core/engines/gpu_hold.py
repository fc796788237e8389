"""Two lanes never have one GPU: a kernel lock for each device, held until the engine's processes are gone.

The lock is `flock` on a file, so it ends with its holder, however that dies; there is no lease that could go stale. The
reaper's helper inherits it: when a lane is killed, the lock stays until the helper has killed the engine's processes
and ended. Should the helper have been killed too, the next holder finds what is left of the engine and kills it first.

Locks are those of one user on one machine; between users and containers the driver's own means must do (exclusive
compute mode, the cluster's device plugin). Devices must be named whole: CUDA takes the beginning of a UUID, too.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from caprl_core.engines import reaper
from caprl_core.engines.devices import QUERY_S, visible_devices
from caprl_core.errors import BadInputError, GpuHeldError

log = logging.getLogger(__name__)

FOLDER = Path("/tmp")  # noqa: S108 - not TMPDIR, which batch systems set anew for each job; made safe in `_folder`
WAIT_S = 120.0
"""Seconds a lane waits for the one before it: twice what a lane has to flush its logs and close its engine."""
LOOK_S = 0.2
TELL_S = 10.0


@contextmanager
def hold_gpus(
    devices: str | None, *, wait_s: float = WAIT_S, tell: Callable[[str], None] = log.warning, folder: Path = FOLDER
) -> Iterator[tuple[str, ...]]:
    """Hold the devices `CUDA_VISIBLE_DEVICES` names while the block runs; yields them. None: all that the driver lists.

    Waits up to `wait_s` seconds for those who hold one, and tells who that is. Raises `GpuHeldError` then, and
    `BadInputError` where the folder of the locks is not ours. Start the engine inside, and close it there.
    """
    named = visible_devices({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices})
    deadline = time.monotonic() + wait_s
    held: list[int] = []
    try:
        if named:
            place = _folder(folder)
            try:
                # In one order, so that two who want the same pair do not each get half of it.
                for name in sorted(_locks(named)):
                    held.append(_hold(place, name, deadline, tell))
                    reaper.HANDED_ON.append(held[-1])
            finally:
                os.close(place)
        yield tuple(named)
    finally:
        for descriptor in held:
            if descriptor in reaper.HANDED_ON:
                reaper.HANDED_ON.remove(descriptor)
            # Closed, not unlocked: a helper that still has an engine to kill keeps the lock.
            os.close(descriptor)


def _hold(place: int, name: str, deadline: float, tell: Callable[[str], None]) -> int:
    told = 0.0
    descriptor = os.open(_file_name(name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                holder = _shown(_read(descriptor))
                if now >= deadline:
                    raise GpuHeldError(
                        f"GPU {name} is held by {holder}; two lanes never share one. End that process, or give this "
                        "worker another CUDA_VISIBLE_DEVICES"
                    ) from None
                if now - told >= TELL_S:
                    told = now
                    tell(f"GPU {name} is held by {holder}; waiting up to {deadline - now:.0f} s for it")
            time.sleep(LOOK_S)
        _end_what_is_left(_read(descriptor), name, tell)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _end_what_is_left(pid: int | None, name: str, tell: Callable[[str], None]) -> None:
    """Kill engine processes whose parent held the device and is gone, and its helper with it."""
    if pid is None or pid == os.getpid() or psutil.pid_exists(pid):
        return  # alive and without the lock: it gave the device up itself, after closing its engine
    for mark in reaper.marks_of(pid):
        tell(f"GPU {name}: killing what is left of the engine of process {pid}")
        reaper.kill_marked(mark)


def _folder(parent: Path) -> int:
    """A descriptor of our own folder below `parent`, which others may write to."""
    path = parent / f"caprl-gpus-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BadInputError(f"{path}: the locks of GPUs lie in this folder, and it cannot be used: {error}") from error
    facts = os.fstat(descriptor)
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        os.close(descriptor)
        raise BadInputError(f"{path}: the locks of GPUs lie in this folder, and others can write to it; remove it")
    return descriptor


def _file_name(device: str) -> str:
    """A name below the folder, different for different devices, whatever they are called."""
    if re.fullmatch(r"[A-Za-z0-9-]{1,100}", device):
        return device
    return "other-" + hashlib.sha256(device.encode()).hexdigest()[:32]


def _locks(devices: list[str]) -> set[str]:
    """What to lock: the UUID of each device as far as the driver tells, else its name.

    Not the number beside the UUID: two jobs of a batch system may each see a GPU of its own as 0.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return set(devices)
    try:
        listed = subprocess.run(  # noqa: S603 - the driver's own program and constant arguments
            [program, "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=QUERY_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return set(devices)
    pairs = [[word.strip() for word in line.split(",")] for line in listed.stdout.splitlines()]
    return {next((pair[-1] for pair in pairs if name in pair), name) for name in devices}


def _read(descriptor: int) -> int | None:
    with contextlib.suppress(ValueError):
        return int(os.pread(descriptor, 32, 0))
    return None


def _shown(pid: int | None) -> str:
    try:
        words = " ".join(" ".join(psutil.Process(pid).cmdline()).split())[:200] if pid else ""
    except psutil.Error:
        return f"what is left of process {pid}, whose engine is being ended"
    return f"process {pid} ({words})"
