"""Batches that are prepared ahead of the step: by data workers, by a thread, or in this process."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from multiprocessing.context import BaseContext
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from rscap.captioner.batch import Batch, PackedRow, collate
from rscap.errors import DataError, WorkerLost
from rscap.progress import Say, to_stderr
from rscap.records import Example, Picture, Rejected

_AHEAD = 4
"""Batches that each data worker keeps ready."""
_MOST = 4
"""Workers that `auto` starts for a GPU; one decodes some 600 images of 224 px a second (docs/scaling.md)."""

Workers = int | Literal["auto"]
"""Processes that make batches; as `data.workers` in a recipe."""


def worker_count(asked: Workers) -> int:
    """How many data workers this process starts: as asked, or for `auto` as many as a GPU needs and the cores allow.

    Batches are the same whatever the number. Where a CPU trains, workers would only take its time. The processes of one
    launcher divide the cores among them.
    """
    if asked != "auto":
        return asked
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(_MOST, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


Place = TypeVar("Place")


class _Rows(Dataset[PackedRow | Rejected], Generic[Place]):
    """The encoded row at each place that a sampler yields."""

    def __init__(self, encode: Callable[[Place], PackedRow], name: Callable[[Place], str]) -> None:
        self.encode, self.name = encode, name

    def __getitem__(self, place: Place) -> PackedRow | Rejected:
        try:
            return self.encode(place)
        except DataError as error:
            return Rejected(row=self.name(place), reason=error.in_one_line)


@dataclass(frozen=True, slots=True)
class _Collate:
    pad: int
    sends: bool

    def __call__(self, items: list[PackedRow | Rejected]) -> Batch | _Parcel:
        batch = collate(items, pad=self.pad)
        return _Parcel.of(batch) if self.sends else batch


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A batch on its way from a data worker, as bytes through a pipe.

    Left to itself torch hands tensors over in shared memory, a file descriptor each. Where these run out (64 MB of
    /dev/shm in a container, `ulimit -n`) the worker lives on, the batch never comes, and training waits for ever.
    """

    values: dict[str, Any]
    tensors: dict[str, tuple[torch.dtype, torch.Size, NDArray[np.uint8]]]

    @classmethod
    def of(cls, batch: Batch) -> _Parcel:
        values = {field.name: getattr(batch, field.name) for field in fields(batch)}
        tensors = {name: values.pop(name) for name, value in list(values.items()) if torch.is_tensor(value)}
        return cls(
            values,
            {
                name: (one.dtype, one.shape, one.contiguous().reshape(-1).view(torch.uint8).numpy())
                for name, one in tensors.items()
            },
        )

    def batch(self) -> Batch:
        opened: dict[str, Any] = {
            name: torch.from_numpy(content).view(dtype).reshape(shape)
            for name, (dtype, shape, content) in self.tensors.items()
        }
        return Batch(**self.values, **opened)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; the thread of the loader that pins calls this."""
        return self.batch().pin_memory()


Shown = TypeVar("Shown", bound=Example | Picture)


def batches(
    examples: Sequence[Shown],
    encode: Callable[[Shown], PackedRow],
    *,
    size: int,
    pad: int,
    workers: Workers = 0,
    say: Say = to_stderr,
) -> Iterator[Batch]:
    """Batches of `size` examples in the order given; `Batch.rejected` lists what cannot be encoded.

    If a data worker dies, `say` reports why, and this process makes the remaining batches.
    """
    everyone = range(len(examples))
    groups = [everyone[start : start + size] for start in range(0, len(examples), size)]
    listed = _Listed(examples, encode)

    def made(first: int, workers: Workers) -> Iterator[Batch]:
        return grouped(groups[first:], listed.encode_at, name=listed.name_at, pad=pad, workers=workers)

    def alone(first: int, lost: WorkerLost) -> Iterator[Batch]:
        say(f"{lost.message}; this process reads the other images itself")
        return made(first, workers=0)

    try:
        coming = made(0, workers)
    except WorkerLost as lost:
        return alone(0, lost)
    return _finished(coming, alone)


def _finished(coming: Iterator[Batch], rest: Callable[[int, WorkerLost], Iterator[Batch]]) -> Iterator[Batch]:
    """The batches of `coming`; after the loss of a worker, those of `rest`, from the first batch that is missing."""
    count = 0
    try:
        for batch in coming:
            count += 1
            yield batch
    except WorkerLost as lost:
        yield from rest(count, lost)


def grouped(
    groups: Iterable[Sequence[Place]],
    encode: Callable[[Place], PackedRow],
    *,
    name: Callable[[Place], str],
    pad: int,
    workers: Workers = 0,
) -> Iterator[Batch]:
    """One batch for each group of places, in order; the groups may be endless. `name` gives the name of the example at
    a place.

    With `workers`, that many processes keep a few batches ready ahead of the step.
    """
    count = worker_count(workers)
    loader = DataLoader(
        _Rows(encode, name),
        batch_sampler=groups,  # type: ignore[arg-type]  # any iterable of lists of keys serves
        num_workers=count,
        prefetch_factor=_AHEAD if count else None,
        collate_fn=_Collate(pad, sends=count > 0),
        multiprocessing_context=_workshop() if count else None,
        worker_init_fn=_leave_interrupts if count else None,
        pin_memory=torch.cuda.is_available(),
    )
    if not count:
        return iter(loader)
    with _script_hidden(), _naming_lost_workers():
        coming = iter(loader)
    return _received(coming)


def _received(coming: Iterator[_Parcel | Batch]) -> Iterator[Batch]:
    """The batches of data workers.

    Raises:
        WorkerLost: a worker was killed, or ran out of what the system gives it.
    """
    with _naming_lost_workers():
        for item in coming:
            yield item.batch() if isinstance(item, _Parcel) else item


_OF_A_WORKER = re.compile(
    r"DataLoader worker|Communication with the workers|Pin memory thread"
    r"|^Caught (?:OSError|MemoryError|BlockingIOError)"
)
"""How torch's messages begin when a worker cannot continue; those of errors in rscap's own code begin otherwise."""


@contextmanager
def _naming_lost_workers() -> Iterator[None]:
    """Raise `WorkerLost` where a data worker ended or could not start; torch uses an error type for each way."""
    try:
        yield
    except (RuntimeError, OSError, EOFError, MemoryError) as error:
        lost_connection = isinstance(error, EOFError | ConnectionError)  # the process that forks workers has ended
        if not lost_connection and not _OF_A_WORKER.search(str(error)):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1] if lines[0].startswith("Caught") else lines[0]
        raise WorkerLost(
            f"a data worker ended: {reason}", hint="was it short of memory? Try again, or with fewer data.workers"
        ) from error


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Keep the workers that start meanwhile from importing the caller's script.

    Python would import it so that they know its classes; a script without `if __name__ == "__main__":` would then run
    once more in each worker. Nothing that is handed to a worker is defined there.
    """
    main = vars(sys.modules["__main__"])
    shown: dict[str, object] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        del main["__spec__"]
        main.update(shown)


def _leave_interrupts(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; a worker leaves it to the training process, which stops in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def _workshop() -> BaseContext:
    """How data workers are started: forked from a process that has imported this module and done nothing else.

    Forked from this process they would inherit torch's thread pool half alive, and starting each afresh takes seconds.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@dataclass(frozen=True, slots=True)
class _Listed(Generic[Shown]):
    """Examples by their position in a list."""

    examples: Sequence[Shown]
    encode: Callable[[Shown], PackedRow]

    def encode_at(self, position: int) -> PackedRow:
        return self.encode(self.examples[position])

    def name_at(self, position: int) -> str:
        return self.examples[position].id


Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order; a thread makes the next while the caller works with the last.

    An error in making an item is raised where the item would have come.
    """
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]  # not `end`
