"""Decoding in processes of its own: an image that hangs, crashes or eats memory costs its sample and nothing else.

The processes are plain subprocesses, not multiprocessing's or pebble's: those import the parent's main module into
every worker (with Prefect and pyarrow, when a flow is the main module), send pickles, and share one pipe and lock, so
that the death of an idle worker ended pebble 5.1's whole pool.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from caprl_core.data.decode_worker import LENGTH, REPLY, WorkerSettings
from caprl_core.data.images import Encoding, check_bytes
from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PreparedImage
from caprl_core.errors import CaprlError, SampleFailedError
from caprl_core.recipe.models import ImageRecipe

# Workers end themselves on time; the parent steps in only if one cannot, for example because it was stopped (SIGSTOP).
_GRACE_S: Final = 30.0
# Seconds a worker may take to import Pillow and pydantic; 0.3 on an idle machine.
_START_S: Final = 120.0
_DETAIL_CHARACTERS: Final = 300
# What a decoder needs of the parent's environment. Credentials are not among it.
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONHOME")

WORKER_COMMAND: Final = (sys.executable, "-P", "-m", "caprl_core.data.decode_worker")


class DecodePool:
    """Up to `workers` decoding processes, used from one event loop by any number of tasks.

    `timeout_s` is wall seconds one image may take, `memory_mb` MiB of address space one process may take. Processes
    start at the first need, are replaced when they die, and never outlive this process. At most `workers` images are
    in transit at once; further callers wait.
    """

    def __init__(
        self,
        recipe: ImageRecipe,
        *,
        workers: int,
        timeout_s: float,
        memory_mb: int,
        encoding: Encoding = "png",
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._recipe = recipe
        settings = WorkerSettings(recipe.model_dump(mode="json"), encoding, timeout_s, memory_mb, os.getpid())
        self._workers = tuple(_Worker(settings, command) for _ in range(workers))
        # Last in, first out: under light load the same warm process serves, and the others are never started.
        self._free: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        for worker in self._workers:
            self._free.put_nowait(worker)
        self._closed = False

    async def prepare(self, data: bytes) -> PreparedImage:
        """`prepare_image(data, recipe, encoding)` in a worker. A cancelled call kills its worker; another follows.

        Raises SampleFailedError with an IMAGE_* reason, among them IMAGE_TIMEOUT and IMAGE_CRASHED; CaprlError when
        workers cannot be started at all or the pool is closed.
        """
        check_bytes(data, self._recipe)
        worker = await self._free.get()
        try:
            self._check_open()
            return await worker.prepare(data)
        except CaprlError:
            self._check_open()  # a worker killed by close() says nothing about its image
            raise
        finally:
            self._free.put_nowait(worker)

    def close(self) -> None:
        """Kill all workers and wait for their end (milliseconds). Calls still waiting raise CaprlError."""
        self._closed = True
        for worker in self._workers:
            worker.kill()

    async def __aenter__(self) -> Self:
        """Return the pool; leaving the block closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pool."""
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise CaprlError("the decode pool is closed; make a new one")


class _Worker:
    """One process and its socket; used by one task at a time."""

    def __init__(self, settings: WorkerSettings, command: Sequence[str]) -> None:
        self._settings = settings
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._errors: IO[bytes] | None = None
        self._busy = False

    async def prepare(self, data: bytes) -> PreparedImage:
        self._busy = True
        complete = False
        try:
            channel = await self._started()
            try:
                async with asyncio.timeout(self._settings.timeout_s + _GRACE_S):
                    facts, pixels = await _exchanged(channel, data)
            except TimeoutError:
                raise SampleFailedError(Reason.IMAGE_TIMEOUT, "the decoding process no longer reacts") from None
            except OSError:
                raise self._death() from None
            complete = True
        finally:
            self._busy = False
            if not complete:  # dead, stuck or half-way through a frame
                self.kill()
        if "reason" in facts:
            raise SampleFailedError(Reason(facts["reason"]), facts["detail"])
        return PreparedImage(original=data, encoded=pixels, **{**facts, "notes": tuple(facts["notes"])})

    def kill(self) -> None:
        """End the process now. While a task uses the socket only that task closes it: a watched one cannot be."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._busy:
            return
        self._process = None
        for resource in (self._channel, self._errors):
            if resource is not None:
                resource.close()
        self._channel = self._errors = None

    async def _started(self) -> socket.socket:
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            return self._channel
        for resource in (self._channel, self._errors):
            if resource is not None:
                resource.close()
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        with theirs:
            # Started by the loop's own thread: on Linux a worker dies with the thread that started it.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  # takes 2 ms; fixed command
                self._command,
                stdin=theirs.fileno(),
                stdout=self._errors,
                stderr=self._errors,
                env=_worker_environment(),
                process_group=0,  # Ctrl-C on the terminal is for the parent, also while this one is still importing
            )
        settings = json.dumps(asdict(self._settings)).encode()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_START_S):
                await loop.sock_sendall(self._channel, LENGTH.pack(len(settings)) + settings)
                await _received(self._channel, REPLY.size)
        except OSError as error:  # TimeoutError included
            raise CaprlError(f"the image decoding process does not start: {self._last_words()}") from error
        return self._channel

    def _death(self) -> SampleFailedError:
        process = self._process
        if process is None:
            return SampleFailedError(Reason.IMAGE_CRASHED, "the decoding process is gone")
        try:
            code = process.wait(timeout=1)  # its socket is closed, so it is ending
        except subprocess.TimeoutExpired:
            return SampleFailedError(Reason.IMAGE_CRASHED, "the decoding process closed its connection")
        if code == -signal.SIGALRM:
            return SampleFailedError(
                Reason.IMAGE_TIMEOUT, f"decoding took longer than {self._settings.timeout_s:g} s and was killed"
            )
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return SampleFailedError(Reason.IMAGE_CRASHED, f"the decoding process died {how}: {self._last_words()}")

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace").strip()[-_DETAIL_CHARACTERS:]


async def _exchanged(channel: socket.socket, data: bytes) -> tuple[dict[str, Any], bytes]:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(channel, LENGTH.pack(len(data)))
    await loop.sock_sendall(channel, data)
    facts_length, pixels_length = REPLY.unpack(await _received(channel, REPLY.size))
    facts = json.loads(await _received(channel, facts_length))
    return facts, await _received(channel, pixels_length)


async def _received(channel: socket.socket, length: int) -> bytes:
    """Exactly `length` bytes; raises ConnectionResetError when the worker is gone."""
    loop = asyncio.get_running_loop()
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        count = await loop.sock_recv_into(channel, view)
        if count == 0:
            raise ConnectionResetError("the decoding process closed its socket")
        view = view[count:]
    return bytes(buffer)


def _worker_environment() -> dict[str, str]:
    """The parent's module search path, so that the worker runs the same code, and little else."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    paths = [str(Path(entry or ".").resolve()) for entry in sys.path]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
