"""The official split: as the source names it, or restored for RISC's copy on the Hub, which has lost it.

`risc-official.txt` holds a 48-bit hash of the caption list of each of the 4,453 val and 4,454 test images (no caption
can be read from it). A row whose hash is listed is val or test, every other row is train. Where more rows share a
caption list than val or test has, or val and test both have it, the hash cannot tell them apart: such rows are put in
the split `ambiguous`, which neither training nor evaluation uses, and are reported one by one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from rscap.annotations import UNSPLIT
from rscap.data.rows import Judged
from rscap.data.splits.drawn import RISC_ROWS
from rscap.records import Example, Note

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
    text = files("rscap.data.splits").joinpath("risc-official.txt").read_text("ascii")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            split, name = line.split()
            found[name][split] += 1
    return dict(found)


@dataclass(frozen=True, slots=True)
class _Verdict:
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


def _judge(rows: int, target: Counter[str]) -> _Verdict:
    """The split of `rows` rows that share one caption list, which `target` counts by split."""
    if not target:
        return _Verdict("train")
    wanted = " and ".join(f"{n} {split}" for split, n in sorted(target.items()))
    if len(target) == 1 and rows <= target.total():
        (split,) = target
        return _Verdict(split, None if rows == target.total() else f"{split}: {rows} rows here, {wanted} in RISC")
    return _Verdict(AMBIGUOUS, f"ambiguous: {rows} rows share this caption list, which belongs to {wanted} images")


def _summary(usable: int, known: int) -> str:
    text = f"official split restored by caption hashes: {known} rows are known as val or test"
    lacking = f"; {usable} usable rows are not RISC's {RISC_ROWS}, so a missing twin cannot be seen"
    return text + ("" if usable == RISC_ROWS else lacking)
