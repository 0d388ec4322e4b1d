"""Fill a cache with features of the frozen vision tower, and let the encoder read them; see `rscap.model.features`."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path

import torch

import rscap
from rscap.captioner.batch import Batch, Encoder
from rscap.captioner.loader import Workers, batches
from rscap.errors import ImageError
from rscap.model.families import ImageSpec
from rscap.model.features import VERSIONS, FeatureCache, FeatureSpec, image_digest, tower_digest
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
    tower, config = packed.vision, packed.bare.config.vision_config
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
            **{name: rscap.__version__ if name == "rscap" else metadata.version(name) for name in VERSIONS},
        },
        tokens=packed.family.seen_tokens(packed.bare.config, image),
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
    workers: Workers,
    say: Say,
    shows_progress: bool = True,
) -> Encoder:
    """An encoder that gives features of `examples` instead of pixels; missing features are computed first.

    All processes compute, each a part, and write their rows into one file; the leading one keeps the index.

    Raises:
        StoreError: the disk is too full for them, or the cache is damaged.
    """
    digests, unusable = _digests(examples, team)
    cache = FeatureCache.open(folder, feature_spec(packed, encoder.image))
    with cache.locked() if team.leads else nullcontext():
        absent = team.broadcast(_absent(cache, examples, digests, say) if team.leads else None)
        cache.checksums = team.broadcast(cache.checksums)
        missing = [examples[place] for place in absent]
        unusable |= _fill(
            cache, packed, encoder, missing, digests, team=team, workers=workers, shows_progress=shows_progress
        )
    usable = {name: digest for name, digest in digests.items() if name not in unusable}
    return replace(encoder, features=cache.features(usable, unusable))


def _digests(examples: Sequence[Example], team: Team) -> tuple[dict[str, str], dict[str, str]]:
    """The digest of each example's image, and for images that cannot be read the reason."""
    digests: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for example in team.part(examples):
        try:
            digests[example.id] = image_digest(example.image)
        except ImageError as error:
            unusable[example.id] = error.in_one_line
    return _merged(team.gather([digests])), _merged(team.gather([unusable]))


def _merged(parts: Sequence[dict[str, str]]) -> dict[str, str]:
    return {name: value for part in parts for name, value in part.items()}


def _absent(cache: FeatureCache, examples: Sequence[Example], digests: dict[str, str], say: Say) -> list[int]:
    """The places of the examples whose features are missing; the same picture twice is one row."""
    wanted: dict[str, int] = {}
    for place, example in enumerate(examples):
        if (digest := digests.get(example.id)) and digest not in cache.checksums:
            wanted.setdefault(digest, place)
    if wanted:
        size = cache.check_space(len(wanted))
        if not cache.checksums:
            for folder, versions in cache.replaced():
                say(f"the features in {folder} are of {versions} and are not used; the folder may be deleted")
        say(f"computing vision features of {len(wanted):,} images once: {size / 2**30:.2f} GiB in {cache.folder}")
        cache.begin()
    return list(wanted.values())


def _fill(
    cache: FeatureCache,
    packed: PackedModel,
    encoder: Encoder,
    missing: Sequence[Example],
    digests: dict[str, str],
    *,
    team: Team,
    workers: Workers,
    shows_progress: bool,
) -> dict[str, str]:
    """Add the missing rows; returns the ids of images that cannot be decoded, with the reason."""
    unusable: dict[str, str] = {}
    saved = time.monotonic()
    encode, mine = partial(encoder, prefix="", captions=()), team.part(missing)
    coming = batches(mine, encode, size=_BATCH, pad=encoder.prompter.pad, workers=workers if mine else 0)
    together = _BATCH * team.size
    try:
        with asked(packed), ProgressBar("vision features", shown=shows_progress and team.leads) as bar:
            for begin in range(0, len(missing), together):
                rows: dict[str, bytes] = {}
                for batch in islice(coming, 1):  # or none, of the last few images
                    unusable |= {item.row: item.reason for item in batch.rejected}
                    rows = {digests[name]: row for name, row in _computed(cache, packed, batch).items()}
                _write(cache, rows, team)
                if team.leads and time.monotonic() - saved > _COMMIT_S:
                    cache.commit()
                    saved = time.monotonic()
                bar(min(begin + together, len(missing)), len(missing))
    finally:
        if team.leads and missing:
            cache.commit()
    return _merged(team.gather([unusable]))


def _computed(cache: FeatureCache, packed: PackedModel, batch: Batch) -> dict[str, bytes]:
    """The rows of a batch, by the ids of its examples."""
    if not batch.images:
        return {}
    with torch.no_grad(), packed.autocast():
        seen = packed.seen(batch.pixel_values.to(packed.device))
    return {name: cache.row_of(one) for name, one in zip(batch.example_ids, seen, strict=True)}


def _write(cache: FeatureCache, rows: dict[str, bytes], team: Team) -> None:
    """Write the rows of all processes, each its own, behind those that are there; rows by the digests of images."""
    everyone = team.gather([{digest: zlib.crc32(row) for digest, row in rows.items()}])
    before = sum(len(theirs) for theirs in everyone[: team.rank])
    cache.write(list(rows.values()), number=len(cache.checksums) + before)
    team.wait()  # what is in `checksums` may be committed
    for theirs in everyone:
        cache.checksums |= theirs
