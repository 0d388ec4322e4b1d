"""A split as a list of ids with a digest: what two people who compare results must share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rscap.annotations.files import load_object
from rscap.data.source import Source
from rscap.errors import DataError
from rscap.records import Example, Note
from rscap.store import write_json

FORMAT = "rscap-split/1"


def split_digest(examples: Iterable[Example]) -> str:
    """SHA-256 over (split, id) pairs, sorted: the same split of the same ids, whatever their order or captions."""
    return _digest([example.split, example.id] for example in examples)


def freeze(source: Source, path: Path) -> None:
    """Write the ids of every split of `source`, with their digest.

    Raises:
        DataError: there is a file at `path` already.
    """
    if path.exists():
        raise DataError(f"{path} exists; a frozen split is not overwritten", hint="choose another name")
    splits: dict[str, list[str]] = {}
    for example in source.examples:
        splits.setdefault(example.split, []).append(example.id)
    value = {
        "format": FORMAT,
        "source": source.name,
        "scheme": source.split_scheme,
        "digest": split_digest(source.examples),
        "splits": splits,
    }
    write_json(path, value)


def apply_frozen(examples: Sequence[Example], path: Path) -> tuple[list[Example], list[Note]]:
    """Give examples the splits that a frozen file lists.

    Raises:
        DataError: no such file, changed since it was frozen, or its ids are not exactly those of the examples.
    """
    splits = _read(path)
    of = {name: split for split, names in splits.items() for name in names}
    missing = sorted(set(of) - {example.id for example in examples})
    extra = sorted({example.id for example in examples} - set(of))
    for what, ids in (("that the source lacks", missing), ("of the source that it does not list", extra)):
        if ids:
            raise DataError(f"{path}: {len(ids)} ids {what}: {', '.join(ids[:5])}", hint="freeze the split again")
    return [replace(example, split=of[example.id]) for example in examples], []


def _read(path: Path) -> Mapping[str, list[str]]:
    value: dict[str, Any] = load_object(path)
    splits = value.get("splits")
    if value.get("format") != FORMAT or not isinstance(splits, dict):
        raise DataError(
            f"{path} is not a frozen split ({FORMAT})", hint="`rscap data split SRC --out FILE.json` writes one"
        )
    named = {split: names if isinstance(names, list) else [] for split, names in splits.items()}
    pairs = [[split, name] for split, names in named.items() for name in names if isinstance(name, str)]
    if _digest(pairs) != value.get("digest") or len({name for _, name in pairs}) != sum(map(len, named.values())):
        raise DataError(f"{path} does not have the ids that its digest {value.get('digest')!r:.80} was made of")
    return named


def _digest(pairs: Iterable[list[str]]) -> str:
    return hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()
