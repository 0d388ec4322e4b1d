"""What every benchmark shares: a quiet machine, variants in turn, and a record of where the figures come from."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rscap import provenance
from rscap.store import write_json

T = TypeVar("T")

RESULTS = Path(__file__).resolve().parent / "results"
BUSY_SHARE = 0.75
"""A 1-minute load above this share of the cores makes timings worthless."""
PATIENCE_S = 60
"""On an idle machine a load of all cores is down to that share in 20 seconds."""
_LOOK_S = 5


@dataclass(frozen=True, slots=True)
class Load:
    """Load averages over 1, 5 and 15 minutes before a benchmark began, and what is tolerated."""

    before: tuple[float, float, float]
    limit: float
    busy: bool


@dataclass(slots=True)
class Times:
    """Seconds of the things that were timed, by the clock and of this process's own work (all its threads)."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def after(self, skipped: int) -> Times:
        """The same without the first `skipped`."""
        return Times(self.wall[skipped:], self.cpu[skipped:])


@dataclass(slots=True)
class Stopwatch:
    """Collects `times`; starting it while it runs changes nothing."""

    times: Times = field(default_factory=Times)
    _began: tuple[float, float] | None = None

    def start(self) -> None:
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        if self._began is None:
            raise RuntimeError("the stopwatch was stopped before it was started")
        self.times.wall.append(wall - self._began[0])
        self.times.cpu.append(cpu - self._began[1])
        self._began = None


class Phases:
    """Seconds by the clock and of this process's work, of functions while they run."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = defaultdict(lambda: {"clock": 0.0, "processor": 0.0, "calls": 0})

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Count the seconds of a function of `owner` to a phase."""
        function: Callable[..., Any] = getattr(owner, name)

        def counted(*given: Any, **options: Any) -> Any:
            clock, work = time.perf_counter(), time.process_time()
            try:
                return function(*given, **options)
            finally:
                found = self.seconds[phase]
                found["clock"] += time.perf_counter() - clock
                found["processor"] += time.process_time() - work
                found["calls"] += 1

        setattr(owner, name, counted)


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1")
    return value


def options(description: str | None, *, repetitions: int, out: str) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take: --repetitions, --threads, --out, --busy-ok."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=count, default=repetitions, help="turns of each variant (%(default)s)")
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="threads of each variant (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / out, help="the JSON record")
    parser.add_argument("--busy-ok", action="store_true", help="measure on a busy machine, and say so in the record")
    return parser


def check_load(*, busy_ok: bool) -> Load:
    """Look at the machine before measuring; a load that the benchmark before left behind is waited for.

    Raises:
        SystemExit: the 1-minute load stays above 0.75 of the cores, and `busy_ok` is not set.
    """
    limit = BUSY_SHARE * (os.cpu_count() or 1)
    for _ in range(0 if busy_ok else PATIENCE_S // _LOOK_S):
        if os.getloadavg()[0] <= limit:
            break
        time.sleep(_LOOK_S)
    before = os.getloadavg()
    load = Load(before=before, limit=limit, busy=before[0] > limit)
    if load.busy and not busy_ok:
        raise SystemExit(
            f"the machine is busy: 1-minute load {before[0]:.2f}, at most {limit:.2f} for {os.cpu_count()} cores; "
            "wait, or say --busy-ok"
        )
    return load


def alternate(variants: Mapping[str, Callable[[], T]], *, repetitions: int) -> dict[str, list[T]]:
    """Run the variants in turn, A B A B …, so that a machine that drifts treats all alike; results per variant."""
    results: dict[str, list[T]] = {name: [] for name in variants}
    for _ in range(repetitions):
        for name, variant in variants.items():
            results[name].append(variant())
    return results


def environment(*, threads: int) -> dict[str, Any]:
    """When, on which commit, processor and versions, and with how many threads a benchmark ran."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        **provenance.collect(),
    }


def write_record(path: Path, *, load: Load, threads: int, **results: Any) -> dict[str, Any]:
    """Write a benchmark's JSON: environment, load before and after (the second includes our own), results."""
    record = {
        "environment": environment(threads=threads),
        "load": {**asdict(load), "after": os.getloadavg()},
        **results,
    }
    write_json(path, record)
    return record


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
