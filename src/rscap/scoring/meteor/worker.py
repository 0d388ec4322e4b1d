"""METEOR of many images in two processes: this one takes batches from the front, a second one from the back.

Whichever is faster does more; when the two meet, the second is stopped. It is a fresh interpreter, not a fork, so
threads of the caller (torch's, a notebook's) are safe; if it cannot be started or dies, this process does all the work.
The counts are whole numbers, so it makes no difference who counted them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from threading import Thread

import numpy as np

from rscap.scoring.meteor.formula import COLUMNS, Floats
from rscap.scoring.meteor.scorer import Meteor

BATCH = 100
"""Images between two looks at how far the other process has come."""
_ROW_BYTES = 8 * len(COLUMNS)
_SERVE = "from rscap.scoring.meteor.worker import serve; serve()"

Chunk = slice


def in_two_processes(meteor: Meteor, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """As `meteor.statistics`: float64[n, 23], the same numbers.

    Raises:
        ScoreError: as `Meteor.statistics`.
    """
    batches = _batches(len(candidates))
    other = _Other(candidates, references, batches)
    rows: list[Floats] = []
    try:
        while len(rows) + len(other.rows) < len(batches):
            batch = batches[len(rows)]
            rows.append(meteor.statistics(candidates[batch], references[batch]))
    finally:
        other.stop()
    theirs = other.rows[: len(batches) - len(rows)]
    return np.concatenate([*rows, *reversed(theirs)]) if batches else meteor.statistics([], [])


def _batches(n: int) -> list[Chunk]:
    return [slice(start, min(start + BATCH, n)) for start in range(0, n, BATCH)]


class _Other:
    """The second process, and what it has delivered so far, from the last batch backwards."""

    def __init__(
        self, candidates: Sequence[str], references: Sequence[Sequence[str]], batches: Sequence[Chunk]
    ) -> None:
        self.rows: list[Floats] = []
        self._process: subprocess.Popen[bytes] | None = None
        if not sys.executable:  # Python inside another program
            return
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError:
            return
        job = json.dumps([candidates, [list(own) for own in references]]).encode()
        self._threads = [
            Thread(target=self._send, args=(self._process, job), daemon=True),
            Thread(target=self._receive, args=(self._process, batches), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, process: subprocess.Popen[bytes], job: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(job)
            process.stdin.close()
        except OSError:
            pass  # it died, or was not needed

    def _receive(self, process: subprocess.Popen[bytes], batches: Sequence[Chunk]) -> None:
        assert process.stdout is not None
        for batch in reversed(batches):
            size = _ROW_BYTES * (batch.stop - batch.start)
            found = process.stdout.read(size)
            if len(found) < size:
                return
            self.rows.append(np.frombuffer(found, dtype=np.float64).reshape(-1, len(COLUMNS)))

    def stop(self) -> None:
        """End the process; nothing is delivered after this."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()


def serve() -> None:
    """The second process: texts come in as JSON, counts go out batch by batch, the last first."""
    candidates, references = json.load(sys.stdin.buffer)
    meteor = Meteor()
    for batch in reversed(_batches(len(candidates))):
        counts = meteor.statistics(candidates[batch], references[batch])
        sys.stdout.buffer.write(counts.tobytes())
        sys.stdout.buffer.flush()
