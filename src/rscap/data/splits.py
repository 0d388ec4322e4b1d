"""Splits by name: who trains on what, and who is measured on what, stated so that it can be repeated.

| scheme | what it is |
|---|---|
| `official` | the split that the source names; restored by caption hashes for the Hub's copy of RISC, which lost it |
| `seed42` | prior work B's: shuffled with seed 42, then 85 % train, 5 % val, 10 % test |
| `seed42-test-50`, `seed42-test-500` | the same, its test cut to the first 50 or 500 images, which B scored |
| `seed42-100-20` | prior work A's size: the first 100 of that shuffle train, the next 20 val |
| `grouped` | near-duplicate images and identical caption lists never cross; about 80 / 10 / 10 % |
| `FILE.json` | an id list that `rscap data split` froze, checked against its digest |

A frozen split is a list of ids with a digest: what two people who compare results must share. For RISC's copy on the
Hub, `risc-official.txt` holds a 48-bit hash of the caption list of each of the 4,453 val and 4,454 test images (no
caption can be read from it). A row whose hash is listed is val or test, every other row is train. Where more rows share
a caption list than val or test has, or val and test both have it, the hash cannot tell them apart: such rows are put in
the split `ambiguous`, which neither training nor evaluation uses, and are reported one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from rscap.annotations import UNSPLIT
from rscap.annotations.files import load_object
from rscap.data.audit.duplicates import find_duplicates
from rscap.data.draw import uniform
from rscap.data.groups import connected
from rscap.data.rows import Judged
from rscap.data.source import Source
from rscap.errors import DataError
from rscap.records import Example, Note
from rscap.store import write_json

SEEDED: tuple[str, ...] = ("seed42", "seed42-test-50", "seed42-test-500", "seed42-100-20")
SCHEMES: tuple[str, ...] = ("official", *SEEDED, "grouped")


def assign_splits(judged: Judged, scheme: str) -> tuple[list[Example], list[Note]]:
    """The examples with the splits of `scheme`, in their order, and what a reader should know about it.

    Raises:
        DataError: an unknown scheme, or one that does not fit these examples.
    """
    if scheme == "official":
        return restore_official(judged)
    if scheme in SEEDED:
        return assign_seeded(judged, scheme)
    if scheme == "grouped":
        return assign_grouped(judged.examples)
    if scheme.endswith(".json"):
        return apply_frozen(judged.examples, Path(scheme))
    raise DataError(f"unknown split scheme {scheme!r}", hint=f"known: {', '.join(SCHEMES)}, or a frozen FILE.json")


RISC_ROWS = 44_521
UNUSED = "unused"
"""The split of what a scheme leaves out."""


def assign_seeded(judged: Judged, scheme: str) -> tuple[list[Example], list[Note]]:
    """Split by position in the permutation that `datasets.Dataset.shuffle(seed=42)` makes: numpy's default generator.

    Positions count every row, the rejected ones included, so that one broken image does not move all others. On RISC's
    44,521 rows `seed42` is 37,843 train, 2,226 val and 4,452 test images.
    """
    names = _names(judged.total, scheme)
    place = np.empty(judged.total, dtype=np.int64)
    place[np.random.default_rng(42).permutation(judged.total)] = np.arange(judged.total)
    examples = [
        replace(example, split=names[place[position]])
        for example, position in zip(judged.examples, judged.positions, strict=True)
    ]
    if judged.total == RISC_ROWS:
        return examples, []
    text = f"{judged.total} rows: {scheme} is prior work's only on the {RISC_ROWS} rows of the Hub's copy, in its order"
    return examples, [Note("all rows", text)]


def _names(total: int, scheme: str) -> list[str]:
    """The split of each place in the shuffled order."""
    if scheme == "seed42-100-20":
        return (["train"] * 100 + ["val"] * 20 + [UNUSED] * total)[:total]
    val, test = total * 5 // 100, total * 10 // 100
    kept = {"seed42": test, "seed42-test-50": min(50, test), "seed42-test-500": min(500, test)}[scheme]
    return ["train"] * (total - val - test) + ["val"] * val + ["test"] * kept + [UNUSED] * (test - kept)


_SHARES = (("train", 0.8), ("val", 0.9), ("test", 1.0))
_SHARES_BESIDE_A_TEST = (("train", 8 / 9), ("val", 1.0))


def assign_grouped(examples: Sequence[Example]) -> tuple[list[Example], list[Note]]:
    """Split by groups of duplicates; each group goes to train (80 %), val or test (10 % each) by a hash of its ids.

    Where the source has a test split already, a group with an image of it is test, so that no published test image is
    trained on; the other groups go to train and val.

    Two examples are in one group when their images are duplicates (exact, near, flipped or turned: see
    `find_duplicates`), when their caption lists are equal, or when a chain of such pairs joins them.
    """
    pairs = [(pair.first, pair.second) for pair in find_duplicates(examples).pairs]
    groups = connected(len(examples), [*pairs, *_same_captions(examples)])
    names = [""] * len(examples)
    published = any(example.split == "test" for example in examples)
    shares = _SHARES_BESIDE_A_TEST if published else _SHARES
    for members in groups:
        smallest = min(examples[index].id for index in members)
        drawn = uniform("grouped", smallest)
        chosen = next(split for split, edge in shares if drawn < edge)
        for index in members:
            names[index] = "test" if any(examples[one].split == "test" for one in members) else chosen
    text = _grouping(groups) + ("; images of the source's test split stay in test" if published else "")
    return [replace(example, split=name) for example, name in zip(examples, names, strict=True)], [
        Note("all rows", text)
    ]


RATIO_SPLITS = ("train", "val", "test")


def read_ratio(text: str) -> tuple[float, float, float]:
    """`80/10/10` as shares of train, val and test.

    Raises:
        DataError: not three numbers from 0 that sum to 100 (or to 1), or nothing to train on.
    """
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    total = sum(parts)
    if len(parts) != 3 or min(parts) < 0 or parts[0] == 0 or not any(abs(total - whole) < 1e-6 for whole in (1, 100)):
        raise DataError(f"{text!r} is no ratio of train, val and test", hint="three numbers that sum to 100: 80/10/10")
    return parts[0] / total, parts[1] / total, parts[2] / total


def assign_by_ratio(
    examples: Sequence[Example], ratio: tuple[float, float, float], *, seed: int = 0
) -> tuple[list[Example], list[Note]]:
    """Split by groups of duplicates, as `grouped` does, into shares of train, val and test as near as groups allow.

    Groups are taken in an order that a hash of (seed, smallest id) gives: first test, then val is filled up to its
    share, a group that would overfill it goes to the next, and train takes the rest. Groups with an image of the
    source's own test split are test.

    Raises:
        DataError: too few groups for a split whose share is above 0.
    """
    pairs = [(pair.first, pair.second) for pair in find_duplicates(examples).pairs]
    groups = connected(len(examples), [*pairs, *_same_captions(examples)])
    groups.sort(key=lambda members: uniform("ratio", seed, min(examples[index].id for index in members)))
    published = [members for members in groups if any(examples[one].split == "test" for one in members)]
    names = dict.fromkeys((index for members in published for index in members), "test")
    free = [members for members in groups if members[0] not in names]
    for split, share in (("test", 0.0 if published else ratio[2]), ("val", ratio[1])):
        wanted = max(1, round(share * len(examples))) if share else 0
        for members in list(free):
            if len(members) <= wanted and len(free) > 1:
                wanted -= len(members)
                names |= dict.fromkeys(members, split)
                free.remove(members)
    names |= dict.fromkeys((index for members in free for index in members), "train")
    counts = Counter(names.values())
    for split, share in zip(RATIO_SPLITS, ratio, strict=True):
        if share and not counts[split]:
            raise DataError(
                f"{len(examples)} images, of which {len(groups)} differ, are too few for a {split} split",
                hint="add images, or give that split no share: --ratio 80/20/0",
            )
    text = _grouping(groups) + ("; the source's own test images stay in test" if published else "")
    return [replace(example, split=names[index]) for index, example in enumerate(examples)], [Note("all rows", text)]


def _grouping(groups: Sequence[Sequence[int]]) -> str:
    """How many images are duplicates, by their pixels or their captions, and where they go."""
    several = [len(members) for members in groups if len(members) > 1]
    if not several:
        return "no two images are duplicates of each other, nor have the same captions"
    return (
        f"{sum(several):,} images are duplicates or have the same captions, in {len(several):,} groups of up to "
        f"{max(several):,}; a group is never divided between splits"
    )


def _same_captions(examples: Sequence[Example]) -> list[tuple[int, int]]:
    first: dict[tuple[str, ...], int] = {}
    return [(first.setdefault(tuple(sorted(example.captions)), index), index) for index, example in enumerate(examples)]


def split_by_ratio(source: Source, ratio: tuple[float, float, float], *, seed: int = 0) -> Source:
    """The source with a new split: see `assign_by_ratio`."""
    examples, notes = assign_by_ratio(source.examples, ratio, seed=seed)
    scheme = "/".join(f"{100 * share:g}" for share in ratio) + f", seed {seed}"
    return replace(source.with_examples(examples), split_scheme=scheme, notes=(*source.notes, *notes))


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


AMBIGUOUS = "ambiguous"
_LEAST_SHARE = 0.01
"""Restore only where at least this share of rows is known: a fifth is in RISC, none in another data set."""


def caption_hash(captions: Sequence[str]) -> str:
    """48 bits of BLAKE2b over the captions in their order, outer white space dropped, as 12 hexadecimal digits."""
    joined = "\x1f".join(caption.strip() for caption in captions)
    return hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


@cache
def shipped() -> dict[str, Counter[str]]:
    """For each caption hash of RISC's val and test, how many images of each have it."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    text = files("rscap.data").joinpath("risc-official.txt").read_text("ascii")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            split, name = line.split()
            found[name][split] += 1
    return dict(found)


@dataclass(frozen=True, slots=True)
class _Placement:
    split: str
    reason: str | None = None
    """Why the rows are not simply of that split; None where they are."""


def restore_official(judged: Judged) -> tuple[list[Example], list[Note]]:
    """Examples as they are where the source names splits or is not RISC; else with the official ones restored."""
    examples = judged.examples
    if any(example.split != UNSPLIT for example in examples):
        return examples, []
    hashes = [caption_hash(example.captions) for example in examples]
    known = sum(name in shipped() for name in hashes)
    if not known or known < _LEAST_SHARE * len(examples):
        return examples, []
    verdicts = {name: _judge(n, shipped().get(name, Counter())) for name, n in Counter(hashes).items()}
    notes = [Note("all rows", _summary(len(examples), known))]
    restored = []
    for example, name in zip(examples, hashes, strict=True):
        verdict = verdicts[name]
        restored.append(replace(example, split=verdict.split))
        if verdict.reason:
            notes.append(Note(example.id, verdict.reason))
    return restored, notes


def _judge(rows: int, target: Counter[str]) -> _Placement:
    """The split of `rows` rows that share one caption list, which `target` counts by split."""
    if not target:
        return _Placement("train")
    wanted = " and ".join(f"{n} {split}" for split, n in sorted(target.items()))
    if len(target) == 1 and rows <= target.total():
        (split,) = target
        return _Placement(
            split,
            None if rows == target.total() else f"{split}: RISC has {wanted} with these captions, this data set {rows}",
        )
    return _Placement(AMBIGUOUS, f"ambiguous: {rows} rows share these captions, which {wanted} images of RISC have")


def _summary(usable: int, known: int) -> str:
    text = f"RISC's official split is restored: {known:,} of {usable:,} rows have captions of its val or test images"
    part = (
        f"; this is not all of RISC ({RISC_ROWS:,} rows), so a row whose captions several images share may be misplaced"
    )
    return text + ("" if usable == RISC_ROWS else part)
