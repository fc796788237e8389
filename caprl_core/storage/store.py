"""One object store for `s3://` and local folders, with the same semantics: atomic puts and conditional create.

Built on obstore: against the same S3 server its puts and lists are faster than those of s3fs and boto3
(`bench/stores.py` has the figures), a put is atomic even when the caller dies, and conditional create works on both
back ends. A write to a local folder survives killed processes; what must survive a power cut too is settled besides.
"""

import asyncio
import datetime as dt
import errno
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import LocalStore, S3Store

from caprl_core.errors import BadInputError, ObjectExistsError, ObjectMissingError, StoreAwayError, StoreError
from caprl_core.recipe.models import StorageExecution
from caprl_core.storage.aws import Credentials, s3_settings
from caprl_core.storage.clock import StoreClock, folder_time, server_time
from caprl_core.storage.free_space import disk_full

MULTIPART_ABOVE = 64 * 2**20
"""Bytes; smaller objects go up in a single request, larger ones in parts of 16 MiB (S3 allows 10,000 parts: 160 GB)."""
PART = 16 * 2**20
BUSY = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"})
"""Error codes of requests that will be answered later, whatever status they come with: S3's RequestTimeout is a 400."""
BUSY_STATUS = frozenset({408, 429})
"""Request Timeout and Too Many Requests."""
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
"""Error codes of S3, its session tokens and its imitators for credentials that were good once."""
COPY_IN_ONE = 5 * 2**30
"""Bytes; S3's CopyObject takes no more."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A listed object. `modified` is timezone-aware, by the store's clock."""

    key: str
    size: int
    modified: dt.datetime


class Store:
    """A folder or an `s3://` prefix. Methods block, are thread-safe, and raise `StoreError` after their retries."""

    _clock: StoreClock | None = None

    def __init__(self, uri: str, settings: StorageExecution | None = None) -> None:
        settings = settings or StorageExecution()
        self.settings = settings
        self.uri = uri.rstrip("/")
        self.is_local = not uri.startswith("s3://")
        self._credentials: Credentials | None = None
        self._store: LocalStore | S3Store
        if self.is_local:
            if "://" in uri and not uri.startswith("file://"):
                raise BadInputError(f"{uri}: only local folders and s3:// are supported as output")
            folder = Path(uri.removeprefix("file://")).expanduser()
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{uri}: cannot create the folder: {error}") from error
            self.uri = str(folder.resolve())
            self._clock = StoreClock(lambda: folder_time(Path(self.uri)))
            self._store = LocalStore(self.uri)
            return
        bucket, _, prefix = uri.removeprefix("s3://").rstrip("/").partition("/")
        if not bucket:
            raise BadInputError(f"{uri}: an s3:// address needs a bucket name")
        config, client, self._credentials = s3_settings(settings)
        page = config.get("endpoint") or f"https://s3.{config['region']}.amazonaws.com"
        self._clock = StoreClock(lambda: server_time(page))
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            config=cast(Any, config),
            client_options=cast(Any, client),
            credential_provider=cast(Any, self._credentials),
            retry_config={
                "max_retries": settings.retries,
                "retry_timeout": dt.timedelta(seconds=settings.retry_timeout_s),
            },
        )

    def now(self) -> dt.datetime:
        """The time by the store's clock, with which `modified` and times of other hosts can be compared."""
        return dt.datetime.now(dt.UTC) if self._clock is None else self._clock.now()

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing any of that name."""
        with self._errors("put", key):
            obstore.put(self._store, key, data, use_multipart=False)

    def put_file(self, key: str, path: Path, *, multipart_above: int = MULTIPART_ABOVE) -> None:
        """Write a local file as an object, whole or not at all; above `multipart_above` bytes in parts."""
        large = path.stat().st_size > multipart_above
        with self._errors("put", key):
            obstore.put(self._store, key, path, use_multipart=large, chunk_size=PART, max_concurrency=4)

    def create(self, key: str, data: bytes) -> None:
        """Write an object only if none of that name exists (`If-None-Match: *`), else `ObjectExistsError`.

        After a lost reply the retry of a create that won is answered "exists": callers compare the content they find.
        """
        with self._errors("create", key):
            obstore.put(self._store, key, data, mode="create", use_multipart=False)

    def settle(self, keys: Iterable[str]) -> None:
        """Return when these objects would survive a power cut: files are fsynced; S3 promises it with its reply.

        A missing one is no error.
        """
        if not self.is_local:
            return
        root, folders = Path(self.uri), set[Path]()
        for key in keys:
            with self._errors("settle", key), suppress(FileNotFoundError):
                _fsync(root / key)
                folders |= {folder for folder in (root / key).parents if folder.is_relative_to(root)}
        for folder in sorted(folders, reverse=True):
            with self._errors("settle", str(folder.relative_to(root))), suppress(FileNotFoundError):
                _fsync(folder)

    def get(self, key: str) -> bytes:
        """Read an object whole. Raises `ObjectMissingError`."""
        with self._errors("get", key):
            return bytes(obstore.get(self._store, key).bytes())

    def stream(self, key: str, chunk_bytes: int = 8 * 2**20) -> Iterator[bytes]:
        """Read an object in chunks of at least `chunk_bytes` (the last may be shorter)."""
        with self._errors("get", key):
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=chunk_bytes):
                yield bytes(chunk)

    def open(self, key: str, buffer_bytes: int = 4 * 2**20) -> io.BufferedReader:
        """A seekable reader that fetches `buffer_bytes` at a time. Raises `ObjectMissingError`."""
        size = self.size(key)
        if size is None:
            raise ObjectMissingError(f"{self.uri}/{key}: no such object")
        return io.BufferedReader(_Ranges(self, key, size), buffer_bytes)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`."""
        with self._errors("get", key):
            return bytes(obstore.get_range(self._store, key, start=start, length=length))

    def size(self, key: str) -> int | None:
        """Size in bytes, or None if there is no such object."""
        try:
            with self._errors("head", key):
                return int(obstore.head(self._store, key)["size"])
        except ObjectMissingError:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below a prefix (whole path segments), in pages of 1,000."""
        with self._errors("list", prefix):
            for page in obstore.list(self._store, prefix):
                for item in page:
                    yield ObjectInfo(item["path"], item["size"], item["last_modified"])

    def copy(self, source: str, target: str, *, size: int = 0, copy_in_one: int = COPY_IN_ONE) -> None:
        """Copy inside the store, whole or not at all; on its own side unless an S3 object of `size` bytes is too large.

        A shard of 100,000 samples can be: such a one is read and put again in parts.
        """
        with self._errors("copy", source):
            if self.is_local or size <= copy_in_one:
                obstore.copy(self._store, source, target)
            else:
                asyncio.run(self._copy_in_parts(source, target))

    async def _copy_in_parts(self, source: str, target: str) -> None:
        # Asynchronous, because a blocking put cannot draw on a blocking get: obstore runs both on one runtime.
        parts = (await obstore.get_async(self._store, source)).stream(min_chunk_size=PART)
        await obstore.put_async(self._store, target, parts, use_multipart=True, chunk_size=PART, max_concurrency=4)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are no error."""
        for start in range(0, len(keys), 1000):
            try:
                with self._errors("delete", keys[start]):
                    obstore.delete(self._store, list(keys[start : start + 1000]))
            except ObjectMissingError:
                for key in keys[start : start + 1000]:
                    self._delete_one(key)

    def _delete_one(self, key: str) -> None:
        try:
            with self._errors("delete", key):
                obstore.delete(self._store, key)
        except ObjectMissingError:
            return

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        where = f"{self.uri}/{key}"
        try:
            yield
        except (AlreadyExistsError, PreconditionError) as error:
            raise ObjectExistsError(f"{where}: exists already") from error
        except (NotFoundError, FileNotFoundError) as error:
            self._refuse_absent_bucket(error)
            raise ObjectMissingError(f"{where}: no such object") from error
        except (BaseError, OSError) as error:
            self._refuse_absent_bucket(error)
            text = f"cannot {action} {where}: {_first_line(error)}"
            if self.is_local:
                raise StoreError(disk_full(error, Path(self.uri)) or text) from error
            status, code = _status(self._explained(error, action, key))
            if code == "RequestTimeTooSkewed":
                raise StoreError(f"{text} - this machine's clock is wrong by more than 15 minutes: set it") from error
            if code in EXPIRED:
                raise StoreAwayError(f"cannot {action} {where}: {self._expired(code)}") from error
            # Most 4xx say what is wrong with the request; all else, that the store is not there or not well.
            refused = 400 <= status < 500 and status not in BUSY_STATUS and code not in BUSY
            raise (StoreError if refused else StoreAwayError)(text) from error

    def _explained(self, error: Exception, action: str, key: str) -> Exception:
        """Replies to HEAD have no body, hence no code; for one that was refused another request asks why."""
        if action != "head" or _status(error)[0] not in (400, 401, 403):
            return error
        try:
            obstore.get_range(self._store, key, start=0, length=1)
        except BaseError as told:
            return told
        return error

    def _expired(self, code: str) -> str:
        """Have the credentials resolved anew for the next request; returns what to tell the user."""
        if self._credentials is None:
            return f"the credentials have expired ({code})"
        self._credentials.renew()
        return f"the credentials have expired ({code}); {self._credentials.advice}"

    def _refuse_absent_bucket(self, error: Exception) -> None:
        """By the request, obstore calls it "not found" or a general error; the server's own code is in both."""
        if not self.is_local and "NoSuchBucket" in str(error):
            raise StoreError(f"{self.uri}: the bucket does not exist; create it first") from error


class _Ranges(io.RawIOBase):
    """An object as a raw file: every read is one ranged request."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        buffer[:length] = self._store.read_range(self._key, self._position, length)
        self._position += length
        return length


def _fsync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Some network file systems cannot do it to a folder; they write its names at once.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(number)


def _status(error: Exception) -> tuple[int, str]:
    """HTTP status and S3 error code in what obstore says; 0 and nothing where the request came to no reply."""
    status = re.search(r"status code: (\d{3})", str(error))
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return int(status[1]) if status else 0, code[1] if code else ""


def _first_line(error: Exception) -> str:
    """Obstore appends a debug dump of many lines; the first says what happened. Errno texts are kept whole."""
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return text.strip().splitlines()[0][:300] if text.strip() else type(error).__name__
