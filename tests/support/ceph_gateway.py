"""Ceph with its S3 gateway on this machine's loopback address: the real store behind many buckets, killed at will.

One monitor, one storage daemon that keeps its objects in memory, and radosgw, as Debian packages them. Nothing of the
machine's own Ceph, if it has one, is read or touched: every path and port is given.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import boto3
import httpx

from caprl_core.engines.reaper import Reaper, kill_marked

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
KEYRING = {
    "mon.": ["mon", "allow *"],
    "client.admin": ["mon", "allow *", "osd", "allow *"],
    "client.rgw": ["mon", "allow rw", "osd", "allow rwx"],
    "osd.0": ["mon", "allow profile osd", "osd", "allow *"],
}
"""Entity -> what it may do. radosgw 16 does not connect to a cluster without authentication (error 13)."""
READY_S = 120.0  # seen: 12 s for all of it on two quiet cores
MON_MB, OSD_MB = 64, 1024  # the monitor's and the storage daemon's caches, and what the daemon's memory store may hold

CONF = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
keyring = {home}/keyring
ms bind ipv4 = true
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default pg num = 4
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
run dir = {home}/run
admin socket = {home}/run/$name.asok
log file = {home}/log/$name.log
pid file = {home}/run/$name.pid
[mon.a]
mon data = {home}/mon
mon osd cache size = 10
rocksdb cache size = {mon_cache}
[osd.0]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = {osd_bytes}
osd crush initial weight = 1.0
[client.rgw]
rgw data = {home}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw thread pool size = 64
"""


def missing_programs() -> list[str]:
    """What must be installed before a `CephGateway` can start; empty if nothing."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class CephGateway:
    """`with CephGateway(home) as ceph:` serves S3 on `ceph.endpoint`; `kill` and `start` end and begin the gateway.

    What was acknowledged lies with the storage daemon and survives the gateway's death. `home` is an empty folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.access_key = f"CAPRL{uuid.uuid4().hex[:15].upper()}"
        self.secret_key = f"s3-{uuid.uuid4().hex}"
        self._mon_port, self._port = _free_ports(2)
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._conf = home / "ceph.conf"
        self._reaper = Reaper()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Make an empty cluster and a user, and serve. Raises `RuntimeError` with a daemon's last words."""
        for folder in ("mon", "osd", "rgw", "run", "log"):
            (self.home / folder).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        self._conf.write_text(
            CONF.format(
                fsid=fsid,
                home=self.home,
                mon_port=self._mon_port,
                port=self._port,
                mon_cache=MON_MB << 20,
                osd_bytes=OSD_MB << 20,
            )
        )
        self._reaper.start()
        try:
            self._make_cluster(fsid)
            self._make_user()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the gateway and return when it answers."""
        gateway = self._daemon("radosgw", "-n", "client.rgw")
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and gateway.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.endpoint, timeout=5.0, trust_env=False).status_code < 500:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"radosgw does not answer:\n{self.words()}")

    def kill(self) -> None:
        """SIGKILL the gateway: connections break, new ones are refused."""
        os.killpg(self._daemons["radosgw"].pid, signal.SIGKILL)
        self._daemons["radosgw"].wait()

    def close(self) -> None:
        """End every daemon."""
        kill_marked(self._reaper.mark)
        for daemon in self._daemons.values():
            daemon.wait()
        self._reaper.stop()

    def environment(self) -> dict[str, str]:
        """What an S3 client needs to be told."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A boto3 client of it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )

    def words(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in self._logs())

    def _logs(self) -> list[Path]:
        return sorted((self.home / "log").iterdir())

    def _make_cluster(self, fsid: str) -> None:
        monmap, osd = str(self.home / "monmap"), str(uuid.uuid4())
        address = f"[v2:127.0.0.1:{self._mon_port}]"
        keyring = str(self.home / "keyring")
        for number, (name, allowed) in enumerate(KEYRING.items()):
            caps = [
                word for who, what in zip(allowed[::2], allowed[1::2], strict=True) for word in ("--cap", who, what)
            ]
            create = ["--create-keyring"] if number == 0 else []
            self._call(["ceph-authtool", keyring, *create, "--gen-key", "-n", name, *caps])
        self._call(["monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap])
        self._call(["ceph-mon", *self._options, "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring])
        self._daemon("ceph-mon", "-i", "a")
        self._call(["ceph", *self._options, "osd", "new", osd])
        self._call(["ceph-osd", *self._options, "-i", "0", "--mkfs", "--osd-uuid", osd])
        self._daemon("ceph-osd", "-i", "0")

    def _make_user(self) -> None:
        keys = ["--access-key", self.access_key, "--secret-key", self.secret_key]
        command = ["radosgw-admin", *self._options, "-n", "client.rgw", "user", "create", "--uid", "caprl"]
        made = json.loads(self._call([*command, "--display-name", "caprl", *keys]))
        assert made["keys"][0]["access_key"] == self.access_key

    @property
    def _options(self) -> Sequence[str]:
        return ("-c", str(self._conf))

    def _call(self, command: Sequence[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=READY_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:6])}: {done.stderr[-1500:]}\n{self.words()}")
        return done.stdout

    def _daemon(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.home / "log" / f"{program}.out").open("ab") as output:
            self._daemons[program] = subprocess.Popen(
                [program, *self._options, *arguments, "-f"],
                env=os.environ | self._reaper.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._daemons[program]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
