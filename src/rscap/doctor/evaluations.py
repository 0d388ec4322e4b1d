"""Read generated captions with their references and scores, of a run folder or of another program's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rscap.doctor.evidence import Caption, ScoredCaptions
from rscap.doctor.reading import EvidenceReader, json_lines, mapping, number, whole
from rscap.errors import StoreError
from rscap.records import ScoreSheet
from rscap.scoring import load_candidates, load_references, score_captions
from rscap.store import (
    PREDICTIONS,
    REFERENCES,
    SCORES,
    PredictionRow,
    RunFolder,
    read_numbered_rows,
    read_references,
    read_sheet,
)

_ENDINGS = (".jsonl", ".json", ".csv")
_DRAWS = 1000
_METRICS = ("CIDEr",)


def of_run(run: RunFolder, reader: EvidenceReader) -> tuple[ScoredCaptions, ...]:
    """The evaluations of a run folder, one a split, with its baselines."""
    return tuple(found for split in run.captioned() if (found := _of_split(run, split, reader)) is not None)


def _of_split(run: RunFolder, split: str, reader: EvidenceReader) -> ScoredCaptions | None:
    captions = reader.read(run.predictions(split), _captions)
    if not captions:
        return None
    references = reader.read(run.references(split), read_references) or {}
    sheet = reader.read(run.scores(split), read_sheet)
    baselines = {
        own.name: own_sheet for own in run.baselines() if (own_sheet := reader.read(own.scores(split), read_sheet))
    }
    constant = baselines.get("constant")
    return ScoredCaptions(
        where=reader.name(run.predictions(split)),
        captions=captions,
        references={name: one.captions for name, one in references.items()},
        sheet=sheet,
        shuffled=_shuffled(sheet),
        scored=frozenset(sheet.items) if sheet else None,
        reported=sheet.n if sheet else None,
        scores_where=reader.name(run.scores(split)) if sheet else "",
        others={f"the baseline {name}": frozenset(own.items) for name, own in baselines.items()},
        constant=constant.corpus.get("CIDEr") if constant else None,
    )


def _captions(path: Path) -> dict[str, Caption]:
    """Predictions of rscap with their lines."""
    return {
        row.id: Caption(text=row.caption, line=line, prefix=row.prefix or None, cut=row.stopped == "length")
        for line, row in read_numbered_rows(path, PredictionRow)
    }


def _references(path: Path | None, reader: EvidenceReader) -> Mapping[str, tuple[str, ...]]:
    found = reader.read(path, load_references) if path else None
    return dict(found.captions) if found else {}


def _rows(path: Path) -> dict[str, Caption]:
    """Captions of a JSON Lines file with their lines; `prefix` and `stopped` where the file has them."""
    captions = {}
    for line, row in json_lines(path):
        name = next((row[key] for key in ("id", "image_id", "image") if key in row), None)
        if name is None:
            raise StoreError(f"{path}, line {line}: no `id`")
        stopped = row.get("stopped")
        captions[str(name)] = Caption(
            text=str(row["caption"]),
            line=line,
            prefix=row.get("prefix") or None,
            cut=None if stopped is None else stopped == "length",
        )
    return captions


def _any(path: Path) -> dict[str, Caption]:
    if path.suffix == ".jsonl":
        return _rows(path)
    return {name: Caption(text=text, line=None) for name, text in load_candidates(path).items()}


def of_folder(folder: Path, reader: EvidenceReader, *, reported: int | None) -> tuple[ScoredCaptions, ...]:
    """The evaluations of a foreign run: every file of predictions, with references and scores of the same name.

    They are named as in a run folder, with any ending: predictions, references and scores as one file each, or as
    folders with a file a system, such as `lora.jsonl`.
    """
    systems = dict(_systems(folder, reader))
    return tuple(_foreign(folder, reader, file, captions, systems, reported) for file, captions in systems.items())


def _systems(folder: Path, reader: EvidenceReader) -> Iterator[tuple[Path, dict[str, Caption]]]:
    places = [folder / f"{PREDICTIONS}{ending}" for ending in _ENDINGS]
    places += sorted(path for path in (folder / PREDICTIONS).glob("*") if path.suffix in _ENDINGS)
    for path in places:
        if captions := reader.read(path, _any):
            yield path, captions


def _beside(folder: Path, kind: str, stem: str) -> Path | None:
    """The file of a kind, or the one that bears the name of a system in its folder, whatever the ending."""
    places = [path for name in (f"{kind}/{stem}", kind) for ending in _ENDINGS if (path := folder / f"{name}{ending}")]
    return next((path for path in places if path.is_file()), None)


def _foreign(
    folder: Path,
    reader: EvidenceReader,
    file: Path,
    captions: dict[str, Caption],
    systems: Mapping[Path, Mapping[str, Caption]],
    reported: int | None,
) -> ScoredCaptions:
    references = _references(_beside(folder, REFERENCES, file.stem), reader)
    scores_file = _beside(folder, SCORES, file.stem)
    scores = (reader.read(scores_file, mapping) if scores_file else None) or {}
    sheet = _sheet(captions, references)
    return ScoredCaptions(
        where=reader.name(file),
        captions=captions,
        references=references,
        sheet=sheet,
        shuffled=_shuffled(sheet),
        reported=whole(scores.get("n")) or reported,
        scored=_scored(scores),
        scores_where=reader.name(scores_file) if scores_file else "",
        others={reader.name(path): frozenset(other) for path, other in systems.items() if path != file},
    )


def _scored(scores: Mapping[str, Any]) -> frozenset[str] | None:
    """The images of a score sheet: the keys of `items`, or a list `ids`."""
    named = scores.get("items") or scores.get("ids")
    return frozenset(map(str, named)) if isinstance(named, dict | list) else None


def _sheet(captions: Mapping[str, Caption], references: Mapping[str, tuple[str, ...]]) -> ScoreSheet | None:
    """Scores of foreign captions by rscap, for their interval."""
    known = {name: caption.text for name, caption in captions.items() if name in references}
    if not known:
        return None
    return score_captions(known, references, draws=_DRAWS, metrics=_METRICS, allow_missing=True)


def _shuffled(sheet: ScoreSheet | None) -> float | None:
    """CIDEr with the captions shuffled among the images, if the sheet has it."""
    value: Any = sheet.extra.get("diagnostics") if sheet else None
    for key in ("shuffled", "CIDEr"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return number(value)
