"""Where the server listens, and how much it accepts from whom."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from rscap.errors import RscapError

KEY_VARIABLE = "RSCAP_API_KEY"
"""The environment variable that holds the key; an argument would be seen in the list of processes."""


class ServingError(RscapError):
    """A server that cannot start as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What a server accepts; every limit is checked before an image is decoded."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    key: str | None = None
    """What clients must send as `Authorization: Bearer KEY`; None: nothing."""
    hosts: tuple[str, ...] = ()
    """Further names under which clients may address the server (`Host` header)."""
    remote_images: bool = False
    """Fetch images from public http and https addresses."""
    max_body: int = 32 * 2**20
    """Bytes of one request."""
    max_bodies: int = 512 * 2**20
    """Bytes of all requests that are being read or wait."""
    max_pixels: int = 25_000_000
    """Of one image, by its header."""
    max_scene_pixels: int = 250_000_000
    """Of one scene."""
    scene_seconds: float = 10.0
    """How long a scene is waited for; after that its client gets an address to ask at."""
    max_images: int = 64
    """Of one upload."""
    max_tokens: int = 512
    """Of one caption."""
    max_prompt: int = 1_000
    """Characters of a prompt."""
    max_beams: int = 8
    max_samples: int = 32
    """Captions that are drawn for a consensus."""
    max_choices: int = 8
    """Captions of one image."""
    queue: int = 256
    """Captions that may wait; one client may hold half of it."""
    batch: int = 32
    """Images captioned together."""
    deadline: float = 60.0
    """Seconds from the arrival of a request to its answer."""
    body_seconds: float = 30.0
    """Seconds in which a body must have arrived."""
    header_seconds: float = 15.0
    """Seconds in which the head of a request must have arrived on an open connection."""

    def __post_init__(self) -> None:
        if self.key is not None and (not self.key.isascii() or not self.key.strip() or len(self.key) < 8):
            raise ServingError(
                f"the key in {KEY_VARIABLE} is too short or holds other than ASCII characters",
                hint="take 8 or more, such as `python -c 'import secrets; print(secrets.token_urlsafe())'` prints",
            )

    @classmethod
    def checked(cls, *, no_key: bool = False, **given: object) -> ServeSettings:
        """Settings with the key from the environment.

        Raises:
            ServingError: others could reach the server and no key keeps them out.
        """
        key = os.environ.get(KEY_VARIABLE) or None
        settings = cls(key=key, **given)  # type: ignore[arg-type]
        if key is None and not no_key and not is_loopback(settings.host):
            raise ServingError(
                f"on {settings.host} other machines could use this server, and no key is set",
                hint=f"set {KEY_VARIABLE}, serve on 127.0.0.1, or say --no-key if everybody may",
            )
        return settings

    def knows_host(self, name: str) -> bool:
        """Whether a client may address the server by this name: a page of another site, rebound to it, may not.

        Loopback, the address that was named, and further names as told; any address where it listens on all of them.
        """
        if is_loopback(name) or name in (self.host, *self.hosts):
            return True
        return self.host in ("0.0.0.0", "::") and _address(name) is not None


def is_loopback(name: str) -> bool:
    """Whether a host's name stands for this machine alone."""
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
