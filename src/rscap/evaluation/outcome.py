"""Caption a split, write the file, score the file: the same steps for a base model, a run and a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rscap import scoring
from rscap.baselines import constant, nearest_image
from rscap.captioner import Captioner, caption_all
from rscap.captioner.choice import decode_name
from rscap.captioner.decoding import images_together
from rscap.captioner.loader import Workers
from rscap.data.draw import key
from rscap.progress import Progress, Say, to_stderr
from rscap.provenance import file_digest
from rscap.records import Example, Prediction, Rejected, ScoreSheet
from rscap.store import (
    Journal,
    RunFolder,
    read_rejected,
    write_panel,
    write_predictions,
    write_references,
    write_rejected,
    write_sheet,
    write_thumbnails,
)

PANEL_SIZE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Captions of a split and their scores."""

    predictions: list[Prediction]
    rejected: list[Rejected]
    sheet: ScoreSheet


def evaluate_model(
    captioner: Captioner,
    *,
    test: Sequence[Example],
    train: Sequence[Example] | None,
    max_rejected_share: float,
    workers: Workers = 0,
    progress: Progress | None = None,
    say: Say = to_stderr,
    journal: Journal | None = None,
    seen: Mapping[str, int | str] | None = None,
) -> Outcome:
    """Caption `test` and score it; captions that stand verbatim in `train`, where it is known, are counted.

    `seen` is what the model has seen of `test`, see `rscap.scoring.with_seen`.

    With a `journal`, captions are kept as they come, and those that it holds are not asked for again.

    Raises:
        DataError: more images are unreadable than `max_rejected_share` allows.
        OutOfMemory: a single image does not fit.
    """
    if journal and (why := journal.set_aside()):
        say(f"captions of an interrupted evaluation are made again: {why}")
    together = images_together(captioner.packed, captioner.settings, captioner.encoder.image)
    done = journal.begin(test, batch_size=together) if journal else []
    if done:
        say(f"resuming after {len(done):,} of {len(test):,} captions")
    predictions, rejected = caption_all(
        captioner,
        test,
        max_rejected_share=max_rejected_share,
        way_out=f"fix them, or allow more with --max-rejected-share above {max_rejected_share}",
        done=done,
        workers=workers,
        progress=progress,
        each=journal.add if journal else None,
        say=say,
    )
    decode = decode_name(captioner.settings) + ("-merged" if captioner.merged else "")
    sheet = score_predictions(predictions, test, train=train, prefix=captioner.prefix, decode=decode)
    return Outcome(predictions=predictions, rejected=rejected, sheet=scoring.with_seen(sheet, seen or {}))


def score_predictions(
    predictions: Sequence[Prediction],
    test: Sequence[Example],
    *,
    train: Sequence[Example] | None,
    prefix: str,
    decode: str,
) -> ScoreSheet:
    """The score sheet of predictions against the references of their examples."""
    return scoring.score_captions(
        {prediction.example_id: prediction.caption for prediction in predictions},
        {example.id: example.captions for example in test},
        decode=decode,
        sources={example.id: example.source for example in test},
        scene_classes={example.id: example.scene_class for example in test if example.scene_class},
        training_captions=None if train is None else {caption for example in train for caption in example.captions},
        prefix=prefix,
        allow_missing=True,
        content=True,
    )


def write_outcome(run: RunFolder, split: str, outcome: Outcome, test: Sequence[Example]) -> ScoreSheet:
    """Predictions, references, pictures of the images, and last the scores with the digests of both files: returned."""
    write_predictions(run.predictions(split), outcome.predictions)
    write_references(run.references(split), test)
    _add_rejected(run, outcome.rejected)
    rejected = {item.row for item in outcome.rejected}
    usable = [example for example in test if example.id not in rejected]
    _write_panel(run, split, usable)
    write_thumbnails(run.thumbnails(split), usable)
    digests = {
        "predictions": file_digest(run.predictions(split)),
        "references": file_digest(run.references(split)),
    }
    sheet = scoring.with_digests(outcome.sheet, digests)
    write_sheet(run.scores(split), sheet)
    return sheet


def _add_rejected(run: RunFolder, rejected: Sequence[Rejected]) -> None:
    """Add images that could not be decoded to those that the run folder lists already."""
    known = read_rejected(run.rejected_file) if run.rejected_file.exists() else []
    fresh = [item for item in rejected if item not in known]
    if fresh:
        write_rejected(run.rejected_file, [*known, *fresh])


def write_baselines(
    run: RunFolder, split: str, *, test: Sequence[Example], train: Sequence[Example], progress: Progress | None = None
) -> dict[str, ScoreSheet]:
    """Score the constant caption and the nearest training image beside a run."""
    sheets = {}
    for name, predictions in (
        ("constant", constant(train, test)),
        ("nearest", nearest_image(train, test, progress=progress)),
    ):
        sheet = score_predictions(predictions, test, train=train, prefix="", decode=f"baseline-{name}")
        folder = run.baseline(name)
        write_predictions(folder.predictions(split), predictions)
        sheet = scoring.with_digests(sheet, {"predictions": file_digest(folder.predictions(split))})
        write_sheet(folder.scores(split), sheet)
        sheets[name] = sheet
    return sheets


def _write_panel(run: RunFolder, split: str, usable: Sequence[Example]) -> None:
    """Twelve images drawn by a hash of their ids, so that every run over a split shows the same, of all kinds."""
    chosen = sorted(usable, key=lambda example: key("panel", example.id))[:PANEL_SIZE]
    write_panel(run.panel(split), chosen)
