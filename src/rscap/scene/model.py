"""Which model `rscap scene` asks: a run or a base model by name, loaded when the first window is read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from rscap import provenance
from rscap.scene.job import Asked, windows_together


def asked_model(
    model: Any,
    *,
    prefix: str | None = None,
    dtype: Any = None,
    device: str | None = None,
    changes: Sequence[str] = (),
) -> Asked:
    """The model of that name, or a captioner as it is.

    Args:
        model: a run folder, a base model by name, a `Captioner`, or any object with its `answers` or `predictions`.
        prefix, dtype, device, changes: as `rscap caption` takes them; for a model that is named.

    Raises:
        StoreError: a run folder that trained no model, or none at all beside others.
        RecipeError: decode settings that cannot be made.
    """
    if not isinstance(model, str | PathLike):
        return Asked.of(model)
    from rscap.captioner.loading import ModelRef, weights_digests

    ref = ModelRef.of(fspath(model), prefix=prefix, dtype=dtype, changes=changes)
    generate = ref.generate.model_dump(mode="json")
    described = {
        "name": ref.name,
        "prefix": ref.prefix,
        "generate": {name: value for name, value in generate.items() if name != "batch_size"},
        "base": ref.section.model_dump(mode="json"),
        "base_digest": _folder_digest(ref.section.base),
        "learned": weights_digests(ref.trained[0]) if ref.trained else None,
    }
    return Asked(
        name=Asked.named(described),
        described=described,
        prefix=ref.prefix,
        batch_size=windows_together(ref.generate.batch_size),
        load=partial(ref.load, device),
    )


def _folder_digest(base: str) -> str | None:
    """Of a base model in a local folder; one on the Hub is named by its revision."""
    folder = Path(base)
    return provenance.folder_digest(folder) if folder.is_dir() else None
