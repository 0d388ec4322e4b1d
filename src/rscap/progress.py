"""What a long job tells its caller: messages, and how much of it is done."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rscap.escape import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import BarColumn, TaskID
    from rich.progress import Progress as RichProgress

Say = Callable[[str], None]
"""Receives a message of one line."""

Progress = Callable[[int, int], None]
"""Receives how many items are done, and how many there are."""


def to_stderr(message: str) -> None:
    """Print a message on standard error, above a progress bar where one is shown, folded to the width of the screen.

    Where nobody reads it any more (`2>&1 | head`, a closed terminal, a full disk) the work goes on in silence.
    """
    if sys.stderr is not None:  # print would take standard output
        with suppress(OSError):
            print(fold(visible(message)), file=sys.stderr, flush=True)


def screen_columns() -> int:
    """Columns of the terminal, as COLUMNS or the terminal itself says; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def fold(text: str, *, indent: str = "  ", width: int | None = None) -> str:
    """Text for people, with line breaks between words so that no line is wider than the screen.

    Signatures break behind a `|`. A word that is wider than the screen stays whole, and so do commands, which people
    copy: one in backticks, and one that fills the rest of its line behind a colon (`next: rscap report runs/x`) or
    behind the spaces that the line begins with.
    """
    columns = width or screen_columns()
    return "\n".join(part for line in text.split("\n") for part in _folded(line, indent, columns))


def _folded(line: str, indent: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    told = _COMMAND.search(line)
    command = line[told.start() :] if told else ""
    lines = [""]
    for piece in [*_PIECE.findall(line[: len(line) - len(command)]), *([command] if command else [])]:
        if len(lines[-1]) + len(piece.rstrip()) <= width:
            lines[-1] += piece
            continue
        parts = _PART.findall(piece) if piece.count("|") > 1 else [piece]
        for number, part in enumerate(parts):
            if lines[-1].strip() and len(lines[-1]) + len(part.rstrip()) > width:
                lines.append(indent)
                part = part if number else part.lstrip()
            lines[-1] += part
    return [one.rstrip() for one in lines]


_COMMAND = re.compile(r"(?:(?<=:)|^)\s+(?:rscap |pip |tar -)\S.*$")
_PIECE = re.compile(r"\s*(?:[^\s`]*`[^`]*`\S*|\S+)|\s+$")
_PART = re.compile(r"[^|]+\|?|\|")


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


def titled(progress: Progress | None, title: str) -> Progress | None:
    """The same progress under another title, where it is a bar; what a caller wrote stays as it is."""
    return progress.about(title) if isinstance(progress, ProgressBar) else progress


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
        self._column: BarColumn | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        self._bar, self._column = _rich_bar(shown=self._shown)
        self._task = self._bar.add_task(self._title, total=None, details="")
        self._bar.start()
        return self

    def __call__(self, done: int, total: int, details: str = "") -> None:
        """Show that `done` of `total` items are done, with `details` behind the bar: as many of them as fit there.

        Details are joined by ` · `, the most important first. Count and times are never cut.
        """
        assert self._bar is not None
        assert self._task is not None
        room = self._bar.console.width - len(self._title) - 2 * len(str(total)) - _FIXED_COLUMNS
        words = ""
        for part in details.split(" · ") if details else ():
            if len(words) + len(part) + 3 > room - _BAR[0]:
                break
            words += f" · {part}"
        if self._column is not None:
            self._column.bar_width = max(_BAR[0], min(_BAR[1], room - len(words)))
        self._bar.update(self._task, description=self._title, completed=done, total=total, details=words)

    def about(self, title: str) -> Progress:
        """Another count on this bar, under a title of its own."""

        def advance(done: int, total: int) -> None:
            self._title = title
            self(done, total)

        return advance

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):  # the terminal was closed
                self._bar.stop()


_BAR = (6, 20)
"""Columns of the bar itself, at least and at most."""
_FIXED_COLUMNS = 30
"""Columns of what stands around title, bar, count and details: two times, a slash, dots, `left` and the spaces."""


def _rich_bar(*, shown: bool) -> tuple[RichProgress, BarColumn]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console, bar = screen(stderr=True), BarColumn(bar_width=_BAR[1])
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        bar,
        MofNCompleteColumn(),
        TextColumn("·"),
        TimeElapsedColumn(),
        TextColumn("·"),
        TimeRemainingColumn(),
        TextColumn("left{task.fields[details]}", markup=False),
        console=console,
        disable=not shown or not (console.is_terminal or console.is_jupyter),
    )
    return progress, bar
