"""Object stores: obstore (ours, through `Store`), s3fs and boto3 on the same S3 server: put, get, list, create."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import boto3
import s3fs
from botocore.config import Config
from botocore.exceptions import ClientError

from bench.measuring import Report, middle, options
from bench.s3_server import BUCKET, S3Server
from caprl_core.errors import ObjectExistsError
from caprl_core.storage.store import Store

METHOD = """One S3 server (moto in a process of its own, HTTP/1.1, connections kept alive) for all. Contestants take
turns, medians of the rounds. put, get: objects of 5 MB one by one, and with 8 threads at once. list: 10,000 keys.
create: 200 conditional puts (If-None-Match: *), half of them on existing keys. Server and clients share the machine's
cores, so figures are for comparison, not what S3 gives."""
SIZE = 5_000_000
THREADS = 8


class Ours:
    def __init__(self, prefix: str) -> None:
        self._store = Store(f"s3://{BUCKET}/{prefix}")

    def put(self, key: str, data: bytes) -> None:
        self._store.put(key, data)

    def get(self, key: str) -> bytes:
        return self._store.get(key)

    def count(self, prefix: str) -> int:
        return sum(1 for _ in self._store.list(prefix))

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._store.create(key, data)
        except ObjectExistsError:
            return False
        return True


class S3fs:
    def __init__(self, prefix: str) -> None:
        self._root = f"{BUCKET}/{prefix}"
        self._files = s3fs.S3FileSystem(
            endpoint_url=os.environ["AWS_ENDPOINT_URL"], use_listings_cache=False, skip_instance_cache=True
        )

    def put(self, key: str, data: bytes) -> None:
        self._files.pipe_file(f"{self._root}/{key}", data)

    def get(self, key: str) -> bytes:
        return bytes(self._files.cat_file(f"{self._root}/{key}"))

    def count(self, prefix: str) -> int:
        return len(self._files.find(f"{self._root}/{prefix}"))

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._files.pipe_file(f"{self._root}/{key}", data, mode="create")
        except FileExistsError:
            return False
        return True


class Boto3:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._client = boto3.client("s3", config=Config(max_pool_connections=2 * THREADS))

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=f"{self._prefix}/{key}", Body=data)

    def get(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=BUCKET, Key=f"{self._prefix}/{key}")["Body"].read())

    def count(self, prefix: str) -> int:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{self._prefix}/{prefix}/"
        )
        return sum(len(page["Contents"]) for page in pages)

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._client.put_object(Bucket=BUCKET, Key=f"{self._prefix}/{key}", Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                return False
            raise
        return True


Client = Ours | S3fs | Boto3


@contextmanager
def timed(into: list[float], amount: float) -> Iterator[None]:
    """Appends amount per second."""
    started = time.perf_counter()
    yield
    into.append(amount / (time.perf_counter() - started))


def measure(client: Client, objects: int, keys: int, speeds: dict[str, list[float]], turn: int) -> None:
    data = os.urandom(SIZE)
    amount = objects * SIZE / 1e6
    names = [f"objects-{turn}/{number}" for number in range(objects)]
    with timed(speeds["put 5 MB, one by one"], amount):
        for name in names:
            client.put(name, data)
    with timed(speeds["get 5 MB, one by one"], amount):
        for name in names:
            assert len(client.get(name)) == SIZE
    with ThreadPoolExecutor(THREADS) as pool:
        with timed(speeds["put 5 MB, 8 at once"], amount):
            list(pool.map(lambda name: client.put(name, data), names))
        with timed(speeds["get 5 MB, 8 at once"], amount):
            list(pool.map(client.get, names))
    with timed(speeds["list"], keys):
        assert client.count("keys") == keys
    wins = 0
    with timed(speeds["conditional create"], 200):
        for number in range(200):
            wins += client.create(f"race-{turn}/{number % 100}", b"x")
    assert wins == 100, f"{type(client).__name__}: {wins} of 100 keys were created once"


def main() -> None:
    arguments = options(__doc__).parse_args()
    objects, keys, rounds = (4, 1000, 1) if arguments.quick else (20, 10_000, 5)
    report = Report(
        "stores", METHOD, quick=arguments.quick, packages=("obstore", "s3fs", "boto3", "aiobotocore", "moto")
    )
    kinds: dict[str, Callable[[str], Client]] = {"obstore": Ours, "s3fs": S3fs, "boto3": Boto3}
    units = {"list": "keys/s", "conditional create": "creates/s"}
    with S3Server(), tempfile.TemporaryDirectory() as empty:
        os.environ["AWS_CONFIG_FILE"] = str(Path(empty) / "none")
        clients = {name: kind(name) for name, kind in kinds.items()}
        for client in clients.values():
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(lambda number, client=client: client.put(f"keys/{number:06d}", b""), range(keys)))
        speeds: dict[str, dict[str, list[float]]] = {
            name: {
                measured: []
                for measured in (
                    "put 5 MB, one by one",
                    "get 5 MB, one by one",
                    "put 5 MB, 8 at once",
                    "get 5 MB, 8 at once",
                    "list",
                    "conditional create",
                )
            }
            for name in clients
        }
        for turn in range(rounds):
            for name, client in clients.items():
                measure(client, objects, keys, speeds[name], turn)
        for measured in next(iter(speeds.values())):
            for name in clients:
                report.figure(f"{measured}: {name}", middle(speeds[name][measured]), units.get(measured, "MB/s"))
    report.finish()


if __name__ == "__main__":
    main()
