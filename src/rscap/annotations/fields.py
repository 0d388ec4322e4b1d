"""Which key or column of a record is the image and which are its captions: all names that are read, in one place.

A record is a row of a table or a JSON object. Case and outer white space of names do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rscap.annotations.files import JsonObject, Located
from rscap.annotations.rows import AnnotationRow, Found, is_missing
from rscap.errors import DataError
from rscap.records import Note, Rejected

_IMAGES = ("image", "file_name", "filename", "image_name", "image_path", "img", "filepath", "image_id", "id")
"""Names of the image, the first that is there; where there is also a file name, `filepath` is its folder."""
_IDS = ("image_id", "id")
"""Those that hold an id, not a path."""
_OTHERS = ("split", "source", "scene_class")
_STEMS = ("caption", "sentence", "raw", "suffix", "text", "comment")
"""Names of captions, the first that is there: alone, as a list, or numbered: `caption`, `captions`, `caption_1` …"""
_CAPTION = re.compile(rf"({'|'.join(_STEMS)})s?[ _-]?(\d{{1,9}})?")
_LOOKS_LIKE_CAPTIONS = re.compile(r"caption|sentence|raw|suffix")
_COMPANION = re.compile(r".*[ _-](id|number|num|no|count|length|len|source|lang|language|model|type|score|file|path)s?")
"""`caption_id`, `sentence_count`: about captions, none themselves."""
_LOOKS_LIKE_A_SPLIT = re.compile(r"subset|partition|fold|phase|set|splits?[ _-]?\w+|\w+[ _-]split")
_LOOKS_LIKE_AN_IMAGE = re.compile(r"(image|img|picture|photo|band)s?[ _-]?(\d+|[a-z])?|bands")


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of a record's parts, as written in the file."""

    image: str | None
    folder: str | None
    captions: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    """`split`, `source` and `scene_class`, those that there are, each with its name as written."""
    id_given: bool
    unread: tuple[str, ...]
    """Names that look like data and are not read."""

    @classmethod
    def of(cls, names: Iterable[str], *, needs_image: bool = True) -> Fields:
        """The fields among `names`.

        Args:
            names: keys or columns as written.
            needs_image: false where another part of the file names the image, as in COCO's annotations and tables of
                encoded images.

        Raises:
            DataError: no image or no caption among them, a number left out between captions, or a name that looks like
                captions and would not be read.
        """
        written = {name.strip().lower(): name for name in names}
        image = next((name for name in _IMAGES if name in written), None)
        if needs_image and image is None:
            raise DataError(
                f"no column or key names the image; there is: {_names(written)}",
                hint=f"name it `image` (or {', '.join(_IMAGES[1:-2])})",
            )
        captions, others = _captions(written)
        folded = "filepath" if image in ("file_name", "filename", "image_name") and "filepath" in written else None
        return cls(
            image=written[image] if image else None,
            folder=written[folded] if folded else None,
            captions=captions,
            others=tuple((key, written[key]) for key in _OTHERS if key in written),
            id_given=image in _IDS,
            unread=(*others, *(name for key, name in written.items() if key != image and _is_suspicious(key))),
        )

    def row(self, record: Mapping[str, Any], where: str, **told: Any) -> AnnotationRow:
        """The record as a row; `told` is what the file says of all its records: split, source, scene class, folder."""
        cells = [record.get(name) for name in self.captions]
        if len(cells) > 1:
            cells = _filled(cells)
        for key, name in self.others:
            if not is_missing(value := record.get(name)):
                told[key] = value
        return AnnotationRow(
            where=where,
            image=self._image(record),
            captions=[text for cell in cells for text in texts_of(cell)],
            id_given=self.id_given,
            partial=len(self.captions) == 1 and not isinstance(cells[0], list | tuple),
            **told,
        )

    def _image(self, record: Mapping[str, Any]) -> object:
        image = record.get(self.image) if self.image else None
        if not self.folder:
            return image
        folder = record.get(self.folder)
        if isinstance(image, str) and isinstance(folder, str) and folder.strip():
            return f"{folder.strip().rstrip('/')}/{image.strip()}"
        return image


def _names(written: Mapping[str, str]) -> str:
    return f"{', '.join(written.values())}"[:300] or "nothing"


def _captions(written: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the captions in order, and those of weaker names that are passed over."""
    families: dict[str, list[tuple[int, str]]] = {}
    for key, name in written.items():
        if match := _CAPTION.fullmatch(key):
            families.setdefault(match[1], []).append((int(match[2]) if match[2] else -1, name))
    stem = next((stem for stem in _STEMS if stem in families), None)
    if stem is None:
        raise DataError(
            f"no column or key holds captions; there is: {_names(written)}",
            hint="name them caption_1, caption_2, …; or `caption`, a row for each; or `captions`, a list",
        )
    chosen = sorted(families[stem], key=lambda item: item[0])
    numbers = {number for number, _ in chosen}
    gaps = islice((number for number in range(1, max(numbers)) if number not in numbers), 10)
    if missing := [f"{stem}_{number}" for number in gaps]:
        raise DataError(f"numbers are left out between the captions: {', '.join(missing)}")
    names = {name for _, name in chosen}
    lost = [name for key, name in written.items() if name not in names and _is_like_captions(key)]
    if lost:
        raise DataError(
            f"{', '.join(lost)} looks like captions and would not be read beside {chosen[0][1]}",
            hint="give all captions one name, caption_1, caption_2, …; rename or remove what is none",
        )
    weaker = [name for other in families if other != stem for _, name in families[other]]
    return tuple(name for _, name in chosen), tuple(weaker)


def _is_suspicious(key: str) -> bool:
    """Does a name that is not read suggest splits, other images or bands?"""
    return bool(_LOOKS_LIKE_A_SPLIT.fullmatch(key) or (key not in _IMAGES and _LOOKS_LIKE_AN_IMAGE.fullmatch(key)))


def _is_like_captions(key: str) -> bool:
    return _LOOKS_LIKE_CAPTIONS.match(key) is not None and not _COMPANION.fullmatch(key)


def _filled(cells: list[Any]) -> list[Any]:
    """The cells up to the last that is filled, at least one: a row may have fewer captions than the table columns."""
    last = max((n for n, cell in enumerate(cells) if not _is_blank(cell)), default=0)
    return cells[: last + 1]


def _is_blank(cell: object) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip())


def texts_of(cell: object) -> Sequence[object]:
    """The captions of one cell: a list of them, of texts or of objects such as `{"raw": …}`; or the cell itself."""
    if not isinstance(cell, list | tuple):
        return [cell]
    keys = ("raw", "caption", "sentence", "text")
    return [next((one[key] for key in keys if key in one), one) if isinstance(one, dict) else one for one in cell]


def rows_of(
    name: str, records: Iterable[Located | Rejected | Note], *, fields: Fields | None = None, **told: Any
) -> Iterator[Found]:
    """Rows from records; those of a file with one caption a record are brought together by `rows.merged`.

    Notes count the rows that have fewer captions than columns, and name what looks like data and is not read.

    Args:
        name: of the file, for the notes.
        records: with their places; notes and rejected ones pass through.
        fields: of all records, where they are rows of a table; by default each record's own keys count.
        told: what the file says of all its records, see `Fields.row`.
    """
    own = _PerRecord()
    short: list[str] = []
    most = 0
    for item in records:
        if isinstance(item, Rejected | Note):
            yield item
            continue
        where, record = item
        try:
            known = fields or own.of(record)
        except DataError as error:
            yield Rejected(where, error.in_one_line)
            continue
        row = known.row(record, where, **told)
        if len(known.captions) > 1 and len(row.captions) < len(known.captions):
            short.append(where)
            most = max(most, len(known.captions))
        yield row
    if short:
        yield Note(name, f"{len(short)} rows have fewer than {most} captions, first {short[0]}")
    unread = dict.fromkeys([*(fields.unread if fields else ()), *own.unread()])
    if unread:
        yield Note(name, f"not read, though the names suggest captions, splits or images: {', '.join(unread)}")


class _PerRecord:
    """Fields by the keys of a record, found once for each set of keys."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Fields] = {}

    def of(self, record: JsonObject) -> Fields:
        """Raises DataError: see `Fields.of`."""
        keys = tuple(record)
        if keys not in self._known:
            self._known[keys] = Fields.of(keys)
        return self._known[keys]

    def unread(self) -> list[str]:
        return [name for fields in self._known.values() for name in fields.unread]
