"""SIGTERM and Ctrl-C: in the loop the update at hand is finished and the state saved; elsewhere work ends at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from rscap.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_REPEAT_SECONDS = 3.0


class StopRequest:
    """While it is entered, SIGTERM or Ctrl-C only sets `name`; one that comes seconds later does what it always did.

    A scheduler signals launcher and workers at once and the launcher hands it on, so a repeat at once means nothing.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._first = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
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


@contextmanager
def stopping() -> Iterator[None]:
    """While it is entered, SIGTERM or Ctrl-C raises `Interrupted`: what was being written is not there, or whole."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
