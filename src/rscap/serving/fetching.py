"""Images from addresses that a client names, without lending the client this server's place in the network.

A name is resolved once, every address that it stands for must be public, and the connection goes to the address that
was checked: a name that changes its meaning in between gains nothing. Redirects are followed one by one, each under the
same rules. Nothing of the client's request is passed on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

import httpcore

from rscap.serving.problems import Problem

_REDIRECTS = 3
_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}


def is_public(address: str) -> bool:
    """Whether an IP address lies in the open network: not private, loopback, link-local, multicast or reserved, nor
    an IPv6 form of an IPv4 address that is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None and not is_public(str(inner)):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to public addresses alone."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolved(host, port)
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def _resolved(host: str, port: int) -> list[str]:
    """The addresses of a name, all of them public.

    Raises:
        Problem: 400, there is no such name, or one of its addresses is not public.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Problem(400, "the image's address names no host that is known", param="image_url") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(map(is_public, addresses)):
        raise Problem(
            400, "the image's address does not lie in the public network", param="image_url", code="refused_address"
        )
    return addresses


async def fetch(url: str, *, limit: int, backend: httpcore.AsyncNetworkBackend | None = None) -> bytes:
    """The bytes at a public http or https address, at most `limit`, within ten seconds.

    Raises:
        Problem: 400, an address that is refused or does not answer with such a file.
    """
    try:
        async with (
            asyncio.timeout(_SECONDS),
            httpcore.AsyncConnectionPool(network_backend=backend or _Checked(), max_connections=1) as pool,
        ):
            for _ in range(_REDIRECTS + 1):
                async with _opened(pool, url) as response:
                    headers = {name.lower(): value for name, value in response.headers}
                    if response.status in (301, 302, 303, 307, 308):
                        url = urljoin(url, headers.get(b"location", b"").decode("latin-1"))
                        continue
                    if response.status != 200:
                        raise _refusal(f"answered with status {response.status}")
                    return await _read(response, headers, limit)
    except (TimeoutError, httpcore.TimeoutException):
        raise _refusal(f"did not answer within {_SECONDS:g} s") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
        raise _refusal("cannot be reached") from None
    raise _refusal(f"redirects more than {_REDIRECTS} times")


@asynccontextmanager
async def _opened(pool: httpcore.AsyncConnectionPool, url: str) -> AsyncIterator[httpcore.Response]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _refusal("cannot be read") from None
    if parts.scheme not in _PORTS or not host:
        raise _refusal("is not one of http or https")
    if port not in (None, _PORTS[parts.scheme]):
        raise _refusal("names a port other than that of its scheme")
    if parts.username is not None or parts.password is not None:
        raise _refusal("holds a name or a password")
    if not url.isascii() or not url.isprintable():
        raise _refusal("holds other than ASCII characters")
    headers = [("Host", host), ("User-Agent", "rscap"), ("Accept", "image/*"), ("Accept-Encoding", "identity")]
    async with pool.stream("GET", url, headers=headers) as response:
        yield response


async def _read(response: httpcore.Response, headers: dict[bytes, bytes], limit: int) -> bytes:
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise _refusal("answered with a compressed file")
    parts, size = [], 0
    async for part in response.aiter_stream():
        size += len(part)
        if size > limit:
            raise _refusal(f"holds more than {limit // 2**20} MiB")
        parts.append(part)
    return b"".join(parts)


def _refusal(what: str) -> Problem:
    return Problem(400, f"the image's address {what}", param="image_url", code="refused_address")
