"""Metrics that rscap does not compute: one's own function, or scores per image that another program wrote to a file.

They get what rscap's own metrics have: item scores, the corpus mean, intervals, paired tests, report columns, and their
name and source in the signature. A file is CSV or JSON Lines. Each metric is declared on a line of its own, first, as

    # {"metric": "SPICE", "low": 0, "high": 1, "better": "higher", "source": "pycocoevalcap 1.2"}

(without `# ` in JSON Lines), and every other line gives one image: `id,SPICE` / `a.jpg,0.31`, or
`{"id": "a.jpg", "SPICE": 0.31}`. `write_items` writes the scores of a sheet in the same form.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rscap.annotations.text import read_text
from rscap.errors import DataError, ScoreError
from rscap.metrics import METRICS, TABLE, known
from rscap.records import ScoreSheet
from rscap.scoring.content import RATES
from rscap.scoring.corpus import Floats
from rscap.scoring.measures import Statistics
from rscap.scoring.resampling import intervals, listed
from rscap.store import write_text

Function = Callable[
    [Mapping[str, str], Mapping[str, Sequence[str]]], "Mapping[str, float] | Sequence[float] | Floats | float"
]
"""From `{id: candidate}` and `{id: references}` to one number per image, by id or in the same order; or to one number
for all images, which then has no interval and no paired test."""

_NAME = re.compile(r"[^|\s@;,][^|\n@;,]{0,39}")
_SOURCE = re.compile(r"[^|\n@;,]{1,80}")
_DECLARED = ("metric", "low", "high", "better", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignMetric:
    """A metric of one's own or from another program.

    Raises:
        ScoreError: a name or source that would not fit into a signature, or one of rscap's own names.
    """

    name: str
    source: str
    """The program, model or person that computed it, with a version: two sources are two different metrics."""
    low: float | None = None
    high: float | None = None
    """The range of its values; None: no limit."""
    higher_is_better: bool = True
    scores: Function | Mapping[str, float]

    def __post_init__(self) -> None:
        if self.name in METRICS:
            raise ScoreError(
                f"a foreign metric cannot be called {self.name}, which rscap computes itself",
                hint=f'call it "{self.name} (foreign)"',
            )
        for what, text, pattern in (("name", self.name, _NAME), ("source", self.source, _SOURCE)):
            if not pattern.fullmatch(text):
                raise ScoreError(
                    f"{text!r:.100} cannot be the {what} of a metric",
                    hint=f"a {what} goes into the signature: one line without | @ ; and comma, not too long",
                )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ScoreError(f"the range of {self.name} is empty: {self.low} to {self.high}")

    @classmethod
    def of(cls, function: Function) -> ForeignMetric:
        """A function under its own name, without limits; higher is better.

        Raises:
            ScoreError: the function has no usable name.
        """
        name = str(getattr(function, "__name__", type(function).__name__))
        if not name.isidentifier():
            raise ScoreError(f"the function {name} has no name", hint="ForeignMetric(name=…, source=…, scores=it)")
        return cls(name=name, source=getattr(function, "__module__", None) or "function", scores=function)

    def __str__(self) -> str:
        """As the signature names it."""
        return in_signature(self.name, self.source)

    def declaration(self, *, per_image: bool) -> dict[str, Any]:
        """The entry of this metric in a score sheet."""
        return {
            "source": self.source,
            "low": self.low,
            "high": self.high,
            "higher_is_better": self.higher_is_better,
            "per_image": per_image,
        }

    def evaluated(
        self, ids: Sequence[str], candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]
    ) -> Floats | float:
        """float[n]: the score of each image, in the order of `ids`; or one number for all.

        Raises:
            ScoreError: an image has no score, or a score is not a finite number within the range; names it.
        """
        given: Any = self.scores
        if not isinstance(given, Mapping):
            given = given({i: candidates[i] for i in ids}, {i: tuple(references[i]) for i in ids})
        if isinstance(given, Mapping):
            missing = [example for example in ids if example not in given]
            if missing:
                raise ScoreError(
                    f"{self.name} has no score for {len(missing):,} of {len(ids):,} images: {listed(missing)}"
                )
            given = [given[example] for example in ids]
        try:
            values = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise ScoreError(f"{self.name} gave {given!r:.80}, not numbers") from None
        if values.ndim == 0:
            self._check(["all images"], [float(values)])
            return float(values)
        if values.shape != (len(ids),):
            raise ScoreError(f"{self.name} gave an array of shape {values.shape} for {len(ids):,} images")
        self._check(ids, values.tolist())
        return values

    def _check(self, ids: Sequence[str], values: Sequence[float]) -> None:
        low, high = self._range()
        for example, value in zip(ids, values, strict=True):
            if not math.isfinite(value):
                raise ScoreError(f"{self.name} of {example!r} is {value}, not a finite number")
            if (low is not None and value < low) or (high is not None and value > high):
                limits = f"{'-∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}"
                hundred = high is not None and high < value <= 100 * high
                hint = "these scores look multiplied by 100 (×100): divide them by 100" if hundred else None
                raise ScoreError(f"{self.name} of {example!r} is {value:g}, outside its range of {limits}", hint=hint)

    def _range(self) -> tuple[float | None, float | None]:
        """The declared range, within that of rscap's metric of that name: CIDEr-D, Bleu_4, BLEU (sacrebleu) …"""
        name = _letters(self.name.partition("(")[0])
        line = next((line for line in TABLE if name in (_letters(line.name), _letters(line.name) + "d")), None)
        lows = [self.low, line.low if line else None]
        highs = [self.high, line.high if line else None]
        return (
            max((limit for limit in lows if limit is not None), default=None),
            min((limit for limit in highs if limit is not None), default=None),
        )


def _letters(name: str) -> str:
    return "".join(filter(str.isalpha, name.lower()))


def is_higher_better(sheet: ScoreSheet, metric: str) -> bool:
    """The direction of a metric, from the table or, of a foreign one, from its sheet; errors are better few."""
    if metric in RATES:
        return False
    line = known(metric)
    if line is not None:
        return line.higher_is_better
    declared = sheet.extra.get("foreign", {}).get(metric, {})
    return bool(declared.get("higher_is_better", True))


def column_of(sheet: ScoreSheet, metric: str) -> str:
    """The heading of a column of this metric; a foreign one names its source, so two sources are two columns."""
    source = sheet.extra.get("foreign", {}).get(metric, {}).get("source")
    return metric if source is None else f"{metric} ({source})"


def add_foreign(sheet: ScoreSheet, metrics: Sequence[ForeignMetric]) -> ScoreSheet:
    """A score sheet with foreign metrics added: item scores, corpus means, intervals, signature.

    Intervals come from the sheet's own number of draws and seed. A metric that the sheet already has from the same
    source is replaced.

    Raises:
        ScoreError: a metric is a function (it would need the captions, see `score_captions`), lacks an image, or is in
            the sheet from another source.
    """
    ids = tuple(sheet.items)
    declared = dict(sheet.extra.get("foreign", {}))
    columns: dict[str, Floats] = {}
    for metric in metrics:
        if not isinstance(metric.scores, Mapping):
            raise ScoreError(f"{metric.name} is a function and needs the captions", hint="pass it to score_captions")
        if metric.name in declared and declared[metric.name]["source"] != metric.source:
            theirs = declared[metric.name]["source"]
            raise ScoreError(f"the sheet has {metric.name} from {theirs!r}, and this one is from {metric.source!r}")
        columns[metric.name] = np.asarray(metric.evaluated(ids, {}, {}))
        declared[metric.name] = metric.declaration(per_image=True)
    statistics = Statistics(ids=ids, means=columns)
    bounds = intervals(statistics, draws=int(sheet.extra.get("draws", 0)), seed=int(sheet.extra.get("seed", 0)))
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return replace(
        sheet,
        signature=_signed(sheet.signature, declared),
        corpus={**sheet.corpus, **statistics.corpus_scores()},
        intervals={**sheet.intervals, **bounds},
        items={i: {**sheet.items[i], **dict(zip(columns, row, strict=True))} for i, row in zip(ids, rows, strict=True)},
        extra={**sheet.extra, "foreign": declared},
    )


def _signed(signature: str, declared: Mapping[str, Mapping[str, Any]]) -> str:
    """The signature with these foreign metrics, where `Conditions` puts them: before the version."""
    parts = [part for part in signature.split("|") if not part.startswith("foreign:")]
    named = ",".join(in_signature(name, own["source"]) for name, own in declared.items())
    at = next((place for place, part in enumerate(parts) if part.startswith("rscap:")), len(parts))
    return "|".join([*parts[:at], f"foreign:{named}", *parts[at:]])


def in_signature(name: str, source: str) -> str:
    """`name@source`, as a signature names a foreign metric."""
    return f"{name}@{source}".replace(" ", "_")


def load_foreign(path: Path | str) -> list[ForeignMetric]:
    """The metrics of a CSV or JSON Lines file (see above). A name of rscap's own gets ` (foreign)` behind it.

    Raises:
        ScoreError: the file is missing, is neither, declares no metric, has a column that is not declared, an id twice,
            or a cell that is no number; names the line.
    """
    path = Path(path)
    try:
        lines = read_text(path).split("\n")
    except DataError as error:
        raise ScoreError(error.message, hint=error.hint) from error
    is_csv = path.suffix.lower() not in {".jsonl", ".ndjson"}
    declared, first = _declarations(path, lines, is_csv=is_csv)
    rows = _csv_rows(path, lines, first) if is_csv else _json_rows(path, lines, first)
    scores: dict[str, dict[str, float]] = {name: {} for name in declared}
    seen: dict[str, str] = {}
    for where, example, cells in rows:
        if example in seen:
            raise ScoreError(f"{where}: {example!r} occurs a second time; the first is {seen[example]}")
        seen[example] = where
        unknown = [name for name in cells if name not in declared]
        if unknown:
            example_line = json.dumps({"metric": unknown[0], "low": 0, "high": 1, "better": "higher", "source": "…"})
            raise ScoreError(
                f"{where}: {unknown[0]!r} is not declared",
                hint=f"put this line on top, with its range, direction and source: {'# ' * is_csv}{example_line}",
            )
        for name in declared:
            scores[name][example] = _number(cells.get(name), f"{where}, {name}")
    return [
        ForeignMetric(name=f"{name} (foreign)" if name in METRICS else name, scores=scores[name], **rest)
        for name, rest in declared.items()
    ]


def _declarations(path: Path, lines: Sequence[str], *, is_csv: bool) -> tuple[dict[str, dict[str, Any]], int]:
    """({metric: its declaration}, the place of the first line that declares nothing)."""
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines):
        text = line.strip()
        if not text:
            continue
        if is_csv and not text.startswith("#"):
            return found, number
        where = f"{path}, line {number + 1}"
        try:
            content = json.loads(text.lstrip("#"))
        except (ValueError, RecursionError) as error:
            raise ScoreError(f"{where}: not JSON ({error})") from error
        if not is_csv and isinstance(content, dict) and "metric" not in content:
            return found, number
        name, rest = _declaration(content, where)
        if name in found:
            raise ScoreError(f"{where}: {name!r} is declared a second time")
        found[name] = rest
    raise ScoreError(f"{path} holds no scores, only declarations")


def _declaration(content: Any, where: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(content, dict) or set(content) != set(_DECLARED):
        raise ScoreError(f"{where}: a declaration has exactly the keys {', '.join(_DECLARED)}")
    if content["better"] not in ("higher", "lower"):
        raise ScoreError(f"{where}: better = {content['better']!r}", hint="`higher` or `lower`")
    limits = {}
    for key in ("low", "high"):
        limits[key] = None if content[key] is None else _number(content[key], f"{where}, {key}")
    if not isinstance(content["metric"], str) or not isinstance(content["source"], str):
        raise ScoreError(f"{where}: metric and source are strings")
    return content["metric"], {**limits, "higher_is_better": content["better"] == "higher", "source": content["source"]}


def _csv_rows(path: Path, lines: Sequence[str], first: int) -> list[tuple[str, str, dict[str, Any]]]:
    reader = csv.reader(io.StringIO("\n".join(lines[first:]), newline=""), strict=True)
    rows: list[tuple[str, str, dict[str, Any]]] = []
    columns: list[str] = []
    at = first + 1
    try:
        for cells in reader:
            where, at = f"{path}, line {at}", first + reader.line_num + 1
            if not columns:
                columns = [cell.strip() for cell in cells]
                if "id" not in columns or len(set(columns)) < len(columns):
                    raise ScoreError(f"{where}: the header needs one column `id` and one for each metric")
            elif cells:
                if len(cells) != len(columns):
                    raise ScoreError(f"{where}: {len(cells)} fields, but the header has {len(columns)} columns")
                row = dict(zip(columns, cells, strict=True))
                rows.append((where, row.pop("id"), row))
    except csv.Error as error:
        raise ScoreError(f"{path}, line {at}: {error}") from error
    return rows


def _json_rows(path: Path, lines: Sequence[str], first: int) -> list[tuple[str, str, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ScoreError(f"{where}: not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise ScoreError(f'{where}: expected an object with the string "id"')
        rows.append((where, row.pop("id"), row))
    return rows


def _number(value: Any, where: str) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = value.strip() or None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ScoreError(f"{where}: expected a finite number, found {'nothing' if value is None else repr(value)}")
    return float(value)


def write_items(path: Path | str, sheet: ScoreSheet) -> None:
    """The item scores of a sheet as CSV or, by the name of the file, JSON Lines, in the form that `load_foreign` reads.

    The source of rscap's own metrics is its version; numbers are written in full.
    """
    path = Path(path)
    names = list(next(iter(sheet.items.values()), {}))
    declared = [json.dumps(_declared(sheet, name), ensure_ascii=False) for name in names]
    if path.suffix.lower() in {".jsonl", ".ndjson"}:
        rows = [json.dumps({"id": example, **scores}, ensure_ascii=False) for example, scores in sheet.items.items()]
        write_text(path, "\n".join([*declared, *rows, ""]))
        return
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", *names])
    writer.writerows([example, *(repr(scores[name]) for name in names)] for example, scores in sheet.items.items())
    write_text(path, "".join(f"# {line}\n" for line in declared) + table.getvalue())


def _declared(sheet: ScoreSheet, name: str) -> dict[str, Any]:
    line, foreign = known(name), sheet.extra.get("foreign", {}).get(name, {})
    return {
        "metric": name,
        "low": line.low if line else foreign.get("low"),
        "high": line.high if line else foreign.get("high"),
        "better": "higher" if is_higher_better(sheet, name) else "lower",
        "source": f"rscap {sheet.extra.get('rscap', '')}".strip() if line else foreign.get("source", "unknown"),
    }
