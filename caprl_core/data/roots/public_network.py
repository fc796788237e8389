"""Connections to public addresses only, checked at the moment of connecting, so that neither a redirect nor a name that
resolves differently the second time can lead inside."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable

import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class ForbiddenAddressError(Exception):
    """A name that resolves to no address one may connect to; the text says which it has."""


def is_public(address: Address) -> bool:
    """Whether the address is meant to be reached from anywhere: not loopback, private, link-local, shared, multicast or
    reserved, also not by way of IPv6 forms that carry such an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name, in the order the system prefers."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name itself, drops addresses that are not allowed and connects to one of the rest.

    TLS still verifies the certificate against the name: httpcore takes that from the URL.
    """

    def __init__(self, allowed: Callable[[Address], bool] = is_public, resolver: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that is allowed and answers.

        Raises `ForbiddenAddressError` when none is allowed, `httpcore.ConnectError` when none answers.
        """
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} does not resolve ({error})") from error
        # A scope (`fe80::1%eth0`) only exists on link-local addresses.
        allowed = [text for text in addresses if "%" not in text and self._allowed(ipaddress.ip_address(text))]
        if not allowed:
            raise ForbiddenAddressError(f"{host} is at {', '.join(addresses) or 'no address'}, which is not public")
        failure: Exception = httpcore.ConnectError(f"{host} cannot be reached")
        for address in allowed:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: an image address has no business with a local socket."""
        raise ForbiddenAddressError(f"{path} is a local socket")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
