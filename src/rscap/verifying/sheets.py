"""A score sheet against the predictions and references that it was computed from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from rscap import scoring
from rscap.errors import ScoreError, StoreError
from rscap.metrics import METRICS
from rscap.provenance import file_digest
from rscap.records import ScoreSheet
from rscap.scoring.foreign import Function
from rscap.scoring.measures import Summed, find
from rscap.scoring.references import Candidates, References
from rscap.store import Record, read_predictions, read_references, read_sheet
from rscap.verifying.differences import Protocol, parted

_MOST_DRAWS = 1_000_000
_TAKEN_OVER = frozenset({"rscap", "notes", scoring.SEEN, scoring.DIGESTS})
"""Keys of a sheet that are no figures of the captions; the last two are checked by themselves."""
_NEEDS_TRAINING = "verbatim_training"


class _Declared(Record):
    """A metric that another program computed, as a sheet describes it."""

    source: str
    low: float | None
    high: float | None
    higher_is_better: bool
    per_image: bool


class _Conditions(Record):
    """How a sheet says that it was computed."""

    protocol: str
    reference_duplicates: str
    pool: str
    draws: int
    seed: int
    rscap: str
    decode: str | None = None
    foreign: dict[str, _Declared] = Field(default_factory=dict)
    diagnostics: dict[str, Any] = Field(default_factory=dict)
    seen: dict[str, Any] = Field(default_factory=dict)
    digests: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFiles:
    """A score sheet and the files that it follows from."""

    sheet: Path
    predictions: Path
    references: Path
    own_references: bool = True
    """The references are in the sheet's folder, and it keeps their digest; those of a baseline are in its run's."""


def check_sheet(files: SheetFiles, protocol: Protocol, name: str) -> None:
    """Recompute a sheet and note in `protocol` where it differs; `name` is what the protocol calls it.

    Raises:
        StoreError: a file is missing or damaged, so that nothing can be recomputed; names it.
    """
    told = read_sheet(files.sheet)
    conditions = _conditions(told, files.sheet)
    predictions, references = read_predictions(files.predictions), read_references(files.references)
    _check_digests(conditions.digests, files, protocol)
    prefixes = {prediction.prefix for prediction in predictions.values()}
    candidates = Candidates(
        {name: prediction.caption for name, prediction in predictions.items()},
        prefixes.pop() if len(prefixes) == 1 else None,
    )
    own = References(
        {name: one.captions for name, one in references.items()},
        {name: one.source for name, one in references.items()},
        {name: one.scene_class for name, one in references.items() if one.scene_class},
    )
    _compare(told, conditions, candidates, own, protocol, name)


def check_score_sheet(
    sheet: Path, candidates: Path, references: Path | str, split: str | None, protocol: Protocol
) -> None:
    """Recompute a sheet that `rscap score --out` wrote from the two files that it was computed from.

    Raises:
        StoreError: the sheet is damaged, or none.
        ScoreError: a file of captions or references cannot be read, or their ids do not meet.
    """
    told = read_sheet(sheet)
    given, own = scoring.load_pair(candidates, references, split)
    protocol.skip(f"{sheet.name} keeps no digest of the captions: a change of a word that no score counts is not found")
    _compare(told, _conditions(told, sheet), given, own, protocol, sheet.name)


def _compare(
    told: ScoreSheet,
    conditions: _Conditions,
    candidates: Candidates,
    references: References,
    protocol: Protocol,
    name: str,
) -> None:
    """Note where a sheet differs from the one that these captions and references give."""
    try:
        found = _recomputed(told, conditions, candidates, references)
    except ScoreError as error:
        protocol.differs(name, "", f"captions and references cannot be scored as it says: {error.message}")
        return
    missing = _not_recomputed(told, found, conditions, protocol)
    before = len(protocol.findings)
    for where, sentence in _sheet_parted(told, found, conditions, missing):
        protocol.differs(name, where, sentence)
    for where, sentence in _contradictions(told, conditions):
        protocol.differs(name, where, sentence)
    if before == len(protocol.findings):
        figures = sum(len(scores) - len(missing & scores.keys()) for scores in told.items.values())
        whole = len(told.corpus) - len(missing & told.corpus.keys())
        protocol.checked.append(f"{name}: {whole} scores of {told.n:,} images, {figures:,} item scores")


def _conditions(told: ScoreSheet, path: Path) -> _Conditions:
    wanted = {key: told.extra[key] for key in _Conditions.model_fields if key in told.extra}
    conditions = _Conditions.parse(json.dumps(wanted), where=str(path))
    if not 0 <= conditions.draws <= _MOST_DRAWS:
        raise StoreError(f"{path} claims {conditions.draws:,} draws; at most {_MOST_DRAWS:,} are recomputed")
    return conditions


def _check_digests(kept: Mapping[str, str] | None, files: SheetFiles, protocol: Protocol) -> None:
    """Whether the files are, byte for byte, those that were scored."""
    if kept is None:
        protocol.skip(f"{files.sheet.name} keeps no digests of captions and references: an earlier rscap wrote it")
        return
    paths = {"predictions": files.predictions, **({"references": files.references} if files.own_references else {})}
    for kind, path in paths.items():
        if kept.get(kind) != file_digest(path):
            sentence = f"not the {kind} that were scored: the SHA-256 in {files.sheet.name} is another"
            protocol.differs(f"{path.parent.name}/{path.name}", "", sentence)


def _recomputed(
    told: ScoreSheet,
    conditions: _Conditions,
    candidates: Candidates,
    references: References,
) -> ScoreSheet:
    named = dict.fromkeys([*told.corpus, *(metric for scores in told.items.values() for metric in scores)])
    pool_is_gone = conditions.pool.startswith("file:")
    own = [metric for metric in METRICS if metric in named and not (pool_is_gone and metric == "CIDEr")]
    grouped = conditions.diagnostics.get  # `rscap score` need not know sources and scene classes
    sheet = scoring.score_captions(
        candidates,
        references,
        protocol=conditions.protocol,
        reference_duplicates=conditions.reference_duplicates,
        decode=conditions.decode,
        draws=conditions.draws,
        seed=conditions.seed,
        sources=references.sources if grouped("by_source") else {},
        scene_classes=references.scene_classes if grouped("by_scene_class") else {},
        prefix=candidates.prefix,
        metrics=[*own, *_foreign(told, conditions)],
        allow_missing=True,
        content=_content_version(told) == scoring.CONTENT_VERSION,
    )
    return scoring.with_seen(sheet, conditions.seen)


def _content_version(told: ScoreSheet) -> str | None:
    """The version of the word lists behind the content errors; None where there are none."""
    content = told.extra.get("content")
    return str(content.get("version")) if isinstance(content, Mapping) else None


def _foreign(told: ScoreSheet, conditions: _Conditions) -> list[scoring.ForeignMetric]:
    """Metrics that another program computed, as the sheet has them: their means and intervals follow from its items."""
    metrics = []
    for name, declared in conditions.foreign.items():
        scores = {image: scores[name] for image, scores in told.items.items() if name in scores}
        metrics.append(
            scoring.ForeignMetric(
                name=name,
                source=declared.source,
                low=declared.low,
                high=declared.high,
                higher_is_better=declared.higher_is_better,
                scores=scores if declared.per_image else _constant(told.corpus.get(name, math.nan)),
            )
        )
    return metrics


def _constant(value: float) -> Function:
    """One number for all images, whatever the captions."""
    return lambda _candidates, _references: value


def _not_recomputed(told: ScoreSheet, found: ScoreSheet, conditions: _Conditions, protocol: Protocol) -> frozenset[str]:
    """Metrics and keys that cannot be recomputed here; the protocol says why."""
    gone = [metric for metric in told.corpus if metric in METRICS and metric not in found.corpus]
    for metric in gone:
        why = next((note for note in found.extra["notes"] if note.startswith(metric)), "")
        protocol.skip(why or f"{metric}: its IDF pool {conditions.pool} does not travel with it")
    for name, declared in conditions.foreign.items():
        rest = "; mean and interval follow from them" if declared.per_image else ""
        protocol.skip(f"{name} was computed by {declared.source}, and its scores are taken as they are{rest}")
    if _NEEDS_TRAINING in conditions.diagnostics:
        protocol.skip("captions learnt by heart: the training captions are not here")
    if conditions.seen:
        protocol.skip("images that the model has seen: counting them again needs the images")
    if "content" in told.extra and "content" not in found.extra:
        lists = f"{_content_version(told)!r}; this rscap has {scoring.CONTENT_VERSION!r}"
        protocol.skip(f"content errors: they were counted with word lists of version {lists}")
        gone.append("content")
    measures = (find(metric, conditions.protocol) for metric in gone if metric != "content")
    keys = {measure.key for measure in measures if isinstance(measure, Summed)}
    pool = {"pool", "cautions"} if "CIDEr" in gone else set()
    older = conditions.digests is None and "cautions" not in told.extra  # than cautions
    notes = {"cautions"} if older else set()
    return frozenset({*gone, *keys, *pool, *notes})


def _sheet_parted(
    told: ScoreSheet, found: ScoreSheet, conditions: _Conditions, missing: frozenset[str]
) -> Iterable[tuple[str, str]]:
    """Where the sheet differs: conditions, then images, then all of them."""
    yield from _signature_parted(told, found, missing)
    silent = _not_in_groups(conditions)
    for part in ("n", "unscored", "items", "corpus", "intervals"):
        yield from parted(_without(getattr(told, part), missing), _without(getattr(found, part), missing), part)
    left = {key: value for key, value in told.extra.items() if key not in _TAKEN_OVER | missing}
    again = {key: value for key, value in found.extra.items() if key not in _TAKEN_OVER | missing}
    for extra in (left, again):
        diagnostics = {key: one for key, one in extra.get("diagnostics", {}).items() if key != _NEEDS_TRAINING}
        extra["diagnostics"] = _without(diagnostics, silent)
    yield from parted(_without(left, missing), _without(again, missing))


def _not_in_groups(conditions: _Conditions) -> frozenset[str]:
    """Metrics of other programs that were added to the sheet later: it has them for no group of images."""
    groups = [
        scores
        for kind, groups in conditions.diagnostics.items()
        if kind.startswith("by_") and isinstance(groups, dict)
        for scores in groups.values()
    ]
    return frozenset(name for name in conditions.foreign if not any(name in scores for scores in groups))


def _signature_parted(told: ScoreSheet, found: ScoreSheet, missing: frozenset[str]) -> Iterable[tuple[str, str]]:
    """The parts of both signatures side by side; the version is that of whoever scored."""
    skipped = ("rscap:", *(["idf:"] if "pool" in missing else []), *(["content:"] if "content" in missing else []))
    ours, theirs = (
        [part for part in sheet.signature.split("|") if not part.startswith(skipped)] for sheet in (told, found)
    )
    yield from parted(
        {part.partition(":")[0]: part for part in ours}, {part.partition(":")[0]: part for part in theirs}, "signature"
    )
    if ours != theirs and {*ours} == {*theirs}:
        yield "signature", f"its parts are in another order, or twice: {told.signature}"


def _contradictions(told: ScoreSheet, conditions: _Conditions) -> Iterable[tuple[str, str]]:
    """Figures that cannot be recomputed here and contradict others of the same sheet."""
    version = next((part for part in told.signature.split("|") if part.startswith("rscap:")), "")
    if version != f"rscap:{conditions.rscap}":
        yield "signature", f"it says {version or 'no version'}, and the sheet was written by rscap {conditions.rscap}"
    learnt = conditions.diagnostics.get(_NEEDS_TRAINING)
    if isinstance(learnt, dict) and isinstance(count := learnt.get("count"), int):
        yield from parted(learnt, {"count": count, "share": count / told.n}, f"diagnostics.{_NEEDS_TRAINING}")
    if conditions.seen:
        yield from parted(conditions.seen.get("of"), told.n + told.unscored, f"{scoring.SEEN}.of")


def _without(value: Any, names: frozenset[str]) -> Any:
    """The value without what stands under these names, at any depth."""
    if not isinstance(value, Mapping) or not names:
        return value
    return {key: _without(part, names) for key, part in value.items() if key not in names}
