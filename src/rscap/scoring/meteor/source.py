"""The two files of the installed pycocoevalcap that hold METEOR's tables: the jar (a zip) and the paraphrases."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rscap.scoring.measures import MetricUnavailable

HINT = "pip install 'rscap[meteor]'"
FUNCTION_WORDS = "function/english.words"
PREFIXES = "nonbreaking/english.prefixes"
SYNSETS = "synonym/english.synsets"
EXCEPTIONS = "synonym/english.exceptions"
MEMBERS = (FUNCTION_WORDS, PREFIXES, SYNSETS, EXCEPTIONS)


class MeteorUnavailable(MetricUnavailable):
    """METEOR cannot be computed here: its tables are not installed, or not the ones of METEOR 1.5."""


@dataclass(frozen=True, slots=True)
class Source:
    """The files that hold the tables."""

    jar: Path
    paraphrases: Path

    @classmethod
    def find(cls) -> Source:
        """The tables of the installed pycocoevalcap; the package is located, not imported.

        Raises:
            MeteorUnavailable: pycocoevalcap is not installed, or lacks one of the files; names it.
        """
        spec = importlib.util.find_spec("pycocoevalcap")
        if spec is None or not spec.submodule_search_locations:
            raise MeteorUnavailable(
                "METEOR's tables come with the package pycocoevalcap, which is not installed", hint=HINT
            )
        folder = Path(spec.submodule_search_locations[0]) / "meteor"
        source = cls(jar=folder / "meteor-1.5.jar", paraphrases=folder / "data" / "paraphrase-en.gz")
        for path in (source.jar, source.paraphrases):
            if not path.is_file():
                raise MeteorUnavailable(
                    f"{path} is missing from the installed pycocoevalcap", hint=f"reinstall it: {HINT}"
                )
        return source

    def digest(self, version: str) -> str:
        """A digest of the tables' contents and of `version`, from the checksums that zip and gzip files carry.

        Raises:
            MeteorUnavailable: the jar is not a zip file, or lacks a table.
        """
        digest = hashlib.sha256(version.encode())
        try:
            with zipfile.ZipFile(self.jar) as jar:
                for name in MEMBERS:
                    member = jar.getinfo(name)
                    digest.update(f"{name} {member.CRC} {member.file_size}\n".encode())
        except (zipfile.BadZipFile, KeyError) as error:
            raise MeteorUnavailable(
                f"{self.jar} does not hold METEOR 1.5: {error}", hint=f"reinstall it: {HINT}"
            ) from None
        with self.paraphrases.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(max(0, size - 8))
            digest.update(f"{size} ".encode() + stream.read())
        return digest.hexdigest()[:16]

    def lines(self, member: str) -> list[str]:
        """The lines of one table of the jar."""
        with zipfile.ZipFile(self.jar) as jar:
            return jar.read(member).decode("utf-8").splitlines()

    def paraphrase_pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """(phrase, its paraphrase) in the order of the file, whose entries are three lines: probability and both.

        Raises:
            MeteorUnavailable: the file is damaged.
        """
        try:
            with gzip.open(self.paraphrases, "rb") as stream:
                while stream.readline():
                    yield stream.readline().rstrip(b"\n"), stream.readline().rstrip(b"\n")
        except (EOFError, gzip.BadGzipFile) as error:
            raise MeteorUnavailable(f"{self.paraphrases} is damaged: {error}", hint=f"reinstall it: {HINT}") from None
