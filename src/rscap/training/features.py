"""Fill a cache with what the frozen vision tower sees, and let the encoder read from it; see `rscap.model.features`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import rscap
from rscap.captioner.batch import Encoder
from rscap.captioner.loader import batches
from rscap.errors import ImageError
from rscap.model.features import FeatureCache, Kind, image_digest, tower_digest
from rscap.model.load import ImageSpec
from rscap.model.packed import PackedModel
from rscap.records import Example
from rscap.training.panel import asked
from rscap.training.team import Team

Say = Callable[[str], None]

_BATCH = 32
"""Images that go through the tower at a time: nothing is kept for a backward pass."""
_COMMIT_S = 30.0
"""At most so much work is lost when a build is killed."""


def features_folder(run: Path, given: str | None) -> Path:
    """Where the features of a run are kept: `given`, or `.features` beside the run folder, which runs share."""
    return Path(given) if given else run.resolve().parent / ".features"


def kind_of(packed: PackedModel, image: ImageSpec) -> Kind:
    """What the features of this packed's vision tower have in common."""
    tower, config = packed.paligemma.model.vision_tower, packed.paligemma.config.vision_config
    shape = json.loads(config.to_json_string(use_diff=False))
    shape.pop("_name_or_path", None)
    return Kind(
        depends_on={
            "tower": tower_digest(tower),
            "config": shape,
            "image": {
                name: list(value) if isinstance(value, tuple) else value for name, value in asdict(image).items()
            },
            "device": packed.device.type,
            "rscap": rscap.__version__,
            **{package: metadata.version(package) for package in ("torch", "transformers")},
        },
        tokens=packed.image_tokens,
        width=config.hidden_size,
        dtype=packed.compute_dtype,
    )


def cached_encoder(
    packed: PackedModel,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    folder: Path,
    team: Team,
    workers: int,
    say: Say,
) -> Encoder:
    """The encoder, with features of `examples` in place of pixels; those that are missing are computed first.

    Raises:
        StoreError: the disk has no room for them, or the cache is damaged.
    """
    digests, unusable = _digests(examples)
    cache = FeatureCache.open(folder, kind_of(packed, encoder.image))
    if team.leads:
        with cache.locked():
            unusable |= _fill(cache, packed, encoder, examples, digests, workers=workers, say=say)
    unusable = team.told(unusable)
    cache.reload()
    usable = {name: digest for name, digest in digests.items() if name not in unusable}
    return replace(encoder, features=cache.features(usable, unusable))


def _digests(examples: Sequence[Example]) -> tuple[dict[str, str], dict[str, str]]:
    """Digest of each example's image, and why others cannot be read."""
    digests, unusable = {}, {}
    for example in examples:
        try:
            digests[example.id] = image_digest(example.image)
        except ImageError as error:
            unusable[example.id] = error.message
    return digests, unusable


def _fill(
    cache: FeatureCache,
    packed: PackedModel,
    encoder: Encoder,
    examples: Sequence[Example],
    digests: dict[str, str],
    *,
    workers: int,
    say: Say,
) -> dict[str, str]:
    """Add the rows that are missing; returns the images that could not be decoded, with the reason."""
    wanted: dict[str, Example] = {}
    for example in examples:
        if (digest := digests.get(example.id)) and digest not in cache.checksums:
            wanted.setdefault(digest, example)  # the same picture twice is one row
    missing = list(wanted.values())
    if not missing:
        return {}
    size = cache.check_space(len(missing))
    say(f"vision features of {len(missing):,} images are computed once: {size / 2**30:.2f} GiB in {cache.folder}")
    unusable: dict[str, str] = {}
    saved = time.monotonic()
    try:
        with asked(packed), _bar() as bar:
            task = bar.add_task("", total=len(missing))
            encode = partial(encoder, prefix="", captions=())
            for batch in batches(missing, encode, size=_BATCH, pad=encoder.prompter.pad, workers=workers):
                unusable |= {item.row: item.reason for item in batch.rejected}
                if batch.images:
                    with torch.no_grad(), packed.autocast():
                        seen = packed.seen(batch.pixel_values.to(packed.device))
                    cache.add([digests[name] for name in batch.example_ids], seen)
                if time.monotonic() - saved > _COMMIT_S:
                    cache.commit()
                    saved = time.monotonic()
                bar.advance(task, batch.images + len(batch.rejected))
    finally:
        cache.commit()
    return unusable


def _bar() -> Progress:
    return Progress(
        TextColumn("vision features"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
