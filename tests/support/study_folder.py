"""A study folder as `rscap ablate` leaves it, without any training: captions are references, spoilt on purpose."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from rscap import scoring
from rscap.data import open_source
from rscap.provenance import file_digest
from rscap.records import Example, Prediction
from rscap.store import (
    Provenance,
    RowRecord,
    RunFolder,
    RunRecord,
    SpeedStep,
    Status,
    StudyFolder,
    StudyRecord,
    Thumbnail,
    TowerParameters,
    TrainStep,
    ZeroShotRecord,
    write_parameters,
    write_predictions,
    write_references,
    write_rows,
    write_sheet,
)

ROWS = {"reference": 0.3, "better": 0.0, "same": 0.3}
"""Share of the words that a row loses."""


def spoilt(caption: str, share: float, draw: random.Random) -> str:
    words = caption.split()
    kept = [word for word in words if draw.random() >= share]
    return " ".join(kept or words[:1])


def predict(examples: Sequence[Example], share: float, seed: int) -> list[Prediction]:
    draw = random.Random(seed)
    return [
        Prediction(
            example_id=one.id,
            caption=spoilt(one.captions[seed % len(one.captions)], share, draw),
            prefix="caption en",
            tokens=9,
            stopped="eos",
        )
        for one in examples
    ]


def write_scores(folder: RunFolder, split: str, examples: Sequence[Example], predictions: Sequence[Prediction]) -> None:
    sheet = scoring.score_captions(
        {one.example_id: one.caption for one in predictions},
        {one.id: one.captions for one in examples},
        metrics=("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"),
        decode="greedy-64",
        draws=200,
        sources={one.id: one.source for one in examples},
        prefix="caption en",
        content=True,
    )
    write_predictions(folder.predictions(split), predictions)
    write_references(folder.references(split), examples)
    files = {"predictions": folder.predictions(split), "references": folder.references(split)}
    write_sheet(folder.scores(split), scoring.with_digests(sheet, {kind: file_digest(p) for kind, p in files.items()}))


def write_run(
    folder: Path,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    minutes: int,
    state: str = "finished",
) -> None:
    """A run folder with what a report reads."""
    run = RunFolder(folder)
    started, ended = "2026-01-01T10:00:00+00:00", f"2026-01-01T10:{minutes:02}:00+00:00"
    error = {"error": "AdapterError: EVA wants activations"} if state == "failed" else {}
    Status(state=state, started=started, ended=ended, **error).write(run.status_file)
    write_parameters(run.parameters_file, {"language_model": TowerParameters(total=100, trainable=minutes)})
    Provenance(rscap="0").write(run.provenance_file)
    step = TrainStep(event="step", step=1, loss=2.0, learning_rate=1e-3, epoch=0.1)
    speed = SpeedStep(step=1, images_per_s=2.0, captions_per_s=10.0 * minutes, memory_bytes=2**30)
    write_rows(run.train_log, [step])
    write_rows(run.speed_log, [speed])
    if state == "finished":
        write_scores(run, "test", examples, predictions)


def write_study(
    folder: Path,
    *,
    images: int = 40,
    seeds: int = 3,
    rows: Mapping[str, float] = ROWS,
    failed: str | None = "broken",
    thumbnails: bool = True,
) -> Path:
    """A study of the sample's test split: rows that lose more or fewer words, one that failed, one that is missing.

    With `thumbnails` it keeps small pictures of its images (all the same few bytes here).
    """
    examples = open_source("sample").subset("test", images, 0)
    plan_rows: list[RowRecord] = []
    for number, (name, share) in enumerate(rows.items()):
        runs = []
        for seed in range(seeds):
            place = f"runs/{name}/seed-{seed}"
            write_run(folder / place, examples, predict(examples, share, 100 * number + seed), minutes=1 + number)
            runs.append(RunRecord(seed=seed, folder=place))
        plan_rows.append(RowRecord(name=name, differences={"adapter.rank": number}, runs=tuple(runs)))
    if failed:
        place = f"runs/{failed}/seed-0"
        write_run(folder / place, examples, [], minutes=1, state="failed")
        plan_rows.append(RowRecord(name=failed, differences={}, runs=(RunRecord(seed=0, folder=place),)))
        missing = RunRecord(seed=0, folder="runs/missing/seed-0")
        plan_rows.append(RowRecord(name="missing", differences={}, runs=(missing,)))
        plan_rows.append(RowRecord(name="left-out", differences={}, runs=(), excluded="no 4-bit form"))
    write_scores(RunFolder(folder / "zero-shot"), "test", examples, predict(examples, 0.8, 7))
    write_scores(RunFolder(folder / "baselines" / "constant"), "test", examples, predict(examples, 0.7, 8))
    if thumbnails:
        write_rows(StudyFolder(folder).thumbnails_file, [Thumbnail(id=one.id, jpeg="/9j/AAAA") for one in examples])
    StudyRecord(
        name="spoilt words",
        reference=next(iter(rows)),
        split="test",
        evaluation={"source": "sample", "splits": "official", "split": "test", "limit": images, "prefix": None},
        rows=tuple(plan_rows),
        zero_shot=(ZeroShotRecord(folder="zero-shot", rows=tuple(rows)),),
        baselines=("baselines/constant",),
    ).write(StudyFolder(folder).plan_file)
    return folder
