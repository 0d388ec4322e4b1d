"""The card of an export against the evaluation that travels with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rscap.errors import StoreError
from rscap.reports.card import read_card_scores, score_lines
from rscap.store import CARRIED, RunFolder, text_of
from rscap.verifying.differences import Protocol
from rscap.verifying.folders import check_run

CARD = "README.md"
"""The file of a model card."""
_ADDRESS = re.compile(r"captions and references[^:]*: <(https?://\S+)>")


def check_card(folder: Path, protocol: Protocol, *, files: Sequence[Path] = ()) -> None:
    """Recompute the sheets that travel with an export, then the tables of its card.

    Args:
        files: the folder of the evaluation, where it is not inside the export.

    Raises:
        StoreError: nothing travels with it; says where the card says that it lies.
    """
    card = text_of(folder / CARD)
    section = _scores(card)
    place = _evaluation(folder, section, files)
    run = RunFolder(place)
    check_run(run, protocol, under=f"{place.name}/")
    before = len(protocol.findings)
    expected = [line for split in run.splits() for line in score_lines(read_card_scores(run, split)) if line]
    for where, sentence in _parted(section, expected):
        protocol.differs(CARD, where, sentence)
    if before == len(protocol.findings):
        protocol.checked.append(f"{CARD}: its scores are those of {place.name}/")


def _scores(card: str) -> str:
    """The section with the scores; empty where there is none."""
    return card.partition("\n## Scores\n")[2].partition("\n## ")[0]


def _evaluation(folder: Path, section: str, files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise StoreError(f"a card has one evaluation, and {len(files)} folders are named")
    place = files[0] if files else folder / CARRIED
    if place.is_dir():
        return place
    address = _ADDRESS.search(section)
    raise StoreError(
        f"{folder} cannot be verified: the captions and references that its scores follow from are not in {place}",
        hint=f"download {address[1]}, and name its folder: --files FOLDER"
        if address
        else "rscap export --evaluation puts them there; a folder elsewhere is named by --files FOLDER",
    )


def _parted(section: str, expected: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Lines of the tables that the card lacks, has otherwise, or has beside them; other words are free."""
    told = [line.strip() for line in section.split("\n")]
    rest = iter(told)
    for line in expected:
        if line not in rest:  # in this order: `in` continues behind the line that it found before
            kind = _begin(line)
            near = next((own for own in told if own not in expected and _begin(own) == kind), None)
            yield "scores", f"it says {_quoted(near)}, and its evaluation gives {_quoted(line)}"
            return
    for line in told:
        if line.startswith(("|", "`protocol:")) and line not in expected:
            yield "scores", f"it says {_quoted(line)}, which its evaluation does not give"


def _begin(line: str) -> str:
    """What a line is of: the first cell of a row, the first word of another line."""
    return line.split("|")[1].strip() if line.startswith("|") else re.split(r"[\s:]", line, maxsplit=1)[0]


def _quoted(line: str | None) -> str:
    return "nothing" if line is None else f"“{line}”"
