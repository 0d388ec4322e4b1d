"""Captions as they come: an evaluation that is cut off goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from rscap.errors import StoreError
from rscap.records import Example, Prediction, Rejected, Stopped
from rscap.store.files import write_text
from rscap.store.record import Record

Item = Prediction | Rejected


@dataclass(frozen=True, slots=True)
class Journal:
    """A file with a line for every image that is done, batch by batch, below a line that says what asks.

    What was captioned by another model, in other words or from other images is of no use: `asked` tells. Nor is an
    image that could not be decoded: it may be mended by now.
    """

    path: Path
    asked: Mapping[str, Any]
    """Whatever decides what a caption is: model, data, words, decoding."""

    def begin(self, examples: Sequence[Example], *, batch_size: int) -> list[Prediction]:
        """What is done already of `examples`, from the first on; the file then holds just that.

        Whole batches alone are kept, so that the batches to come are those of an evaluation that nobody disturbed.
        """
        done = self._done()
        done = done[: len(done) // batch_size * batch_size]
        if [item.example_id for item in done] != [example.id for example in examples[: len(done)]]:
            done = []
        write_text(self.path, "".join(f"{_line(row)}\n" for row in (self._heading(), *map(asdict, done))))
        return done

    def add(self, item: Item) -> None:
        """One more image."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"{_line(asdict(item))}\n")

    def end(self) -> None:
        """All captions stand in the file that they are for."""
        self.path.unlink(missing_ok=True)

    def _heading(self) -> dict[str, Any]:
        return {"asked": json.loads(_line(self.asked))}

    def _done(self) -> list[Prediction]:
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]  # the last may be cut off
        done: list[Prediction] = []
        with suppress(StoreError, ValueError, RecursionError):  # what follows such a line is done again
            if not lines or json.loads(lines[0]) != self._heading():
                return []
            for line in lines[1:]:
                done.append(Prediction(**_Line.parse(line, where=str(self.path)).content()))
        return done


class _Line(Record):
    """A caption that is done. Unlike in other records, an unknown key makes it one that must be done again."""

    model_config = ConfigDict(extra="forbid")

    example_id: str
    caption: str
    prefix: str
    tokens: int
    stopped: Stopped
    near_ties: int


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False, sort_keys=True)
