"""Shards of WebDataset: tar files whose members belong together by their name up to the first dot.

    train-000000.tar    000017.jpg  000017.txt      a caption, or one a line
                        000018.png  000018.json     {"caption": …}, or any names of `rscap.annotations.fields`

Only headers and text are read here. `rscap.data` reads an image from its place in the archive when it is asked for;
nothing is unpacked. Links, devices, names that lead out of the archive and members that hold Python objects are never
opened.

The split comes from the file's name or its folder. An image's id is its name in the archive; where two archives
use one name, the path of the archive comes before it (`train-000001/000017.jpg`).
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rscap.annotations.fields import Fields, rows_of
from rscap.annotations.files import JsonObject, Located, without_twins
from rscap.annotations.rows import Found, split_in
from rscap.annotations.text import no_text
from rscap.errors import DataError
from rscap.records import Note, Rejected

SUFFIX = ".tar"
IMAGES = frozenset(("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "jp2", "ppm"))
TEXTS = ("txt", "caption", "captions", "text")
"""Members with captions, the first that is there."""
MAX_MEMBERS = 10_000_000
MAX_TEXT_BYTES = 2**20
MAX_IMAGE_BYTES = 2**28
"""Members with more bytes are rejected: 1 MiB of text, 256 MiB of an image."""

_MAX_HEADER_BYTES = 2**20
_TRIED = 100


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive, by its place."""

    archive: Path
    name: str
    offset: int
    """Of its first byte in the archive."""
    size: int


@dataclass(slots=True)
class _Sample:
    """The members of one name, by what follows its first dot."""

    images: dict[str, Member] = field(default_factory=dict)
    texts: dict[str, Member] = field(default_factory=dict)
    record: Member | None = None
    refused: str = ""
    """Why none of them is used."""


@dataclass(slots=True)
class _Shard:
    """What the headers of an archive tell."""

    file: Path
    samples: dict[str, _Sample] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    """Other members, counted by what follows the first dot of their names."""
    unmarked: bool = False
    """The mark at the end of an archive is missing."""

    @property
    def has_captions(self) -> bool:
        """Whether an image and a text have one name."""
        return any(one.images and (one.texts or one.record) for one in self.samples.values())

    def add(self, entry: tarfile.TarInfo) -> None:
        """Sort a member in."""
        path = PurePosixPath(entry.name)
        if entry.isdir() or any(part.startswith(".") or part == "__MACOSX" for part in path.parts if part != ".."):
            return
        stem, _, ending = path.name.partition(".")
        sample = self.samples.setdefault(str(path.with_name(stem)) if stem else str(path), _Sample())
        kind = ending.lower()
        if path.is_absolute() or ".." in path.parts:
            sample.refused = f"the name {entry.name!r:.200} leads out of the archive"
        elif entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) or entry.issparse():
            sample.refused = f"{path.name} is a link, a device or a sparse file, which is not opened"
        elif kind.rpartition(".")[2] in IMAGES:
            self._put(sample, sample.images, kind, self._member(entry, path))
        elif kind in TEXTS:
            self._put(sample, sample.texts, kind, self._member(entry, path))
        elif kind == "json":
            if sample.record is not None:
                sample.refused = f"{path} occurs twice in the archive"
            sample.record = self._member(entry, path)
        else:
            self.unread[kind] += 1

    def _member(self, entry: tarfile.TarInfo, path: PurePosixPath) -> Member:
        return Member(self.file, str(path), entry.offset_data, entry.size)

    @staticmethod
    def _put(sample: _Sample, members: dict[str, Member], kind: str, member: Member) -> None:
        if kind in members:
            sample.refused = f"{member.name} occurs twice in the archive"
        members[kind] = member


ImageOf = Callable[[Member, str], object]
"""Makes what a row names as its image, of the member and the image's name."""


def files(path: Path) -> list[Path]:
    """The archives of a folder at any depth in order of path, hidden ones left out; or the file itself."""
    if path.is_file():
        return [path]
    found = (file for file in path.glob(f"**/*{SUFFIX}") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))


def why_not(file: Path) -> str | None:
    """Why an archive is no shard, told by its first members; None where it holds an image and a text of one name."""
    try:
        return None if _scan(file, most=_TRIED).has_captions else _NO_CAPTIONS
    except DataError as error:
        return f"it {error.message.removeprefix(f'{file} ')}"


_NO_CAPTIONS = "an archive without captions, which is not unpacked; a shard holds NAME.jpg with NAME.txt or NAME.json"


def read(path: Path, image: ImageOf = lambda _, name: name) -> Iterator[Found]:
    """The rows of an archive, or of all archives of a folder that hold captions.

    Args:
        path: the archive or folder.
        image: makes the image of a row; by default its name.

    Raises:
        DataError: an archive cannot be read, is cut off or damaged, has too many members, or none holds captions.
    """
    scanned = [_scan(file) for file in files(path)]
    shards = [shard for shard in scanned if shard.has_captions]
    if not shards:
        raise DataError(f"{path} is {_NO_CAPTIONS}", hint="unpack it and open the folder")
    uses = Counter(member.name for shard in shards for one in shard.samples.values() for member in one.images.values())
    several = max(uses.values()) > 1
    for shard in shards:
        prefix = f"{shard.file.relative_to(path).with_suffix('').as_posix()}/" if several else ""
        with shard.file.open("rb") as stream:
            records = _records(shard, stream, prefix, image)
            yield from rows_of(shard.file.name, records, split=_split_of(shard.file, path), beside=True)
    yield from (Note(one.file.name, f"passed over: {_NO_CAPTIONS}") for one in scanned if not one.has_captions)


def _split_of(file: Path, root: Path) -> str | None:
    """The split of the file's name, or of the innermost folder below `root` that tells one."""
    parts = file.relative_to(root).parts if file != root else (file.name,)
    return next((split for part in reversed((*parts[:-1], file.stem)) if (split := split_in(part))), None)


# Headers.


def _scan(file: Path, *, most: int | None = None) -> _Shard:
    """The members of an archive by their headers; no more than the first `most`.

    Raises:
        DataError: see `read`.
    """
    shard = _Shard(file)
    with (
        file.open("rb") as stream,
        _damage_named(file, stream),
        tarfile.open(fileobj=_Headers(stream), mode="r:") as archive,  # type: ignore[call-overload]
    ):
        for number, entry in enumerate(islice(archive, most)):
            if number >= MAX_MEMBERS:
                raise DataError(f"{file} has more than {MAX_MEMBERS:,} members")
            if entry.size < 0:
                raise tarfile.ReadError(f"{entry.name!r:.200} has a size below 0")
            shard.add(entry)
            archive.members.clear()  # the library keeps them all
        if most is None:
            shard.unmarked = _is_unmarked(file, stream, archive.offset)
    return shard


class _Headers:
    """An archive of which the library reads headers alone: one that claims to be large would fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self._stream = stream.seek, stream.tell, stream

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)


@contextmanager
def _damage_named(file: Path, stream: IO[bytes]) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        stream.seek(0)
        if told := no_text(stream.read(100)):
            raise DataError(f"{file} is {told[0]}", hint=told[1]) from None
        raise DataError(
            f"{file} cannot be read as a tar archive: {error}", hint="copy it again; or unpack it and open the folder"
        ) from error


def _is_unmarked(file: Path, stream: IO[bytes], offset: int) -> bool:
    """Whether an archive ends without its mark, two blocks of zeros, behind the last member.

    Raises:
        DataError: something that is no header stands there: what follows would be lost.
    """
    stream.seek(offset)
    end = stream.read(tarfile.BLOCKSIZE)
    if 0 < len(end) < tarfile.BLOCKSIZE:
        raise DataError(f"{file} is cut off at byte {offset + len(end):,}", hint="copy it again")
    if end.strip(b"\0"):
        raise DataError(
            f"{file} is damaged at byte {offset:,}: no header of a member stands there", hint="copy it again"
        )
    while block := stream.read(_MAX_HEADER_BYTES):
        if block.strip(b"\0"):
            raise DataError(
                f"{file} holds more behind the end of an archive, at byte {offset:,}",
                hint="copy it again if it came over a network; archives that were put together by `cat` are joined by "
                "`tar --concatenate`",
            )
    return not end


# Text.


def _records(shard: _Shard, stream: IO[bytes], prefix: str, image: ImageOf) -> Iterator[Located | Rejected | Note]:
    """The record of each sample, with its image; a note for what is not read."""
    lines, differing = 0, 0
    unread = Counter(shard.unread)
    for key, sample in shard.samples.items():
        where = f"{shard.file.name} {key}"
        chosen = _image_of(sample)
        if isinstance(chosen, str):
            if sample.images or sample.texts or sample.record or sample.refused:
                yield Rejected(where, chosen)
            continue
        unread.update(kind for kind, member in sample.images.items() if member is not chosen)
        unread.update([kind for kind in TEXTS if kind in sample.texts][1:])
        try:
            record, several, differs = _record(sample, stream)
        except ValueError as error:
            yield Rejected(where, str(error))
            continue
        lines, differing = lines + several, differing + differs
        yield where, {"image": image(chosen, prefix + chosen.name), **record}
    if lines:
        yield Note(shard.file.name, f"{lines} texts have several lines; each line is read as a caption")
    if differing:
        yield Note(shard.file.name, f"{differing} captions in .json differ from those of the text and are not read")
    if unread:
        told = ", ".join(f".{kind:.20} ({count:,})" for kind, count in unread.most_common(10))
        yield Note(shard.file.name, f"members that are not read: {told}")
    if shard.unmarked:
        yield Note(shard.file.name, "the archive has no mark at its end: it may be cut off")


def _image_of(sample: _Sample) -> Member | str:
    """The image of a sample, or why there is none; of several, the one that has no further word in its name."""
    if sample.refused:
        return sample.refused
    plain = [kind for kind in sample.images if "." not in kind]
    if not sample.images:
        return "no image of this name"
    if not sample.texts and sample.record is None:
        return "no caption of this name: expected .txt, .caption or .json"
    if len(sample.images) > 1 and len(plain) != 1:
        return f"several images: {', '.join(sorted(sample.images))}"
    member = sample.images[plain[0] if plain else next(iter(sample.images))]
    return f"{member.name} has {member.size:,} bytes" if member.size > MAX_IMAGE_BYTES else member


def _record(sample: _Sample, stream: IO[bytes]) -> tuple[JsonObject, bool, bool]:
    """Captions, split, source and scene class of a sample; whether its text has several lines; whether JSON differs.

    Raises:
        ValueError: a text that cannot be read, in words.
    """
    record = {} if sample.record is None else _json(_text(sample.record, stream))
    kind = next((kind for kind in TEXTS if kind in sample.texts), None)
    if kind is None:
        return record, False, False
    lines = _text(sample.texts[kind], stream).replace("\r", "\n").split("\n")  # U+2028 may be in a caption
    captions = [line.strip() for line in lines if line.strip()] or [""]
    try:
        own = Fields.of([*record], needs_image=False)
    except DataError:  # no captions in it
        return {**record, "captions": captions}, len(captions) > 1, False
    theirs = [record.pop(name) for name in own.captions]
    differs = captions not in (theirs, *theirs) and [" ".join(captions)] != theirs
    return {**record, "captions": captions}, len(captions) > 1, differs


def _text(member: Member, stream: IO[bytes]) -> str:
    if member.size > MAX_TEXT_BYTES:
        raise ValueError(f"{member.name} has {member.size:,} bytes of text")
    stream.seek(member.offset)
    try:
        return stream.read(member.size).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{member.name} is not UTF-8 (byte 0x{error.object[error.start]:02x})") from None


def _json(text: str) -> JsonObject:
    try:
        value: Any = json.loads(text, object_pairs_hook=without_twins)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}"[:200]) from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found a {type(value).__name__}")
    return {name: cell for name, cell in value.items() if name.strip().lower() != "image"}
