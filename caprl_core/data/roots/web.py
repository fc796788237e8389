"""Images behind `https://` addresses that datasets, not the user, have chosen: fetched with distrust."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

import httpcore
import httpx

from caprl_core.data.files.retrying import pause_s
from caprl_core.data.reasons import Reason
from caprl_core.data.roots.public_network import ForbiddenAddressError, PublicNetwork
from caprl_core.data.roots.root import forbidden, missing, too_large, unreadable
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import WebExecution

MOST_REDIRECTS = 5
_HEADERS = [
    (b"User-Agent", b"caprl-factory"),
    (b"Accept", b"image/*,*/*;q=0.5"),
    # Packed bodies would have to be unpacked under the size limit; images do not shrink.
    (b"Accept-Encoding", b"identity"),
]
_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429}
_LOST = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class HostUnreachableError(SampleFailedError):
    """Nothing answered at this host: for one address the image is unreadable, for a root the root is gone."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.IMAGE_UNREADABLE, detail)


class _PassingError(Exception):
    """This try failed and another may not; `after_s` is how long the server asks to wait."""

    def __init__(self, detail: str, after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.after_s = after_s


@dataclass(slots=True)
class _Progress:
    """Whether a server has answered at all while one image was fetched."""

    answered: bool = False


class WebImages:
    """Fetches images over direct connections (proxies of the environment are not used: they would resolve names
    themselves, past the check of the address). Belongs to one event loop."""

    def __init__(self, web: WebExecution, *, connections: int, network: PublicNetwork | None = None) -> None:
        """`connections` is how many images are fetched at once."""
        self._web = web
        self._slots = asyncio.Semaphore(connections)
        if network is None:
            network = PublicNetwork(allowed=lambda _: True) if web.allow_private else PublicNetwork()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections,
            keepalive_expiry=30.0,
            network_backend=network,
        )

    async def fetch(self, url: str, limit: int) -> bytes:
        """The body behind an address, `limit` bytes at most, within `web.timeout_s` seconds in all.

        Raises `SampleFailedError`: IMAGE_MISSING for 404 and 410, IMAGE_FORBIDDEN for addresses that are not public or
        not https, IMAGE_TOO_LARGE as soon as the limit is passed, IMAGE_UNREADABLE for everything else after retries.
        """
        progress = _Progress()
        async with self._slots:
            try:
                async with asyncio.timeout(self._web.timeout_s):
                    return await self._with_retries(url, limit, progress)
            except TimeoutError as error:
                detail = f"{url}: not read within {self._web.timeout_s:g} s"
                raise (unreadable(detail) if progress.answered else HostUnreachableError(detail)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def _with_retries(self, url: str, limit: int, progress: _Progress) -> bytes:
        for attempt in range(self._web.retries + 1):
            try:
                return await self._follow(url, limit, progress)
            except _PassingError as error:
                if attempt == self._web.retries:
                    detail = f"{url}: {error} (tried {attempt + 1} times)"
                    raise (unreadable(detail) if progress.answered else HostUnreachableError(detail)) from error
                await asyncio.sleep(max(pause_s(attempt), error.after_s))
        raise AssertionError("unreachable")

    async def _follow(self, url: str, limit: int, progress: _Progress) -> bytes:
        """One try, with its redirects."""
        address = _parsed(url, url)
        for _ in range(MOST_REDIRECTS + 1):
            self._check_scheme(url, address)
            answer = await self._get(url, address, limit, progress)
            if isinstance(answer, bytes):
                return answer
            address = _parsed(url, str(address.join(answer)))
        raise unreadable(f"{url}: more than {MOST_REDIRECTS} redirects")

    def _check_scheme(self, url: str, address: httpx.URL) -> None:
        if address.scheme == "https" or (address.scheme == "http" and self._web.allow_private):
            return
        by = "" if str(address) == url else f" redirects to {address.scheme}://{address.host}"
        raise forbidden(f"{url}{by}: only https:// is fetched")

    async def _get(self, url: str, address: httpx.URL, limit: int, progress: _Progress) -> bytes | httpx.URL:
        """The body, or where the answer redirects to."""
        target = httpcore.URL(
            scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=address.raw_path
        )
        # The time-out over the whole image is around us; these keep one dead connection from using it all up.
        step = max(1.0, self._web.timeout_s / 2)
        timeouts = {"connect": step, "read": step, "write": step, "pool": None}
        try:
            async with self._pool.stream("GET", target, headers=_HEADERS, extensions={"timeout": timeouts}) as answer:
                progress.answered = True
                headers = {name.lower(): value for name, value in answer.headers}
                if answer.status in _REDIRECTS:
                    location = headers.get(b"location", b"").decode("ascii", "replace")
                    return _parsed(url, location)
                _check_status(url, answer.status, headers)
                return await _body(url, answer, headers, limit)
        except ForbiddenAddressError as error:
            raise forbidden(f"{url}: {error}") from error
        except _LOST as error:
            raise _PassingError(f"{type(error).__name__} {error}".strip()) from error
        except httpcore.UnsupportedProtocol as error:
            raise forbidden(f"{url}: {error}") from error


def _parsed(url: str, location: str) -> httpx.URL:
    try:
        address = httpx.URL(location)
    except httpx.InvalidURL as error:
        raise unreadable(f"{url}: not a valid address ({error})") from error
    return address


def _check_status(url: str, status: int, headers: dict[bytes, bytes]) -> None:
    if status == HTTPStatus.OK:
        return
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise missing(f"{url}: HTTP {status}")
    if status >= 500 or status in _PASSING:
        after = headers.get(b"retry-after", b"")
        raise _PassingError(f"HTTP {status}", float(after) if after.isdigit() and len(after) < 6 else 0.0)
    raise unreadable(f"{url}: HTTP {status}")


async def _body(url: str, answer: httpcore.Response, headers: dict[bytes, bytes], limit: int) -> bytes:
    length = headers.get(b"content-length", b"")
    if length.isdigit() and len(length) < 20 and int(length) > limit:
        raise too_large(url, limit, int(length))
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.aiter_stream():
        size += len(piece)
        if size > limit:
            raise too_large(url, limit)
        pieces.append(piece)
    return b"".join(pieces)
