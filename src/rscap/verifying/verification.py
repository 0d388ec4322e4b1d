"""`verify`: what kind of thing it is, and what of it follows from the files that travel with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rscap.errors import StoreError
from rscap.reports.origin import read_origin
from rscap.store import RunFolder, StudyFolder, read_sheet, text_of
from rscap.verifying.cards import CARD, check_card
from rscap.verifying.differences import Finding, Protocol
from rscap.verifying.folders import check_run, check_study
from rscap.verifying.pages import check_made_again, check_page
from rscap.verifying.sheets import check_score_sheet

Kind = Literal["run", "study", "page", "card", "sheet"]

PROVES = (
    "This shows that the figures follow from the captions and references that travel with them. It does not show "
    "that a model wrote these captions, nor that the references are those of a data set: whoever changes captions, "
    "figures and digests together is not found."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was recomputed, what differs, and what could not be recomputed."""

    thing: Path
    kind: Kind
    checked: tuple[str, ...]
    findings: tuple[Finding, ...]
    """In the order in which they were met; empty where all figures follow."""
    unchecked: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether no figure differs."""
        return not self.findings

    def __str__(self) -> str:
        """The verdict in one line, with the first figure that differs."""
        if self.holds:
            return f"{self.thing}: every figure that was recomputed follows from its files"
        more = len(self.findings) - 1
        return f"{self.thing}: {self.findings[0]}" + (f" (and {more:,} more)" if more else "")


def verify(
    thing: Path,
    *,
    files: Sequence[Path] = (),
    candidates: Path | None = None,
    references: Path | str | None = None,
    split: str | None = None,
) -> Verification:
    """Recompute every figure of a run, an evaluation, a report page, a study, the card of an export or a score sheet.

    Args:
        thing: its folder, the page, or the score sheet.
        files: the folders that a page or a card was made from, if they have moved: the runs of a page in its order, the
            evaluation of a card.
        candidates: the captions that a score sheet was computed from, in any format that `rscap score` reads.
        references: the data set with its references.
        split: the split of the references, if only one was scored.

    Raises:
        StoreError: it cannot be verified: nothing of the kind is there, or what its figures follow from is missing or
            damaged; says what.
    """
    protocol = Protocol()
    if candidates is None and references is None:
        kind = _carried_out(thing, protocol, files)
    else:
        kind = _scored(thing, candidates, references, split, protocol)
    return Verification(
        thing=thing,
        kind=kind,
        checked=tuple(protocol.checked),
        findings=tuple(protocol.findings),
        unchecked=tuple(protocol.unchecked),
    )


def _scored(
    sheet: Path, candidates: Path | None, references: Path | str | None, split: str | None, protocol: Protocol
) -> Kind:
    if not sheet.exists():
        raise StoreError(
            f"{sheet} cannot be verified: it does not exist", hint="`rscap score --out` writes a score sheet"
        )
    if candidates is None or references is None or not sheet.is_file() or sheet.suffix.lower() != ".json":
        raise StoreError(
            f"{sheet} cannot be verified: --candidates and --references together are for a score sheet",
            hint="`rscap verify SCORES.json --candidates FILE --references FILE`",
        )
    check_score_sheet(sheet, candidates, references, split, protocol)
    return "sheet"


def _carried_out(thing: Path, protocol: Protocol, files: Sequence[Path]) -> Kind:
    if thing.suffix.lower() in (".html", ".htm"):
        check_page(thing, protocol, files=files)
        return "page"
    if thing.name == CARD or (thing / CARD).is_file():
        check_card(thing if thing.is_dir() else thing.parent, protocol, files=files)
        return "card"
    _refuse_files(thing, files)
    if (study := StudyFolder(thing)).exists:
        check_study(study, protocol)
        _page_inside(study.report_file, study.path, protocol)
        return "study"
    if (run := RunFolder(thing)).exists:
        check_run(run, protocol)
        _page_inside(run.report_file, run.path, protocol)
        return "run"
    if run.report_file.is_file():  # a folder of several runs and their page
        check_page(run.report_file, protocol)
        return "page"
    if _is_sheet(thing):
        raise StoreError(
            f"{thing} cannot be verified alone: it is a score sheet",
            hint="name what it was computed from, --candidates FILE --references FILE; of a run, name the folder",
        )
    if not thing.exists():
        raise StoreError(f"{thing} cannot be verified: it does not exist", hint="name a folder or a file that is there")
    raise StoreError(
        f"{thing} cannot be verified: it is no run, evaluation, study, report page, export or score sheet",
        hint="name a folder of one of them, a page that `rscap report` wrote, or what `rscap score --out` wrote",
    )


def _is_sheet(thing: Path) -> bool:
    if not thing.is_file() or thing.suffix.lower() != ".json":
        return False
    try:
        read_sheet(thing)
    except StoreError:
        return False
    return True


def _refuse_files(thing: Path, files: Sequence[Path]) -> None:
    if files:
        raise StoreError(f"{thing} has its files inside", hint="--files is for pages and cards")


def _page_inside(page: Path, folder: Path, protocol: Protocol) -> None:
    """The page in a run's or a study's own folder, if it shows that folder alone."""
    if not page.is_file():
        return
    text = text_of(page)
    try:
        origin = read_origin(page, text)
    except StoreError as error:
        protocol.skip(error.message)
        return
    if [(page.parent / one).resolve() for one in origin.folders] == [folder.resolve()]:
        check_made_again(page, text, origin, [folder], protocol)
