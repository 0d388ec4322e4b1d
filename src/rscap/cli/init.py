"""`rscap init`: from a folder of images to a table, a split and a recipe."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rscap.data.beginning import Beginning


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Your images, with captions or without.")],
    ratio: Annotated[
        str, typer.Option(metavar="TRAIN/VAL/TEST", help="Shares of the split, where your data name none.")
    ] = "80/10/10",
    seed: Annotated[int, typer.Option(help="Another seed draws another split.")] = 0,
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="The base model: nano, a name on the Hub, or a folder.")
    ] = "nano",
    out: Annotated[Path, typer.Option(help="Where the recipe and the split are written.")] = Path(),
) -> None:
    """Look at a folder of images and write what a first training needs; nothing that exists is overwritten.

    Images without captions get a table to fill in. With captions you get a split, in which duplicates stay together,
    and a recipe that gives its reasons. Nothing is asked.
    """
    from rscap.cli.screen import print_prose
    from rscap.data.beginning import TOY, begin
    from rscap.data.splits import read_ratio

    prompt = None
    if base != TOY and find_spec("torch"):  # the light install does without
        from rscap.model.load import default_prompt

        prompt = default_prompt(base)
    found = begin(folder, out=out, ratio=read_ratio(ratio), seed=seed, base=base, prompt=prompt)
    for line in _told(folder, found):
        print_prose(line, indent="      ")


def _told(folder: Path, found: Beginning) -> list[str]:
    again = f"next: {_command('init', folder)}"
    if found.table:
        return [
            f"{found.table}: {found.images:,} images, no captions yet",
            "Write a caption of each image into caption_1 and, if you have more, into caption_2 to caption_5. Rows "
            "without a caption are left out.",
            again,
        ]
    if not found.recipe or not found.source:
        return [f"{folder}: {found.images:,} images, none with a caption yet", "Fill in the captions.", again]
    left_out = len(found.source.rejected)
    lines = [
        f"{folder}: {found.captioned:,} images with captions" + (f", {left_out:,} rows left out" if left_out else "")
    ]
    lines += [f"      {bad.row}: {bad.reason}" for bad in found.source.rejected[:3]]
    splits = ", ".join(f"{name} {count:,}" for name, count in found.source.splits.items())
    lines.append(f"{found.frozen or 'split of the data set itself'}: {splits}")
    lines += [f"note: {note.row}: {note.text}" for note in found.source.notes[:3]]
    lines.append(f"{found.recipe}: the recipe")
    return [
        *lines,
        f"next: {_command('data', 'audit', folder)}",
        f"      {_command('doctor', found.recipe)}",
        f"      {_command('train', found.recipe, '--out', Path('runs', found.recipe.stem))}",
    ]


def _command(*words: str | Path) -> str:
    """A command that a shell takes as it stands, whatever characters its paths have."""
    return shlex.join(["rscap", *map(str, words)])
