"""Fill a cache with features of the frozen vision tower, and let the encoder read them; see `rscap.model.features`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path

import torch

import rscap
from rscap.captioner.batch import Encoder
from rscap.captioner.loader import batches
from rscap.errors import ImageError
from rscap.model.features import FeatureCache, FeatureSpec, image_digest, tower_digest
from rscap.model.load import ImageSpec
from rscap.model.packed import PackedModel
from rscap.progress import ProgressBar, Say
from rscap.records import Example
from rscap.training.panel import asked
from rscap.training.team import Team

_BATCH = 32
"""Images per pass through the tower; nothing is kept for a backward pass."""
_COMMIT_S = 30.0
"""A killed process loses at most this much work."""


def features_folder(run: Path, given: str | None) -> Path:
    """The folder of the features of a run: `given`, or `.features` beside the run folder, which runs share."""
    return Path(given) if given else run.resolve().parent / ".features"


def feature_spec(packed: PackedModel, image: ImageSpec) -> FeatureSpec:
    """The specification of the features that this model's vision tower computes."""
    tower, config = packed.paligemma.model.vision_tower, packed.paligemma.config.vision_config
    shape = json.loads(config.to_json_string(use_diff=False))
    shape.pop("_name_or_path", None)
    return FeatureSpec(
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
    shows_progress: bool = True,
) -> Encoder:
    """An encoder that gives features of `examples` instead of pixels; missing features are computed first.

    Raises:
        StoreError: the disk is too full for them, or the cache is damaged.
    """
    digests, unusable = _digests(examples)
    cache = FeatureCache.open(folder, feature_spec(packed, encoder.image))
    if team.leads:
        with cache.locked():
            unusable |= _fill(
                cache, packed, encoder, examples, digests, workers=workers, say=say, shows_progress=shows_progress
            )
    unusable = team.broadcast(unusable)
    cache.reload()
    usable = {name: digest for name, digest in digests.items() if name not in unusable}
    return replace(encoder, features=cache.features(usable, unusable))


def _digests(examples: Sequence[Example]) -> tuple[dict[str, str], dict[str, str]]:
    """The digest of each example's image, and for images that cannot be read the reason."""
    digests, unusable = {}, {}
    for example in examples:
        try:
            digests[example.id] = image_digest(example.image)
        except ImageError as error:
            unusable[example.id] = error.in_one_line
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
    shows_progress: bool,
) -> dict[str, str]:
    """Add the missing rows; returns the ids of images that cannot be decoded, with the reason."""
    wanted: dict[str, Example] = {}
    for example in examples:
        if (digest := digests.get(example.id)) and digest not in cache.checksums:
            wanted.setdefault(digest, example)  # the same picture twice is one row
    missing = list(wanted.values())
    if not missing:
        return {}
    size = cache.check_space(len(missing))
    say(f"computing vision features of {len(missing):,} images once: {size / 2**30:.2f} GiB in {cache.folder}")
    unusable: dict[str, str] = {}
    saved = time.monotonic()
    try:
        with asked(packed), ProgressBar("vision features", shown=shows_progress) as bar:
            done = 0
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
                done += batch.images + len(batch.rejected)
                bar(done, len(missing))
    finally:
        cache.commit()
    return unusable
