"""Hosts on one machine: network namespaces, each with an engine of its own and a wire to the outside to be pulled."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from caprl_core.world.stub_server import StubBehaviour, StubServer

CLONE_NEWNET = 0x40000000
"""`setns(2)`: of a thread's namespaces, the network's."""


def missing_rights() -> str:
    """Why no namespace can be made here; empty if one can."""
    if shutil.which("ip") is None:
        return "no ip program (Debian: iproute2)"
    name = f"caprl{uuid.uuid4().hex[:6]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces cannot be made: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


class Host:
    """A namespace with the address `10.77.N.2`; the outside is `10.77.N.1` to it, and nothing else is."""

    def __init__(self, number: int) -> None:
        self.name = f"caprl-{uuid.uuid4().hex[:6]}"
        self.outside, self.address = f"10.77.{number}.1", f"10.77.{number}.2"
        self._wire = f"cap{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        inner = f"{self._wire}i"
        _ip("link", "add", self._wire, "type", "veth", "peer", "name", inner, "netns", self.name)
        _ip("addr", "add", f"{self.outside}/24", "dev", self._wire)
        _ip("link", "set", self._wire, "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", inner)
        _ip("-n", self.name, "link", "set", inner, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        _ip("netns", "del", self.name)

    def pull_the_plug(self) -> None:
        """From now on its packets go nowhere: connections hang, as when a switch dies."""
        _ip("link", "set", self._wire, "down")

    def plug_in(self) -> None:
        """The wire is there again."""
        _ip("link", "set", self._wire, "up")

    def command(self, *words: str) -> list[str]:
        """These words as a command that runs on this host."""
        return ["ip", "netns", "exec", self.name, *words]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are this host's, and stay so."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open() as home:
            with Path(f"/var/run/netns/{self.name}").open() as there:
                _check(libc.setns(there.fileno(), CLONE_NEWNET))
            try:
                yield
            finally:
                _check(libc.setns(home.fileno(), CLONE_NEWNET))

    @contextlib.contextmanager
    def engine(self, port: int, behaviour: StubBehaviour) -> Iterator[StubServer]:
        """A stub of the model on this host's own loopback address."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        server = StubServer(behaviour, port=port)

        async def start() -> None:
            with self.entered():
                await server.__aenter__()

        asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


@contextlib.contextmanager
def forwarded(address: str, port: int) -> Iterator[None]:
    """Serve what listens on this machine's loopback `port` under `address` as well."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(pass_on, address, port)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)

    async def stop() -> None:
        server.close()
        open_ones = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)

    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


def reaches(host: Host, port: int) -> bool:
    """Whether something outside answers this host's connection on `port`."""
    with host.entered(), socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((host.outside, port)) == 0


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
