"""`tools/study_data.py`: the data of the studies `adapt` and `decoding`, cut from one folder."""

from __future__ import annotations

import csv
import importlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from checkout import ROOT
from rscap.data import open_source
from rscap.data.draw import uniform
from rscap.records import Example

COUNTS = {
    ("train", "RSICD", True): 60,
    ("train", "RSICD", False): 30,
    ("val", "RSICD", False): 12,
    ("val", "NWPU", False): 10,
    ("test", "NWPU", False): 16,
    ("test", "RSICD", False): 10,
    ("test", "RSICD", True): 6,
}
"""Images by split, source, and whether their references are one sentence, much as in risc-mini."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "resized").mkdir(parents=True)
    generator = np.random.default_rng(0)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "split", "image", "caption_1", "caption_2"])
        for (split, source, same), count in COUNTS.items():
            for number in range(count):
                name = f"{source}_{split}_{int(same)}_{number}.png"
                pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "resized" / name)
                writer.writerow(
                    [source, split, name, f"a field {number} .", f"a {'' if same else 'green '}field {number} ."]
                )
    return folder


def kind(example: Example) -> tuple[str, bool]:
    return example.source, len(set(example.captions)) == 1


def test_folders_hold_what_the_studies_need_and_no_test_image(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New images of one source, the same with as many old ones, and validation images in the test split's proportions,
    of which a likelihood run with this share has seen none. Every folder opens; one that exists is left alone."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool, out = importlib.import_module("study_data"), tmp_path / "out"
    tool.main([str(data), str(out), "--share", "0.3"])
    whole = {example.id: example for example in open_source(str(data)).examples}
    new, mixed, validation = (open_source(str(out / name)).examples for name in ("new", "mixed", "validation"))
    assert Counter(map(kind, new)) == {("NWPU", False): 10}
    assert {one.id for one in new} < {one.id for one in mixed}
    assert len(mixed) == 2 * len(new)
    assert {one.split for one in (*new, *mixed)} == {"train"}
    for one in (*new, *mixed, *validation):
        assert whole[one.id].split != "test"
        assert one.image.data() == whole[one.id].image.data()
        assert one.captions == whole[one.id].captions

    assert {one.split for one in validation} == {"val"}
    held = Counter(
        map(kind, (one for one in whole.values() if one.split == "train" and uniform("reward", one.id) < 0.3))
    )
    scale = min(10 / 16, (12 + held["RSICD", False]) / 10, held["RSICD", True] / 6)
    assert Counter(map(kind, validation)) == {
        ("NWPU", False): round(16 * scale),
        ("RSICD", False): round(10 * scale),
        ("RSICD", True): round(6 * scale),
    }
    assert all(whole[one.id].split == "val" or uniform("reward", one.id) < 0.3 for one in validation)
    with pytest.raises(SystemExit, match="exists"):
        tool.main([str(data), str(out)])
