"""What a long job tells its caller: messages, and how much of it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Say = Callable[[str], None]
"""Receives a message of one line."""

Progress = Callable[[int, int], None]
"""Receives how many items are done, and how many there are."""


def to_stderr(message: str) -> None:
    """Print a line on standard error, above a progress bar where one is shown."""
    print(message, file=sys.stderr, flush=True)


def no_messages(message: str) -> None:
    """Print nothing."""


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


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
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
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
