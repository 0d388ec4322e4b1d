"""What a long job tells its caller: messages, and how much of it is done."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rscap.escape import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Say = Callable[[str], None]
"""Receives a message of one line."""

Progress = Callable[[int, int], None]
"""Receives how many items are done, and how many there are."""


def to_stderr(message: str) -> None:
    """Print a line on standard error, above a progress bar where one is shown.

    Where nobody reads it any more (`2>&1 | head`, a closed terminal, a full disk) the work goes on in silence.
    """
    if sys.stderr is not None:  # print would take standard output
        with suppress(OSError):
            print(visible(message), file=sys.stderr, flush=True)


def no_messages(message: str) -> None:
    """Print nothing."""


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def screen(**options: Any) -> Console:
    """A console of rich for text that other people wrote: it shows markup, emoji codes and control characters as text.

    Where nobody reads it any more, printing raises `BrokenPipeError`; rich itself would end the program.
    """
    return _screen_class()(**{"markup": False, "emoji": False, "highlight": False, **options})


@cache
def _screen_class() -> type[Console]:
    from rich.console import Console
    from rich.segment import Segment

    class Screen(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

        def on_broken_pipe(self) -> None:
            self.quiet = True
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return Screen


@contextmanager
def reporting(progress: bool | Progress | None, title: str) -> Iterator[Progress]:
    """The progress that a caller chose: True shows a bar, False or None nothing, and a function is called itself."""
    if callable(progress):
        yield progress
    elif progress:
        with ProgressBar(title) as bar:
            yield bar
    else:
        yield no_progress


class ProgressBar:
    """A progress bar on standard error. It appears in a terminal and in a notebook, and nowhere else.

    It is a context manager, and inside it a `Progress`:

        with ProgressBar("captions") as bar:
            bar(16, 192)

    Args:
        title: the words before the bar.
        shown: False shows nothing anywhere.
    """

    def __init__(self, title: str, *, shown: bool = True) -> None:
        self._title, self._shown = title, shown
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        self._bar = _rich_bar(self._title, shown=self._shown)
        self._task = self._bar.add_task(self._title, total=None, details="")
        self._bar.start()
        return self

    def __call__(self, done: int, total: int, details: str = "") -> None:
        """Show that `done` of `total` items are done, with `details` in words behind the bar."""
        assert self._bar is not None
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total, details=f" · {details}" if details else "")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):  # the terminal was closed
                self._bar.stop()


def _rich_bar(title: str, *, shown: bool) -> RichProgress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = screen(stderr=True)
    return Progress(
        TextColumn(title, markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("·"),
        TimeElapsedColumn(),
        TextColumn("·"),
        TimeRemainingColumn(),
        TextColumn("left{task.fields[details]}", markup=False),
        console=console,
        disable=not shown or not (console.is_terminal or console.is_jupyter),
    )
