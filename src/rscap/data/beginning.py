"""From a folder of one's own images to a table, a split and a recipe: what `rscap init` writes.

Nothing that exists is overwritten, and nothing in the folder is changed but for the new table.
"""

from __future__ import annotations

import csv
import io
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from rscap.annotations import AnnotationRow
from rscap.annotations.json_files import IMAGE_SUFFIXES
from rscap.annotations.opening import CAPTIONS_CSV, find
from rscap.data.opening import open_source
from rscap.data.source import Source
from rscap.data.splits import freeze, split_by_ratio
from rscap.errors import DataError
from rscap.escape import visible
from rscap.store import write_text

CAPTION_COLUMNS = tuple(f"caption_{number}" for number in range(1, 6))
TOY = "nano"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What was found in a folder, and what was written."""

    images: int
    captioned: int
    """Images with at least one caption that can be used."""
    table: Path | None = None
    """The table that was written, with empty cells; None where there was one."""
    recipe: Path | None = None
    """None where no image has a caption yet."""
    frozen: Path | None = None
    """The split that was drawn; None where the data name train, val and test themselves."""
    source: Source | None = None


def begin(
    folder: Path, *, out: Path, ratio: tuple[float, float, float], seed: int, base: str, prompt: str | None = None
) -> Beginning:
    """Look at a folder and write what a first training needs.

    Args:
        folder: images, at any depth, with or without annotations in a format that rscap reads.
        out: the folder of the recipe and the split, which are named after `folder`.
        ratio: shares of train, val and test where the data do not name all three.
        seed: of the split.
        base: the base model of the recipe.
        prompt: the words with which it is asked; by default those of a recipe that names none.

    Raises:
        DataError: no folder, nothing in it, or a file that would be overwritten; names it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", hint="name the folder of your images")
    images = images_in(folder)
    if not _annotated(folder):
        if not images:
            kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES))
            raise DataError(f"{folder} holds no images", hint=f"images are files that end in {kinds}")
        return Beginning(images=len(images), captioned=0, table=_write_table(folder, images))
    if not any(isinstance(row, AnnotationRow) and _has_caption(row) for row in find(folder).read()):
        return Beginning(images=len(images), captioned=0)
    source = open_source(str(folder), max_rejected_share=1.0)
    recipe, frozen = out / f"{_name(folder)}.toml", out / f"{_name(folder)}.splits.json"
    if recipe.exists():
        raise DataError(f"{recipe} exists and is not overwritten", hint="rename it, or give --out another folder")
    named = {"train", "val", "test"} <= set(source.splits)
    if not named:
        source = split_by_ratio(source, ratio, seed=seed)
        freeze(source, frozen)
    write_text(recipe, recipe_text(folder, source, None if named else frozen, base=base, prompt=prompt))
    return Beginning(
        images=max(len(images), len(source.examples)),
        captioned=len(source.examples),
        recipe=recipe,
        frozen=None if named else frozen,
        source=source,
    )


def images_in(folder: Path) -> list[Path]:
    """The images at any depth, relative to the folder, in order; hidden files and folders are passed over."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(parent).relative_to(folder)
        found += [
            inside / name
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def _annotated(folder: Path) -> bool:
    """Whether the folder holds annotations; several data sets are an error, as everywhere."""
    try:
        find(folder)
    except DataError as error:
        if "holds no data set" not in error.message:
            raise
        return False
    return True


def _has_caption(row: AnnotationRow) -> bool:
    return any(isinstance(caption, str) and caption.strip() for caption in row.captions)


def _write_table(folder: Path, images: Sequence[Path]) -> Path:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("image", *CAPTION_COLUMNS))
    table.writerows((image.as_posix(), *[""] * len(CAPTION_COLUMNS)) for image in images)
    path = folder / CAPTIONS_CSV
    write_text(path, text.getvalue())
    return path


def _name(folder: Path) -> str:
    return folder.resolve().name or "data"


def recipe_text(folder: Path, source: Source, frozen: Path | None, *, base: str, prompt: str | None = None) -> str:
    """A recipe for these data as TOML, with the reason of each choice in a comment."""
    train = source.splits.get("train", 0)
    toy = base == TOY
    micro_batch = 4 if toy else 8
    epochs = min(30, max(2, round(2_400 / max(train, 1))))
    steps = math.ceil(max(train, 1) / micro_batch) * epochs
    every = math.ceil(steps / 6)
    counts = ", ".join(f"{name} {count:,}" for name, count in source.splits.items())
    splits = f"# {counts}"
    if frozen:
        splits = f"splits = {_quoted(frozen.as_posix())}  # {counts}; duplicates are on one side"
    val = min(64, source.splits.get("val", 0))
    watched = (
        f"evaluate_every = {every}     # {math.ceil(steps / every)} times in {steps:,} steps\n"
        f"evaluate_images = {val}\n\n"
        '[selection]             # the run ends with the best of these evaluations\nmetric = "loss"'
        if val
        else "# without a val split nothing is evaluated during training"
    )
    return _RECIPE.format(
        name=visible(_name(folder), one_line=True),
        file=visible(shlex.quote(f"{_name(folder)}.toml"), one_line=True),
        images=f"{len(source.examples):,}",
        source=_quoted(folder.as_posix()),
        splits=splits + _left_out(source),
        model=_TOY_MODEL if toy else _REAL_MODEL.format(base=_quoted(base)),
        prompt=_PROMPT.format(words=_quoted(prompt)) if prompt else "",
        epochs=epochs,
        seen=f"{train * epochs:,}",
        micro_batch=micro_batch,
        rate="5e-4" if toy else "1e-4",
        watched=watched,
    )


def _quoted(text: str) -> str:
    """Text as a value of TOML, whatever characters it has."""
    return tomli_w.dumps({"text": text}).removeprefix("text = ").rstrip("\n")


def _left_out(source: Source) -> str:
    if not (rejected := len(source.rejected)):
        return ""
    share = math.ceil(100 * rejected / (rejected + len(source.examples))) / 100
    return f"\nmax_rejected_share = {share:g}  # {rejected:,} rows cannot be used, such as those without a caption"


_RECIPE = """\
# How a captioner is trained on {name}: {images} images with captions. `rscap recipe keys` explains every key.
# Check it with `rscap doctor {file}`, price it with `rscap plan {file} --gpu 16GB`, then train.
seed = 0

[data]
source = {source}
UNSPLIT_LINE
captions = "all"        # all captions of an image, packed behind it: little more work than one

{model}

{prompt}[train]
epochs = {epochs}             # {seen} images in all; more only where the validation loss still falls
micro_batch = {micro_batch}
learning_rate = {rate}
{watched}

[generate]
max_new_tokens = 48     # a caption of some 30 words
""".replace("UNSPLIT_LINE", "{splits}")

_PROMPT = """\
[prompt]                # what the model reads between image and caption
prefix = {words}

"""

_TOY_MODEL = """\
# nano ships with rscap and trains on a CPU in minutes. It is a toy: on photographs it learns the words of your
# captions, hardly what the images show. With a GPU, name a real model instead, for example
#   rscap init FOLDER --base HuggingFaceTB/SmolVLM2-500M-Video-Instruct     (no licence to accept)
#   rscap init FOLDER --base google/paligemma-3b-pt-224                     (accept its licence on the Hub first)
[model]
base = "nano"
dtype = "float32"

[towers]                # nano is small enough to learn as a whole
vision_tower = "trained"
projector = "trained"
language_model = "trained\""""

_REAL_MODEL = """\
[model]
base = {base}
# dtype = "auto": bfloat16 where the card computes it. Too little memory: quantisation = "nf4"

[towers]                # a few million adapter weights learn; all else stays as it was pretrained
vision_tower = "frozen"
projector = "frozen"
language_model = "adapted"

[adapter]
rank = 16
alpha = 32.0
rank_stabilised = true"""
