"""`rscap verify`: do these figures follow from these captions?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rscap.verifying.verification import Verification


def verify(
    thing: Annotated[
        Path,
        typer.Argument(
            metavar="THING",
            help="A run, an evaluation, a study, a report page, an export with its model card, or a score sheet.",
        ),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="The folders that it was made from, if they have moved: once for each run of a page, in its "
            "order; the evaluation of a card.",
        ),
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="The captions of a score sheet, as `rscap score` takes them.")
    ] = None,
    references: Annotated[Path | None, typer.Option(help="The references of a score sheet.")] = None,
    split: Annotated[str | None, typer.Option(help="The split of these references, if one was scored.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
) -> None:
    """Recompute every figure from the captions and references with it, without torch, Java or network.

    Exit code 0 if every figure that was recomputed follows, 1 if one differs, 2 if it cannot be verified.
    """
    from dataclasses import asdict

    from rscap.cli.screen import print_json
    from rscap.verifying import verify as carry_out

    found = carry_out(thing, files=files or (), candidates=candidates, references=references, split=split)
    if json:
        print_json({"holds": found.holds, **asdict(found), "thing": str(found.thing)})
    else:
        _show_verification(found)
    if not found.holds:
        raise typer.Exit(1)


_MOST = 10
"""Findings that are printed."""


def _show_verification(found: Verification) -> None:
    from rscap.cli.screen import print_prose
    from rscap.verifying.verification import PROVES

    for line in found.checked:
        print_prose(f"checked: {line}")
    for line in found.unchecked:
        print_prose(f"not checked: {line}", style="dim")
    for one in found.findings[:_MOST]:
        print_prose(f"differs: {one}", style="red")
    if len(found.findings) > _MOST:
        print_prose(f"and {len(found.findings) - _MOST:,} more", style="red")
    print_prose(str(found), style="bold")
    if found.holds:
        print_prose(PROVES)
