"""Outputs that are no caption are recognised; captions that people wrote are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from rscap import scoring


@pytest.mark.parametrize(
    ("caption", "prefix", "kinds"),
    [
        ("", None, ("empty",)),
        (" .\n", None, ("empty",)),
        ("<loc0001><seg012>", None, ("non-language",)),
        ("caption caption caption caption", None, ("loop",)),
        ("package package package", None, ("loop",)),
        ("a plane on the runway a plane on the runway", None, ("loop",)),
        ("there is a a a a a a road", None, ("loop",)),
        ("many trees and many trees and many trees and a road", None, ("loop",)),
        ("caption en a plane", "caption en\n", ("prompt-echo",)),
        ("Describe this remote sensing image.", "Describe this remote sensing image.", ("prompt-echo",)),
        ("caption", "caption", ("prompt-echo",)),
        ("caption caption caption caption", "caption", ("loop",)),
        ("1 2 3 4 5 %% 88 / 77", None, ("non-language",)),
        ("\ufffd\ufffd plane", None, ("non-language",)),
        ("x" * 41, None, ("non-language",)),
        ("a plane", "a", ()),
        ("many many trees around a very very big lake", None, ()),
        ("Eine Brücke über den Fluß.", "caption en", ()),
        ("一架飞机停在跑道上", None, ()),
        ("There are 4 planes.", "caption en", ()),
    ],
)
def test_kinds(caption: str, prefix: str | None, kinds: tuple[str, ...]) -> None:
    """Each kind of degenerate output is recognised, and unusual captions are not taken for one."""
    assert scoring.degenerate(caption, prefix) == kinds


def test_human_captions(real_data: Path) -> None:
    """Of 22,000 distinct human captions only the two that do repeat themselves are flagged."""
    captions = set()
    for name in ("risc_val_captions.jsonl", "risc_test_captions.jsonl", "ucm_dataset.json", "sydney_dataset.json"):
        split = {"ucm_dataset.json": "train", "sydney_dataset.json": "train"}.get(name)
        for own in scoring.load_references(real_data / "annotations" / name, split).values():
            captions.update(own)
    flagged = {caption: kinds for caption in captions if (kinds := scoring.degenerate(caption, "caption en"))}
    assert set(flagged.values()) <= {("loop",)}
    assert len(flagged) <= 2
