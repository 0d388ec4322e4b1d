"""METEOR in two processes is METEOR."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from rscap import scoring
from rscap.errors import ScoreError
from rscap.scoring import meteor as package
from rscap.scoring.meteor import Meteor, MeteorUnavailable, worker

WORDS = ["two", "planes", "the", "runway", "large", "big", "are", "parked", "on", "river", "of", "é", "\ud83d"]


@pytest.fixture(scope="module")
def segments() -> tuple[list[str], list[list[str]]]:
    try:
        Meteor()
    except MeteorUnavailable as error:
        pytest.skip(str(error))
    rng = random.Random(3)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(0, 14)))

    return [text() for _ in range(60)], [[text() for _ in range(rng.randint(1, 4))] for _ in range(60)]


class Slow(Meteor):
    """Gives the other process time to do most of the work."""

    def statistics(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        import time

        time.sleep(1.5)
        return super().statistics(candidates, references)


@pytest.mark.parametrize(("kind", "batch"), [(Meteor, 7), (Meteor, 60), (Meteor, 100), (Slow, 7)])
def test_the_counts_are_those_of_one_process(
    segments: tuple[list[str], list[list[str]]], monkeypatch: pytest.MonkeyPatch, kind: type[Meteor], batch: int
) -> None:
    """Whoever is faster, and however the images fall into batches, every count is the same and in its place; half of a
    surrogate pair passes between the processes."""
    monkeypatch.setattr(worker, "BATCH", batch)
    serve = f"from rscap.scoring.meteor import worker; worker.BATCH = {batch}; worker.serve()"
    monkeypatch.setattr(worker, "_SERVE", serve)
    np.testing.assert_array_equal(worker.in_two_processes(kind(), *segments), Meteor().statistics(*segments))


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "import sys; sys.stdout.buffer.write(b'12345')", None])
def test_without_the_other_process_this_one_does_it_all(
    segments: tuple[list[str], list[list[str]]], monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    """A second process that dies, that delivers half a row, or that cannot be started."""
    monkeypatch.setattr(worker, "BATCH", 7)
    if program is None:
        monkeypatch.setattr(sys, "executable", "/no/python")
    else:
        monkeypatch.setattr(worker, "_SERVE", program)
    np.testing.assert_array_equal(worker.in_two_processes(Meteor(), *segments), Meteor().statistics(*segments))


def test_errors_are_those_of_one_process(segments: tuple[list[str], list[list[str]]]) -> None:
    """An image without references is named, and no images give no rows."""
    assert worker.in_two_processes(Meteor(), [], []).shape == (0, len(package.COLUMNS))
    with pytest.raises(ScoreError, match="has no reference"):
        worker.in_two_processes(Meteor(), ["a"], [[]])


def test_a_sheet_does_not_depend_on_it(
    segments: tuple[list[str], list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`score_captions` gives the same sheet with one process and two."""
    monkeypatch.setattr(package, "MANY", 10)
    candidates = {f"{i}": text.replace("\ud83d", "") for i, text in enumerate(segments[0])}
    references = {f"{i}": [text.replace("\ud83d", "") for text in own] for i, own in enumerate(segments[1])}
    one, two = (scoring.score_captions(candidates, references, draws=50, processes=count) for count in (1, 2))
    assert one == two
    assert "METEOR" in two.corpus
