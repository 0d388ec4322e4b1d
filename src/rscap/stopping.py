"""SIGTERM, Ctrl-C and a closed terminal as an error that says what to do next."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from rscap.errors import Interrupted


def heeded() -> list[signal.Signals]:
    """The signals that ask to stop: SIGTERM, Ctrl-C, and a terminal that was closed, unless `nohup` ignores that."""
    hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
    closed = [hang_up] if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN else []
    return [signal.SIGTERM, signal.SIGINT, *closed]


class _Stop(BaseException):
    """On its way out; no `except Exception` on the way takes it for an image that cannot be decoded."""


@contextmanager
def stopping() -> Iterator[None]:
    """While it is entered, a signal of `heeded` ends what is done in it at once, and it raises `Interrupted`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stop(f"stopped by {signal.Signals(number).name}")

    if threading.current_thread() is not threading.main_thread():  # elsewhere Python allows no handlers
        yield
        return
    before = {number: signal.signal(number, stop) for number in heeded()}
    try:
        yield
    except _Stop as stopped:
        raise Interrupted(str(stopped)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# SIGTERM, Ctrl-C and a closed terminal in the loop: the update at hand is finished and the state saved.

_REPEAT_SECONDS = 3.0


class StopRequest:
    """While it is entered, such a signal only sets `name`; one that comes seconds later does what it always did.

    A scheduler signals launcher and workers at once and the launcher hands it on, so a repeat at once means nothing.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._first = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._note) for number in heeded()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.name is None:
            self.name, self._first = signal.Signals(number).name, now
        elif now - self._first > _REPEAT_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
