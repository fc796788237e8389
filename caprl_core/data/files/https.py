"""Annotation files and containers behind `https://`, read by ranges (image addresses are fetched elsewhere)."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx

from caprl_core.data.files.errors import ObjectRefusedError, ObjectUnreadableError
from caprl_core.data.files.retrying import retried
from caprl_core.errors import BadInputError, ObjectMissingError, StoreError
from caprl_core.recipe.models import StorageExecution

T = TypeVar("T")


class _PassingStatusError(Exception):
    """An answer that may be another one in a moment: 429 or 5xx."""


class HttpsFiles:
    """Reads addresses the user wrote into the recipe, so redirects (to a CDN) are followed. See `Backend`."""

    def __init__(self, storage: StorageExecution) -> None:
        self._storage = storage
        self._client = httpx.Client(
            follow_redirects=True, timeout=storage.timeout_s, headers={"Accept-Encoding": "identity"}
        )

    def size(self, uri: str) -> int:
        """Bytes of the file, from the answer to a request for its first byte."""
        answer = self._range(uri, 0, 1)
        if answer.status_code == 416:
            return 0
        return int(answer.headers["Content-Range"].rpartition("/")[2])

    def read(self, uri: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`, fewer at the end of the file."""
        if stop <= start:
            return b""
        answer = self._range(uri, start, stop)
        return b"" if answer.status_code == 416 else answer.content

    def glob(self, pattern: str) -> list[str]:
        """An `https://` address is never a pattern."""
        raise BadInputError(
            f"{pattern}: wildcards need a listing, which https:// has not; use {{000..009}} or single files"
        )

    def below(self, folder: str) -> Iterator[str]:
        """A web server has no listing."""
        raise BadInputError(f"{folder}: https:// cannot be listed; give a file, or copy the folder to disk or S3")

    def holds_anything(self, folder: str) -> bool:
        """Whether the server answers at all; raises `StoreError` otherwise."""
        try:
            self._client.head(folder)
        except httpx.TransportError as error:
            raise StoreError(f"{folder}: {error}") from error
        return True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _range(self, uri: str, start: int, stop: int) -> httpx.Response:
        def ask() -> httpx.Response:
            # A server that ignores the range would send everything: look at the status before reading the body.
            with self._client.stream("GET", uri, headers={"Range": f"bytes={start}-{stop - 1}"}) as answer:
                if answer.status_code >= 500 or answer.status_code == 429:
                    raise _PassingStatusError(f"HTTP {answer.status_code}")
                if answer.status_code == 206:
                    answer.read()
                return answer

        answer = self._retried(uri, ask)
        if answer.status_code in (404, 410):
            raise ObjectMissingError(f"{uri} does not exist (HTTP {answer.status_code})")
        if answer.status_code in (401, 403):
            raise ObjectRefusedError(f"{uri}: access denied (HTTP {answer.status_code})")
        if answer.status_code == 200:
            raise BadInputError(f"{uri}: the server does not serve parts of files; download it and give the local path")
        if answer.status_code not in (206, 416):
            raise ObjectUnreadableError(f"{uri}: HTTP {answer.status_code}")
        return answer

    def _retried(self, uri: str, call: Callable[[], T]) -> T:
        try:
            return retried(
                call,
                passing=lambda error: isinstance(error, httpx.TransportError | _PassingStatusError),
                retries=self._storage.retries,
                budget_s=self._storage.retry_timeout_s,
            )
        except (httpx.HTTPError, httpx.InvalidURL, _PassingStatusError) as error:
            raise StoreError(f"{uri}: {error}") from error
