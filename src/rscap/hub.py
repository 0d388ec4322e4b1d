"""The Hub of Hugging Face: one short question whether it answers, in place of the long retries of its clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS = 4.0
"""How long an answer is waited for."""
_REMEMBERED_SECONDS = 60.0
"""How long the Hub is taken for reachable, or not, without asking again."""

_known: tuple[bool, float] | None = None
_told: set[str] = set()
"""Repositories of which a process has said that a copy is used."""


@contextmanager
def reach_hub(needed: bool = True) -> Iterator[None]:
    """Inside, the clients of the Hub look into their cache alone where the Hub cannot be reached.

    By themselves they try each file six times within 25 seconds and print each try. What is neither on the Hub nor in
    the cache is then their error at once.

    Args:
        needed: false where a folder is opened; then nothing is asked and nothing changes.
    """
    if not needed:
        yield
        return
    from huggingface_hub import constants

    if constants.is_offline_mode() or _answers():
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def why_not_reached() -> str:
    """Why only the cache was looked into, for a message; empty where the Hub was asked."""
    from huggingface_hub import constants

    if _is_silent():
        return f"{constants.ENDPOINT} cannot be reached"
    return "HF_HUB_OFFLINE is set, so that the Hub is not asked" if constants.is_offline_mode() else ""


def note_cached(repository: str, commit: str | None, say: Callable[[str], None]) -> None:
    """Say that a copy in the cache was loaded because the Hub cannot be reached, which may have a newer one.

    A process says it once for each repository, and never where the user chose the cache by HF_HUB_OFFLINE.

    Args:
        repository: its name on the Hub.
        commit: of the copy.
        say: gets the line.
    """
    if repository in _told or not _is_silent():
        return
    from huggingface_hub import constants

    _told.add(repository)
    at = f", commit {commit}" if commit else ""
    say(f"note: {constants.ENDPOINT} cannot be reached; {repository} is loaded from the cache on this machine{at}")


def _is_silent() -> bool:
    """Whether the Hub was asked lately and did not answer."""
    return _known is not None and not _known[0] and time.monotonic() - _known[1] <= _REMEMBERED_SECONDS


def _answers() -> bool:
    """Whether the Hub answers, whatever it says; the clients' own proxies and certificates are used."""
    global _known
    if _known is None or time.monotonic() - _known[1] > _REMEMBERED_SECONDS:
        _known = _ask(), time.monotonic()
    return _known[0]


def _ask() -> bool:
    from huggingface_hub import constants, get_session

    answered = threading.Event()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=_SECONDS)
        except Exception:  # whatever a client raises, now or in another version: no answer
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)  # looking a name up has no time limit of its own
    thread.start()
    thread.join(_SECONDS)
    return answered.is_set()
