"""The process that decodes: it speaks with its parent over one socket and has nothing else to lose.

Frames are a length and the bytes. The parent sends the settings, then one image at a time; the worker answers each with
JSON facts and the encoded pixels. No pickle: bytes made by a decoder that hostile input has taken over cannot run in
the parent.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from caprl_core.data.images import Encoding, limit_decoder, prepare_image
from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PreparedImage
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import ImageRecipe

LENGTH: Final = struct.Struct(">Q")
REPLY: Final = struct.Struct(">IQ")
"""Lengths in bytes of a reply's JSON and of its encoded pixels (0 when the sample failed)."""

Job = Callable[[bytes, ImageRecipe, Encoding], PreparedImage]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MIB = 2**20
_NOISE_BYTES = _MIB  # what libtiff and friends may print into the worker's error file about one image


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """First frame, as JSON: recipe and encoding, seconds an image may take, MiB the process may, the parent's pid."""

    recipe: dict[str, Any]
    encoding: Encoding
    timeout_s: float
    memory_mb: int
    parent: int


def serve(job: Job) -> None:
    """Answer images from the socket on standard input until the parent closes it."""
    with socket.socket(fileno=0) as channel:
        settings = WorkerSettings(**json.loads(_received_frame(channel) or b"{}"))
        _bind_to_parent(settings.parent)
        _limit_resources(settings.memory_mb)
        recipe = ImageRecipe.model_validate(settings.recipe)
        limit_decoder(recipe)
        channel.sendall(REPLY.pack(0, 0))  # ready
        while (data := _received_frame(channel)) is not None:
            _forget_noise()
            # The kernel kills this process when time is up, even inside a C library that never returns, and even while
            # the parent is too busy to look: a stalled parent cannot condemn an innocent image.
            signal.setitimer(signal.ITIMER_REAL, settings.timeout_s)
            facts, pixels = _answer(lambda: job(data, recipe, settings.encoding))
            signal.setitimer(signal.ITIMER_REAL, 0)
            channel.sendall(REPLY.pack(len(facts), len(pixels)) + facts)
            channel.sendall(pixels)


def _answer(prepare: Callable[[], PreparedImage]) -> tuple[bytes, bytes]:
    try:
        image = prepare()
    except SampleFailedError as error:
        return json.dumps({"reason": error.reason, "detail": error.detail}).encode(), b""
    except MemoryError:
        detail = "decoding takes more memory than execution.runner.decode_memory_mb"
        return json.dumps({"reason": Reason.IMAGE_TOO_LARGE, "detail": detail}).encode(), b""
    facts = {
        "sha256": image.sha256,
        "size": image.size,
        "extension": image.extension,
        "format": image.format,
        "source_width": image.source_width,
        "source_height": image.source_height,
        "width": image.width,
        "height": image.height,
        "frames": image.frames,
        "notes": image.notes,
    }
    return json.dumps(facts).encode(), image.encoded


def _received_frame(channel: socket.socket) -> bytes | None:
    head = _received(channel, LENGTH.size)
    return None if head is None else _received(channel, LENGTH.unpack(head)[0])


def _received(channel: socket.socket, length: int) -> bytes | None:
    """Exactly `length` bytes, or None when the parent is gone."""
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        count = channel.recv_into(view)
        if count == 0:
            return None
        view = view[count:]
    return bytes(buffer)


def _bind_to_parent(parent: int) -> None:
    """Die with the parent, whatever kills it, also in the middle of a decode (elsewhere than on Linux: after it)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which decides when decoding stops
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(0)


def _limit_resources(memory_mb: int) -> None:
    for kind, limit in (
        (resource.RLIMIT_AS, memory_mb * _MIB),
        (resource.RLIMIT_CORE, 0),  # a crashed decode must not fill the disk with its memory
        (resource.RLIMIT_FSIZE, _NOISE_BYTES),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _forget_noise() -> None:
    """Empty the error file, so that what is found there after a death is about the image that caused it."""
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)


def main() -> None:
    """Entry point of the process."""
    serve(prepare_image)


if __name__ == "__main__":
    main()
