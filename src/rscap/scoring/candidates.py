"""Candidates from the files that captioners and trainers write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rscap.annotations import AnnotationRow, UnusableRowError, example_id
from rscap.annotations.files import Located, Record, json_lines, load_json, read_table
from rscap.annotations.text import read_text
from rscap.errors import DataError, ScoreError
from rscap.records import Rejected
from rscap.scoring.pairing import listed

_IDS = ("id", "image_id", "image", "file_name", "filename", "image_name", "image_path")
"""Names of a candidate's image, the first that is there; the first two hold an id, the others a path."""
_CAPTIONS = (
    *("caption", "prediction", "predicted_caption", "generated_caption", "predict", "pred", "hypothesis"),
    *("answer", "response", "output", "generated", "suffix", "text"),
)
"""Names of a candidate's caption. A record with two of them is refused: one may be the reference."""
_HINT = (
    'candidates are JSON Lines {"id", "caption"}, a JSON object {id: caption}, COCO results, or a CSV table with the '
    "columns id and caption"
)


@dataclass(frozen=True)
class Candidates(Mapping[str, str]):
    """`{id: caption}`, with the prompt where the file names one."""

    captions: Mapping[str, str]
    prefix: str | None = None
    """The prompt that every candidate was generated with, where the file says so."""

    def __getitem__(self, example: str) -> str:
        return self.captions[example]

    def __iter__(self) -> Iterator[str]:
        return iter(self.captions)

    def __len__(self) -> int:
        return len(self.captions)


def load_candidates(path: Path | str) -> Candidates:
    """Read JSON Lines or a JSON list of objects (COCO results, too), a JSON object `{id: caption}`, or a table.

    Raises:
        ScoreError: the file is missing, empty, not UTF-8 or none of these; a record has no id, no caption or two; an id
            occurs twice.
    """
    path = Path(path)
    try:
        records = _records(path)
    except DataError as error:
        raise ScoreError(error.message, hint=error.hint or _HINT) from error
    captions: list[tuple[str, str]] = []
    prefixes = set()
    for item in records:
        if isinstance(item, Rejected):
            raise ScoreError(f"{_beside(path)}{item.row}: {item.reason}", hint=_HINT)
        where, record = f"{_beside(path)}{item[0]}", {key.strip().lower(): value for key, value in item[1].items()}
        captions.append((_id(record, where), _caption(record, where)))
        prefixes.add(str(record.get("prefix") or ""))
    refuse_twice(path, [name for name, _ in captions])
    return Candidates(dict(captions), prefixes.pop() or None if len(prefixes) == 1 else None)


def _records(path: Path) -> list[Located | Rejected]:
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        return list(read_table(path).records)
    if suffix in {".jsonl", ".ndjson"}:
        return list(json_lines(path))
    if suffix == ".txt" and read_text(path).lstrip()[0] not in "[{":
        return _of_text(path)
    value = load_json(path)
    if isinstance(value, dict) and {"id", "caption"} <= value.keys():
        value = [value]  # JSON Lines of one line
    if isinstance(value, dict):
        return [(f"{path.name} {key!r}", {"id": key, "caption": caption}) for key, caption in value.items()]
    if not isinstance(value, list):
        raise ScoreError(f"{path} holds {value!r:.80}, not candidates", hint=_HINT)
    return [
        (f"{path.name} entry {number}", one)
        if isinstance(one, dict)
        else Rejected(f"{path.name} entry {number}", f"expected a JSON object, found {one!r:.80}")
        for number, one in enumerate(value)
    ]


def _of_text(path: Path) -> list[Located | Rejected]:
    """A table, or lines of an id, a tab or bar, and a caption."""
    table = read_table(path)
    if any(name.lower() in _IDS for name in table.columns):
        return list(table.records)
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
    for separator in "\t|":
        if all(line.count(separator) == 1 for _, line in lines):
            pairs = [(number, *map(str.strip, line.split(separator))) for number, line in lines]
            return [(f"{path.name} line {number}", {"id": name, "caption": text}) for number, name, text in pairs]
    raise ScoreError(
        f"{path} is text whose lines do not say which image they belong to: {lines[0][1]!r:.80}",
        hint="begin each line with the image's id and a tab; or give JSON Lines with `id` and `caption`",
    )


def _beside(path: Path) -> str:
    """What goes before a place that begins with the file's name."""
    return str(path)[: -len(path.name)]


def _id(record: Record, where: str) -> str:
    """The id of a record's image, by the rule of references: see `rscap.annotations.rows`."""
    key = next((key for key in _IDS if key in record), None)
    if key is None:
        raise ScoreError(f"{where}: no `id` or `image`; there is: {', '.join(record)[:200]}", hint=_HINT)
    try:
        return example_id(
            AnnotationRow(where=where, image=record[key], captions=(), id_given=key in ("id", "image_id"))
        )
    except UnusableRowError as reason:
        raise ScoreError(f"{where}: {reason}", hint=_HINT) from None


def _caption(record: Record, where: str) -> str:
    keys = [key for key in _CAPTIONS if key in record]
    if not keys:
        raise ScoreError(f"{where}: no `caption`; there is: {', '.join(record)[:200]}", hint=_HINT)
    if len(keys) > 1:
        raise ScoreError(
            f"{where}: {' and '.join(f'`{key}`' for key in keys)}: either may be the candidate",
            hint="keep one of them, named `caption`",
        )
    value = record[keys[0]]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # pycocoevalcap's own forms: ["…"] and [{"caption": "…"}]
    if isinstance(value, dict):
        value = value.get("caption")
    if not isinstance(value, str):
        raise ScoreError(f"{where}: expected one caption, found {value!r:.80}", hint=_HINT)
    return value


def refuse_twice(where: Path | str, ids: Iterable[str]) -> None:
    """Stop where an id occurs more than once; `where` is what the error names.

    Raises:
        ScoreError: lists the first ten.
    """
    twice = sorted(name for name, count in Counter(ids).items() if count > 1)
    if twice:
        raise ScoreError(f"{where}: {len(twice)} ids occur more than once: {listed(twice)}")
