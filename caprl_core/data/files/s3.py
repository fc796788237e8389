"""Objects on S3 and compatible stores, read through s3fs with retries of our own."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import s3fs
from fsspec.asyn import sync
from fsspec.utils import glob_translate

from caprl_core.data.files.retrying import retried
from caprl_core.data.files.s3_errors import PastTheEndError, have_expired, is_passing, translated
from caprl_core.data.files.uris import literal_folder
from caprl_core.errors import BadInputError, ObjectMissingError
from caprl_core.recipe.models import StorageExecution

T = TypeVar("T")


class S3Objects:
    """Reads by `s3://bucket/key`; credentials come from the usual AWS places. See `Backend` for each method."""

    def __init__(self, storage: StorageExecution) -> None:
        self._storage = storage
        self._fs = self._connect()

    def _connect(self) -> s3fs.S3FileSystem:
        """With the credentials that are found now."""
        storage = self._storage
        files = s3fs.S3FileSystem(
            endpoint_url=storage.endpoint,
            client_kwargs={"region_name": storage.region} if storage.region else {},
            config_kwargs={
                "connect_timeout": storage.timeout_s,
                "read_timeout": storage.timeout_s,
                "max_pool_connections": 64,
                # One layer of retries, ours: three nested ones multiply into minutes.
                "retries": {"total_max_attempts": 1},
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        files.retries = 1
        return files

    def size(self, uri: str) -> int:
        """Bytes of the object."""
        bucket, key = _split(uri)
        try:
            return int(
                self._call(uri, lambda: self._fs.call_s3("head_object", Bucket=bucket, Key=key))["ContentLength"]
            )
        except ObjectMissingError:
            # A HEAD cannot say that the bucket is what is missing; a listing does.
            self.holds_anything(uri)
            raise

    def read(self, uri: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`, fewer at the end of the object, in one ranged request."""
        if stop <= start:
            return b""
        bucket, key = _split(uri)
        try:
            data: bytes = self._call(uri, lambda: sync(self._fs.loop, self._get, bucket, key, start, stop))
        except PastTheEndError:
            return b""
        return data

    def glob(self, pattern: str) -> list[str]:
        """Objects that match, sorted."""
        folder = literal_folder(pattern)
        bucket, _ = _split(folder + "/")
        matches = re.compile(glob_translate(pattern.partition("://")[2])).match
        keys = (f"{bucket}/{key}" for key in self._keys(folder))
        return sorted(f"s3://{key}" for key in keys if matches(key))

    def below(self, folder: str) -> Iterator[str]:
        """Keys below the prefix, relative to it, in byte order; a page of 1,000 is held at a time."""
        _, prefix = _split(folder.rstrip("/") + "/")
        for key in self._keys(folder):
            if not key.endswith("/"):
                yield key[len(prefix) :]

    def holds_anything(self, folder: str) -> bool:
        """Whether a key lies below the prefix; raises `BadInputError` or `StoreError` when the bucket does not answer.

        Not repeated: it is asked when something has failed already.
        """
        bucket, prefix = _split(folder.rstrip("/") + "/")
        page = self._call(folder, lambda: self._page(bucket, prefix, None, 1), retries=0)
        return bool(page.get("Contents"))

    def close(self) -> None:
        """The connections close with the file system's own finalizer."""

    async def _get(self, bucket: str, key: str, start: int, stop: int) -> bytes:
        # Not `cat_file`: it takes `?versionId=` in a key for something else.
        answer = await self._fs._call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}")
        async with answer["Body"] as body:
            data: bytes = await body.read()
            return data

    def _keys(self, folder: str) -> Iterator[str]:
        bucket, prefix = _split(folder.rstrip("/") + "/")
        token: str | None = None
        while True:
            page = self._call(folder, partial(self._page, bucket, prefix, token, 1000))
            yield from (item["Key"] for item in page.get("Contents", ()))
            token = page.get("NextContinuationToken")
            if token is None:
                return

    def _page(self, bucket: str, prefix: str, token: str | None, most: int) -> dict[str, Any]:
        more = {"ContinuationToken": token} if token else {}
        page: dict[str, Any] = self._fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=most, **more)
        return page

    def _call(self, uri: str, call: Callable[[], T], retries: int | None = None) -> T:
        try:
            return retried(
                call,
                passing=is_passing,
                retries=self._storage.retries if retries is None else retries,
                budget_s=self._storage.retry_timeout_s,
            )
        except Exception as error:
            if have_expired(error):
                # Those of a file are read once by a connection: whoever tries again asks with new ones.
                self._fs = self._connect()
            raise translated(uri, error) from error


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket:
        raise BadInputError(f"{uri} names no bucket: write s3://bucket/key")
    return bucket, key
