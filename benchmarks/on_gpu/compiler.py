"""What torch.compile did while something ran."""

from __future__ import annotations

import logging
import warnings
from types import TracebackType
from typing import Any

from torch._dynamo.utils import counters


class Compiler(logging.Handler):
    """Counts graphs and breaks while it is entered, and keeps what the compiler warns of.

    A function that was compiled too often is run as it is from then on; nothing but a warning says so.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._before: dict[str, int] = {}
        self._found: dict[str, int] = {}
        self._caught: Any = None
        self._warned: list[warnings.WarningMessage] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage()[:300])

    def __enter__(self) -> Compiler:
        self._before = _counted()
        logging.getLogger("torch._dynamo").addHandler(self)
        self._caught = warnings.catch_warnings(record=True)
        self._warned = self._caught.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._caught.__exit__(kind, error, at)
        logging.getLogger("torch._dynamo").removeHandler(self)
        self._found = {name: number - self._before[name] for name, number in _counted().items()}
        texts = dict.fromkeys(str(one.message)[:300] for one in self._warned)
        self.said += [text for text in texts if "compile" in text.lower()]

    def describe(self) -> dict[str, Any]:
        """For the record."""
        return {**self._found, "warnings": self.said[:5]}


def _counted() -> dict[str, int]:
    return {
        "graphs": counters["stats"].get("unique_graphs", 0),
        "breaks": sum(counters["graph_break"].values()),
    }
