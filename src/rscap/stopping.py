"""SIGTERM, Ctrl-C and a closed terminal as an error that says what to do next."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
