"""Addresses that a client names lead to the public network or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpcore
import pytest

from rscap.serving.fetching import fetch, is_public
from rscap.serving.problems import Problem

INSIDE = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1"),
]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_not_public(address: str) -> None:
    """Private, loopback, link-local, shared, multicast, reserved, documentation; and IPv6 forms of them."""
    assert not is_public(address)


def test_addresses_outside_are_public() -> None:
    """Of either version."""
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")


REFUSED = [
    "http://127.0.0.1/a.png",
    "http://localhost/a.png",
    "http://[::1]/a.png",
    "http://2130706433/a.png",
    "http://0x7f.1/a.png",
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:169.254.169.254]/",
    "https://127.0.0.1:22/",
    "http://127.0.0.1:8080/",
    "http://user:pass@93.184.216.34/",
    "file:///etc/passwd",
    "ftp://93.184.216.34/a.png",
    "gopher://93.184.216.34/",
    "/vsicurl/http://93.184.216.34/",
    "http://",
    "http://[",
    "http://exa mple/\r\nX-Header: 1",
    "http://93.184.216.34/\r\nX-Header: 1",
]


@pytest.mark.parametrize("url", REFUSED)
def test_addresses_that_are_refused(url: str) -> None:
    """Whatever form leads inside, and whatever is not http or https on its own port."""
    with pytest.raises(Problem) as caught:
        asyncio.run(fetch(url, limit=1_000))
    assert caught.value.status == 400


class Web(httpcore.AsyncNetworkBackend):
    """A network of prepared answers; it notes where somebody connected."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.went = list(answers), list[tuple[str, int]]()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.went.append((host, port))
        return httpcore.AsyncMockStream([self.answers.pop(0)])

    async def sleep(self, seconds: float) -> None:
        """Never called."""


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """An answer of HTTP/1.1 that closes the connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_a_file_is_fetched_through_redirects_within_its_limit() -> None:
    """Two redirects lead on; a fourth, a larger file, a compressed one and another status are refused."""
    moved = answer("302 Found", "Location: http://other.example/b.png")
    web = Web(moved, moved, answer("200 OK", body=b"picture"))
    assert asyncio.run(fetch("http://one.example/a.png", limit=100, backend=web)) == b"picture"
    assert web.went == [("one.example", 80), ("other.example", 80), ("other.example", 80)]
    for answers, said in (
        ([moved] * 4, "redirects more than"),
        ([answer("200 OK", body=b"x" * 101)], "holds more than"),
        ([answer("200 OK", "Content-Encoding: gzip", body=b"x")], "compressed"),
        ([answer("404 Not Found")], "status 404"),
        ([answer("302 Found", "Location: file:///etc/passwd")], "http or https"),
        ([answer("302 Found", "Location: http://other.example:22/")], "port"),
    ):
        with pytest.raises(Problem, match=said):
            asyncio.run(fetch("http://one.example/a.png", limit=100, backend=Web(*answers)))


def test_a_redirect_inside_is_refused_where_it_is_connected() -> None:
    """The checking backend refuses each connection by itself, so a redirect is judged like the first address."""
    from rscap.serving.fetching import _Checked

    with pytest.raises(Problem, match="public network"):
        asyncio.run(_Checked().connect_tcp("localhost", 80))
