"""Which evaluated images a run has seen: it was trained on them, or its weights were selected by them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from rscap.data import Source, open_data
from rscap.data.choice import training_examples, validation_panel
from rscap.data.contents import ALIKE, LOOK_BYTES, Content, contents_of, nearest_look
from rscap.errors import DataError, StoreError
from rscap.progress import Say
from rscap.quality import QualityRules, select
from rscap.recipe import Recipe
from rscap.records import Example
from rscap.store import Provenance, RunFolder, Seen, SeenImage, read_seen, write_seen


def seen_by_training(
    train: Sequence[Example], panel: Sequence[Example], recipe: Recipe, known: Mapping[str, Content]
) -> Seen:
    """The table of what a run sees: `train`, and where the recipe has a [selection] the validation images `panel`.

    A panel that selects nothing is only watched and is not in the table.

    Args:
        known: contents that were found when the data were opened; those of other images are computed.
    """
    chosen = panel if recipe.selection else []
    learned, watched = {example.id for example in train}, {example.id for example in chosen}
    images = {example.id: example for example in [*train, *chosen]}
    contents = contents_of(images.values(), known)
    return Seen.of(_seen_image(name, contents.get(name), name in learned, name in watched) for name in images)


def seen_of(train: Sequence[Example], known: Mapping[str, Content]) -> Seen:
    """The table of a model that was trained on these images; contents that are not known are computed."""
    contents = contents_of(train, known)
    return Seen.of(_seen_image(example.id, contents.get(example.id), True, False) for example in train)


def _seen_image(name: str, content: Content | None, trained: bool, selected: bool) -> SeenImage:
    digest, look = content[:2] if content else (None, None)
    return SeenImage(name, digest, look, trained, selected)


def seen_by(run: RunFolder, recipe: Recipe, say: Say) -> Seen | str:
    """What a run has seen: its own table, or that of its recipe and data where it has none; else why it is not known.

    rscap 0.1 wrote no table. It is made again if the recipe's data are there and have the digest that the run noted.

    Raises:
        StoreError: the run has a table that cannot be read.
    """
    if run.seen_file.is_file():
        return read_seen(run.seen_file)
    say(f"{run.path} has no {run.seen_file.name}: finding out from its recipe and data what it was trained on")
    try:
        source = open_data(recipe.data, check="decode").for_training()
        if source.digest != data_digest_of(run):
            return "its data have changed since"
        panel = validation_panel(source, recipe)
        train = _trained(source, recipe)
    except DataError as error:
        return f"its data cannot be opened: {error.message}"
    found = seen_by_training(train, panel, recipe, source.contents)
    with suppress(OSError):  # a folder that may only be read: the next evaluation finds out again
        write_seen(run.seen_file, found)
    return found


def trained_on(run: RunFolder, recipe: Recipe, source: Source, say: Say) -> list[Example] | None:
    """What a run was trained on, as it learned it; None, with a message, where its data cannot be opened.

    Args:
        source: the data of the evaluation, which are used if they are those that the run was trained on.
    """
    if source.for_training().digest != data_digest_of(run):
        try:
            source = open_data(recipe.data)
        except DataError as error:
            say(f"the data that {run.name} was trained on cannot be opened: {error.message}")
            return None
    return _trained(source, recipe) if source.splits.get("train") else []


def _trained(source: Source, recipe: Recipe) -> list[Example]:
    """The training examples of a recipe, after its quality rules if it has any."""
    if recipe.data.quality is not None:
        source = select(source, QualityRules(**recipe.data.quality.model_dump(exclude_none=True))).source
    return training_examples(source, recipe)


def data_digest_of(run: RunFolder) -> str | None:
    """The digest of the data that a run was trained on; None where its folder does not tell."""
    try:
        return Provenance.read(run.provenance_file).data.digest
    except StoreError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Evaluated images that a run has seen, by their ids in the evaluation."""

    of: int
    """How many images are evaluated."""
    trained: tuple[str, ...] = ()
    selected: tuple[str, ...] = ()
    """Those that selected the weights and were not trained on."""
    alike: tuple[str, ...] = ()
    """Those that look like an image trained on and are neither of the above."""
    unknown: str | None = None
    """Why it cannot be told."""

    def fields(self) -> dict[str, int | str]:
        """As a score sheet holds them; empty where there is nothing to tell."""
        if self.unknown is not None:
            return {"of": self.of, "unknown": self.unknown}
        counts = {name: len(getattr(self, name)) for name in ("trained", "selected", "alike")}
        return {"of": self.of, **counts} if any(counts.values()) else {}


def overlap(seen: Seen, test: Sequence[Example], known: Mapping[str, Content]) -> Overlap:
    """Which of the evaluated images a run has seen.

    An image was seen if the table has its digest: these are the same pixels, whatever their name. It was also seen if
    the table has its id, unless both show different pictures (their looks differ by more than ALIKE bits); so a copy
    that was encoded again is found under its name, and another image that happens to bear the name is not. An image
    that looks like one of the table but shares neither digest nor id is counted apart: it may be a copy that was
    renamed and encoded again, or a neighbour of the same place.

    Args:
        seen: the table of the run.
        test: the evaluated images.
        known: contents that are known already; those of other images are computed.
    """
    contents = contents_of(test, known)
    trained, selected = _Known.of(seen, seen.trained), _Known.of(seen, seen.selected)
    by_training = [example.id for example in test if trained.has(example.id, contents.get(example.id))]
    rest = [example.id for example in test if example.id not in {*by_training}]
    by_selection = {name for name in rest if selected.has(name, contents.get(name))}
    others = [name for name in rest if name not in by_selection and name in contents]
    return Overlap(
        of=len(test),
        trained=tuple(by_training),
        selected=tuple(name for name in rest if name in by_selection),
        alike=tuple(_alike(others, contents, seen.looks[seen.trained & seen.digests.any(axis=1)])),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """Images of a table, to be looked up."""

    digests: Collection[bytes]
    looks: Mapping[str, bytes | None]
    """By id; None where the image could not be read."""

    @classmethod
    def of(cls, seen: Seen, chosen: np.ndarray) -> _Known:
        images = [image for image, wanted in zip(seen, chosen, strict=True) if wanted]
        return cls({image.digest for image in images if image.digest}, {image.id: image.look for image in images})

    def has(self, name: str, content: Content | None) -> bool:
        if content is not None and content.digest in self.digests:
            return True
        if name not in self.looks:
            return False
        before = self.looks[name]
        return content is None or before is None or _bits_apart(content.look, before) <= ALIKE


def _bits_apart(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def _alike(names: Sequence[str], contents: Mapping[str, Content], looks: np.ndarray) -> list[str]:
    own = np.frombuffer(b"".join(contents[name].look for name in names), dtype=np.uint8).reshape(-1, LOOK_BYTES)
    nearest = nearest_look(own, looks)
    return [name for name, apart in zip(names, nearest, strict=True) if apart <= ALIKE]


def refuse_trained_on(found: Overlap, model: str) -> None:
    """Refuse to score a run on images it was trained on.

    Raises:
        DataError: there are some; says how many and the way out.
    """
    if found.trained:
        raise DataError(
            f"{len(found.trained):,} of {found.of:,} images were trained on by {model}, such as {found.trained[0]}: "
            "the score would say how well it remembers them",
            hint="evaluate it on images it has not seen (for its own test split leave out --source and --splits); "
            "--allow-seen scores them anyway and marks the score",
        )
