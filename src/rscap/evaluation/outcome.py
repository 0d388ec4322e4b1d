"""Generate on a split, write the file, score the file: the same steps for a base model, a run and a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from rscap import scoring
from rscap.baselines import constant, nearest_image
from rscap.captioner import Say, generate, to_stderr
from rscap.captioner.batch import Encoder
from rscap.data import Rejected
from rscap.data.draw import key
from rscap.errors import DataError
from rscap.evaluation.journal import Journal
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection, Recipe
from rscap.records import Example, Prediction, ScoreSheet
from rscap.store import (
    RunFolder,
    prediction_row,
    read_jsonl,
    reference_row,
    write_json,
    write_jsonl,
)

PANEL_SIZE = 12

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """How images are captioned: the words before the caption, decode settings, and what is done with broken images."""

    prefix: str
    generate: GenerateSection
    workers: int
    max_rejected_share: float

    @classmethod
    def of(cls, recipe: Recipe) -> Task:
        """The task of a recipe: evaluation asks with the words that training used."""
        return cls(
            prefix=recipe.prompt.prefix,
            generate=recipe.generate,
            workers=recipe.data.workers,
            max_rejected_share=recipe.data.max_rejected_share,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Captions of a split and their scores."""

    predictions: list[Prediction]
    rejected: list[Rejected]
    sheet: ScoreSheet


def decode_name(settings: GenerateSection) -> str:
    """Decode settings as a signature names them: all that differ from greedy decoding, and the length limit.

    `greedy-64`, `beam3-50-lp0.8-rp1.2-nr3`, `sample-64-t0.7-k50-p0.9-s1`; the parts are explained in docs/decoding.md.
    """
    way = "sample" if settings.temperature else "greedy" if settings.beams == 1 else f"beam{settings.beams}"
    parts = [f"{way}-{settings.max_new_tokens}"]
    if settings.temperature:
        parts.append(f"t{_number(settings.temperature)}")
    for letters, name in (
        ("k", "top_k"),
        ("p", "top_p"),
        ("lp", "length_penalty"),
        ("rp", "repetition_penalty"),
        ("nr", "no_repeat_ngram"),
    ):
        if (value := getattr(settings, name)) != GenerateSection.model_fields[name].default:
            parts.append(f"{letters}{_number(value)}")
    if settings.temperature:
        parts.append(f"s{settings.seed}")
    return "-".join(parts)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def caption_all(
    packed: PackedModel,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    task: Task,
    progress: Progress | None = None,
    say: Say = to_stderr,
    journal: Journal | None = None,
) -> tuple[list[Prediction], list[Rejected]]:
    """All predictions of a list of examples, in order, and the images that could not be decoded.

    With a `journal` those that it holds are not asked for again.

    Raises:
        DataError: more images are unreadable than the task allows.
        OutOfMemory: a single image does not fit in memory.
    """
    done = journal.begin(examples, batch_size=task.generate.batch_size) if journal else []
    if done:
        say(f"going on after {len(done):,} of {len(examples):,} captions")
        if progress:
            progress(len(done), len(examples))
    fresh = generate(
        packed,
        encoder,
        examples[len(done) :],
        prefix=task.prefix,
        settings=task.generate,
        workers=task.workers,
        say=say,
    )
    items: list[Prediction | Rejected] = [*done]
    for item in fresh:
        items.append(item)
        if journal:
            journal.add(item)
        if progress:
            progress(len(items), len(examples))
    predictions = [item for item in items if isinstance(item, Prediction)]
    rejected = [item for item in items if not isinstance(item, Prediction)]
    check_rejected(rejected, of=len(examples), allowed=task.max_rejected_share)
    return predictions, rejected


def check_rejected(rejected: Sequence[Rejected], *, of: int, allowed: float) -> None:
    """Refuse a data set of which too much cannot be used.

    Raises:
        DataError: more than the share `allowed` is unusable; names the first.
    """
    if len(rejected) > allowed * of:
        first = "; ".join(f"{item.row}: {item.reason}" for item in rejected[:3])
        raise DataError(
            f"{len(rejected)} of {of} examples cannot be used: {first}",
            hint=f"mend them, or train with data.max_rejected_share above {allowed}",
        )


def evaluate_model(
    packed: PackedModel,
    encoder: Encoder,
    *,
    task: Task,
    test: Sequence[Example],
    train: Sequence[Example],
    progress: Progress | None = None,
    say: Say = to_stderr,
    journal: Journal | None = None,
) -> Outcome:
    """Caption `test` and score it; `train` tells which captions are verbatim training captions."""
    predictions, rejected = caption_all(packed, encoder, test, task=task, progress=progress, say=say, journal=journal)
    sheet = score_predictions(predictions, test, train=train, prefix=task.prefix, decode=decode_name(task.generate))
    return Outcome(predictions=predictions, rejected=rejected, sheet=sheet)


def score_predictions(
    predictions: Sequence[Prediction], test: Sequence[Example], *, train: Sequence[Example], prefix: str, decode: str
) -> ScoreSheet:
    """The score sheet of predictions against the references of their examples."""
    return scoring.score_captions(
        {prediction.example_id: prediction.caption for prediction in predictions},
        {example.id: example.captions for example in test},
        decode=decode,
        sources={example.id: example.source for example in test},
        scene_classes={example.id: example.scene_class for example in test if example.scene_class},
        training_captions={caption for example in train for caption in example.captions},
        prefix=prefix,
        allow_missing=True,
    )


def write_outcome(run: RunFolder, split: str, outcome: Outcome, test: Sequence[Example]) -> None:
    """Predictions, references, a panel of images, and last the scores."""
    write_jsonl(run.predictions(split), map(prediction_row, outcome.predictions))
    write_jsonl(run.references(split), map(reference_row, test))
    _add_rejected(run, outcome.rejected)
    _write_panel(run, split, test, {item.row for item in outcome.rejected})
    scoring.write_sheet(run.scores(split), outcome.sheet)


def _add_rejected(run: RunFolder, rejected: Sequence[Rejected]) -> None:
    """Add images that could not be decoded to those that the run folder lists already."""
    known = read_jsonl(run.rejected_file) if run.rejected_file.exists() else []
    fresh = [asdict(item) for item in rejected if asdict(item) not in known]
    if fresh:
        write_jsonl(run.rejected_file, [*known, *fresh])


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
        write_jsonl(folder.predictions(split), map(prediction_row, predictions))
        scoring.write_sheet(folder.scores(split), sheet)
        sheets[name] = sheet
    return sheets


def _write_panel(run: RunFolder, split: str, test: Sequence[Example], unreadable: set[str]) -> None:
    """Twelve images drawn by a hash of their ids, so that every run over a split shows the same, of all kinds."""
    usable = [example for example in test if example.id not in unreadable]
    chosen = sorted(usable, key=lambda example: key("panel", example.id))[:PANEL_SIZE]
    folder = run.panel(split)
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(chosen):
        example.image.load().save(folder / f"{number:03}.jpg", quality=90)
    write_json(
        folder / "panel.json", [{"id": example.id, "file": f"{number:03}.jpg"} for number, example in enumerate(chosen)]
    )
