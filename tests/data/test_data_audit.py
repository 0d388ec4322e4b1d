"""The audit: planted duplicates are found, real look-alikes are not, noise and leaks are named with their evidence."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from checkout import ROOT
from rscap.data import FileImage, MissingImage, PixelImage, Source, open_source
from rscap.data.audit import KINDS, Audit, audit
from rscap.data.audit.captions import _one_edit
from rscap.data.audit.duplicates import TURNS, Duplicates, find_duplicates, turned
from rscap.data.audit.search import RIVALS, keys, search, turned_print
from rscap.data.groups import connected
from rscap.data.measure import FREQUENCIES, SIDE, border, fingerprint, measure, without_border
from rscap.data.source import digest
from rscap.data.splits import assign_grouped
from rscap.records import Example


def held(picture: Image.Image) -> PixelImage:
    """An image in memory."""
    return PixelImage(picture, "held")


@pytest.fixture(scope="module")
def copies() -> Iterator[ModuleType]:
    """benchmarks/duplicates.py, which knows how copies are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("duplicates")
        sys.modules.pop("duplicates")


@pytest.fixture(scope="module")
def mini(real_data: Path) -> Source:
    return open_source(real_data / "risc-mini", check="none")


@pytest.fixture(scope="module")
def found_in_mini(mini: Source) -> Duplicates:
    return find_duplicates(mini.examples)


def test_the_one_duplicate_pair_of_risc_mini(mini: Source, found_in_mini: Duplicates) -> None:
    """Among 4,380 real images there is one near-duplicate, a house seen twice a few pixels apart, and no false pair."""
    pairs = {(mini.examples[pair.first].id, mini.examples[pair.second].id) for pair in found_in_mini.pairs}
    assert pairs == {("UCM_1852.jpg", "UCM_1855.jpg")}
    assert found_in_mini.pairs[0].similarity > 0.97
    assert found_in_mini.candidates >= 15  # look-alikes that were looked at and refused


@pytest.mark.parametrize(
    "kind", ["recompressed", "resized", "flipped", "turned", "shifted", "shifted_over_black", "rolled"]
)
def test_planted_duplicates_are_found(mini: Source, copies: ModuleType, kind: str) -> None:
    """Of 40 real images planted again, recompressed, resized, flipped, turned or shifted, at least 95 % are found."""
    plant = getattr(copies, kind)
    rng = np.random.default_rng(7)
    originals = [mini.examples[i] for i in rng.choice(len(mini.examples), 40, replace=False)]
    planted = [replace(one, id=f"copy {one.id}", image=held(plant(one.image.load(), rng))) for one in originals]
    pairs = {(pair.first, pair.second) for pair in find_duplicates([*originals, *planted]).pairs}
    assert len(pairs & {(i, i + 40) for i in range(40)}) >= 38
    assert pairs <= {(i, i + 40) for i in range(40)}


def picture(seed: int, side: int = 96) -> Image.Image:
    """A smooth random picture without symmetry."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def example(name: str, image: object, captions: tuple[str, ...] = ("a plane .",), split: str = "train") -> Example:
    return Example(id=name, captions=captions, image=image, split=split, source="s")  # type: ignore[arg-type]


@pytest.mark.parametrize("turn", range(8))
def test_the_turn_that_is_reported_lays_the_second_on_the_first(turn: int) -> None:
    """For each flip and turn: the copy is found, and moving it as reported gives the original back."""
    pixels = np.asarray(picture(3))
    copy = np.stack([turned(pixels[..., channel], turn) for channel in range(3)], axis=2)
    copy = np.clip(copy.astype(int) + 1, 0, 255).astype(np.uint8)  # not exactly equal
    for first, second in ((pixels, copy), (copy, pixels)):
        images = [held(Image.fromarray(np.ascontiguousarray(one))) for one in (first, second)]
        (pair,) = find_duplicates([example("a", images[0]), example("b", images[1])]).pairs
        back = turned(second[..., 0], TURNS.index(pair.turn))
        assert np.abs(back.astype(int) - first[..., 0].astype(int)).max() <= 1


def test_turn_names_mean_what_they_say() -> None:
    """Names agree with Pillow's own operations."""
    grey = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    image = Image.fromarray(grey)
    for name, operation in {
        "flipped left-right": Image.Transpose.FLIP_LEFT_RIGHT,
        "flipped top-bottom": Image.Transpose.FLIP_TOP_BOTTOM,
        "turned by 180°": Image.Transpose.ROTATE_180,
        "turned by 90° anticlockwise": Image.Transpose.ROTATE_90,
        "turned by 90° clockwise": Image.Transpose.ROTATE_270,
        "transposed": Image.Transpose.TRANSPOSE,
        "transposed crosswise": Image.Transpose.TRANSVERSE,
    }.items():
        assert np.array_equal(turned(grey, TURNS.index(name)), np.asarray(image.transpose(operation))), name


@pytest.mark.parametrize("turn", range(8))
def test_fingerprints_turn_like_pictures(turn: int) -> None:
    """The fingerprint of a turned picture is the turned fingerprint."""
    small = picture(5, SIDE)
    pixels = np.asarray(small)
    moved = Image.fromarray(np.ascontiguousarray(np.stack([turned(pixels[..., c], turn) for c in range(3)], axis=2)))
    assert np.allclose(turned_print(fingerprint(small)[None], turn)[0], fingerprint(moved), atol=1e-4)


def test_the_fingerprint_is_a_unit_spectrum() -> None:
    """Length 1, no brightness; one colour gives zeros; it agrees with a cosine transform summed by hand."""
    small = picture(1, SIDE)
    grey = np.asarray(small.convert("L"), dtype=float)
    place = (np.arange(SIDE) + 0.5) * np.pi / SIDE
    spectrum = np.array(
        [
            [
                np.hypot(u, v) * (np.cos(u * place)[:, None] * np.cos(v * place)[None, :] * grey).sum()
                for v in range(FREQUENCIES)
            ]
            for u in range(FREQUENCIES)
        ]
    )
    assert np.allclose(fingerprint(small), spectrum / np.linalg.norm(spectrum), atol=1e-4)
    assert not fingerprint(Image.new("RGB", (SIDE, SIDE), "red")).any()


def test_measures_of_a_known_picture() -> None:
    """Brightness, contrast, colour and size of a half black, half white picture; equal pixels have equal digests."""
    half = Image.new("RGB", (64, 32))
    half.paste("white", (0, 0, 32, 32))
    facts = measure(half)
    assert (facts.width, facts.height, facts.brightness, facts.contrast) == (64, 32, 127.5, 127.5)
    assert facts.colour == (127.5, 127.5, 127.5)
    assert measure(half.copy()).pixels == facts.pixels != measure(half.resize((32, 64))).pixels


def test_borders_without_data_are_overwritten() -> None:
    """Black and white strips of up to an eighth of the side give way to the line next to them; a dark picture stays."""
    bright = Image.fromarray(np.random.default_rng(0).integers(60, 200, (80, 80, 3), dtype=np.uint8))
    assert without_border(bright, bright.convert("L")) is bright
    pixels = np.asarray(bright).copy()
    pixels[:4], pixels[:, -3:] = 0, 255
    found = np.asarray(without_border(Image.fromarray(pixels), Image.fromarray(pixels).convert("L")))
    assert border(np.asarray(Image.fromarray(pixels).convert("L"))) == (6, 0, 0, 5)
    assert np.array_equal(found[6:, :-5], pixels[6:, :-5])
    assert np.array_equal(found[:6, :-5], np.broadcast_to(pixels[6, :-5], (6, 75, 3)))
    dark = Image.new("RGB", (80, 80), (9, 9, 9))
    assert border(np.asarray(dark.convert("L"))) == (10, 10, 10, 10)
    assert np.array_equal(np.asarray(without_border(dark, dark.convert("L"))), np.asarray(dark))


def test_pictures_whose_greys_spread_otherwise_are_not_compared() -> None:
    """A fifth more contrast is a copy still, a third more is not, for equal fingerprints and colours."""
    prints = np.repeat(fingerprint(picture(1, SIDE))[None], 2, axis=0)
    colours, both = np.full((2, 3), 99.0, dtype=np.float32), np.arange(2)
    for ratio, pairs in ((1.2, 1), (1.33, 0)):
        assert len(search(prints, colours, np.array([30.0, 30.0 * ratio], dtype=np.float32), both).first) == pairs


def test_the_spread_of_greys_is_that_of_the_picture_however_it_lies() -> None:
    """Turns do not change it, nor does a black strip at the edge, and it is what numpy says of the shrunk picture."""
    square = picture(2, SIDE)
    grey = np.asarray(square.convert("L"), dtype=np.float32)
    assert measure(square).spread == pytest.approx(grey.std(), rel=1e-5)
    assert measure(square.transpose(Image.Transpose.ROTATE_90)).spread == pytest.approx(grey.std(), rel=1e-5)
    large = picture(2, 224)
    shifted = large.transform(large.size, Image.Transform.AFFINE, (1, 0, 5, 0, 1, 0))
    assert measure(shifted).spread == pytest.approx(measure(large).spread, rel=0.05)


def test_exact_copies_are_one_finding_each() -> None:
    """Of n equal pictures n - 1 pairs are reported, whatever their files are called."""
    copies = [example(f"{i}.png", held(picture(1))) for i in range(4)]
    found = find_duplicates([*copies, example("other", held(picture(2)))])
    assert [(pair.first, pair.second, pair.exact) for pair in found.pairs] == [(0, 1, True), (0, 2, True), (0, 3, True)]


@pytest.mark.parametrize("turn", range(8))
def test_keys_are_the_same_for_turned_pictures(turn: int) -> None:
    """The search finds a copy whichever way it lies: a turned fingerprint has the very keys of the first."""
    prints = np.stack([fingerprint(picture(seed, SIDE)) for seed in range(20)])
    assert np.array_equal(np.sort(keys(turned_print(prints, turn)), axis=1), np.sort(keys(prints), axis=1))


def test_pairs_that_share_no_key_are_not_compared() -> None:
    """Of 300 unlike pictures next to none of the 44,850 pairs is named, all turned copies are, with their turn."""
    prints = np.stack([fingerprint(picture(seed, SIDE)) for seed in range(300)])
    turns = np.arange(300) % 8
    copies = np.stack([turned_print(one, int(turn)) for one, turn in zip(prints, turns, strict=True)])
    found = search(
        np.concatenate([prints, copies]),
        np.full((600, 3), 99.0, dtype=np.float32),
        np.full(600, 40.0, dtype=np.float32),
        np.arange(600),
    )
    named = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert {(i, i + 300) for i in range(300)} <= named
    assert len(named) < 320
    for first, second, turn in zip(*found, strict=True):
        if second == first + 300:
            assert np.allclose(turned_print(copies[first], int(turn)), prints[first], atol=1e-6)


def test_many_copies_of_one_picture_cost_no_more_each(mini: Source) -> None:
    """150 noisy copies of one photograph are one group, joined by 149 pairs; candidates are bounded for each image."""
    rng = np.random.default_rng(0)
    pixels = np.asarray(mini.examples[5].image.load()).astype(int)
    noisy = [np.clip(pixels + rng.integers(-3, 4, pixels.shape), 0, 255).astype(np.uint8) for _ in range(150)]
    copies = [example(f"{i}", held(Image.fromarray(one))) for i, one in enumerate(noisy)]
    found = find_duplicates(copies)
    pairs = [(pair.first, pair.second) for pair in found.pairs]
    assert len(connected(150, pairs)) == 1
    assert len(pairs) == 149
    assert found.candidates <= RIVALS * 150


def source(examples: list[Example]) -> Source:
    return Source(name="made", examples=examples, digest=digest(examples))


def findings(audited: Audit, kind: str) -> list[tuple[str, ...]]:
    return [one.ids for one in audited.findings if one.kind == kind]


def test_a_duplicate_across_splits_is_an_error_and_within_one_a_warning() -> None:
    """Leaks are errors and counted from the side of val and test."""
    for split, severity, leaks in (("test", "error", {"test in train": 1}), ("train", "warning", {})):
        found = audit(
            source([example("a", held(picture(1)), ("x y z .",)), example("b", held(picture(1)), ("u v w .",), split)])
        )
        assert [(one.kind, one.severity) for one in found.findings] == [("exact-duplicate", severity)]
        assert (found.leaks, found.worst) == (leaks, severity)


def test_unreadable_and_odd_images_are_found(tmp_path: Path) -> None:
    """A broken file is an error; one colour, tiny and far from square are warnings; the others are still compared."""
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    examples = [
        example("broken", FileImage(tmp_path / "broken.jpg")),
        example("flat", held(Image.new("RGB", (64, 64), "blue"))),
        example("tiny", held(picture(1, 20))),
        example("long", held(picture(2).resize((500, 60)))),
        example("fine", held(picture(3))),
        example("copy", held(picture(3))),
    ]
    found = audit(source(examples))
    assert findings(found, "unreadable-image") == [("broken",)]
    assert findings(found, "odd-image") == [("flat",), ("tiny",), ("long",)]
    assert findings(found, "exact-duplicate") == [("fine", "copy")]


def test_a_missing_image_among_others_is_an_error() -> None:
    """An image that is named and not there is found; where there are no images at all, captions alone were wanted."""
    there = example("there", held(picture(1)), ("one two three .",))
    gone = example("gone", MissingImage("gone.jpg"), ("four five six .",))
    found = audit(source([there, gone]))
    assert [(one.kind, one.severity, one.ids) for one in found.findings] == [("missing-image", "error", ("gone",))]
    assert (found.examples, found.images) == (2, 1)
    alone = audit(source([gone]))
    assert (alone.findings, alone.images) == ((), 0)


def noisy(caption: str) -> dict[str, str]:
    """The findings about one caption among clean ones, kind and detail."""
    clean = [example(f"{i}", MissingImage("x"), (f"a plane number {i} .",)) for i in range(5)]
    found = audit(source([*clean, example("bad", MissingImage("x"), (caption,))]))
    return {one.kind: one.detail for one in found.findings if "bad" in one.ids}


@pytest.mark.parametrize(
    ("caption", "kind", "detail"),
    [
        ("a plane <image> on the <eos> runway .", "special-token", "<image>, <eos> would be read as a token"),
        ("a <loc0123> plane is here .", "special-token", "<loc0123>"),
        ("the city\u0092s planes are here .", "non-ascii", "’ read as Latin-1 instead of windows-1252"),
        ("two planes on the café .", "non-ascii", "LATIN SMALL LETTER E WITH ACUTE"),
        ("two \u200b\u200bplanes here .", "invisible", "U+200B"),
        ("two  planes here .", "spaces", "doubled"),
        (" two planes here .", "spaces", "leading"),
        ("two planes\nare here .", "spaces", "white space"),
        ("two planes are here", "no-full-stop", "are here"),
        ("planes .", "too-short", "1 words"),
        ("two planes planes are here .", "repeated-word", "planes planes"),
    ],
)
def test_each_kind_of_text_noise_is_named(caption: str, kind: str, detail: str) -> None:
    """One kind of noise gives one finding with what is wrong."""
    assert list(noisy(caption)) == [kind]
    assert detail in noisy(caption)[kind]


def test_clean_captions_are_not_blamed() -> None:
    """An ordinary caption, with a comma, a hyphen, an apostrophe and digits, gives no finding."""
    assert noisy("there are 2 open-air fields, a plane's shadow and 2 2 lanes .") == {}


def test_full_stops_are_missed_only_where_most_have_them() -> None:
    """In a data set without full stops nothing is missing."""
    captions = [example(f"{i}", MissingImage("x"), (f"a plane number {i}",)) for i in range(5)]
    assert audit(source(captions)).findings == ()


def test_likely_typos_are_found_and_forms_of_a_word_are_not() -> None:
    """`buidings`, `buildngs` and `biuldings` are found beside 100 `buildings`; `building` is a form of it."""
    words = ["buidings", "buildngs", "biuldings", "building"]
    many = [example(f"{i}", MissingImage("x"), (f"buildings near tree {i} .",)) for i in range(100)]
    rare = [example(word, MissingImage("x"), (f"some {word} here .",)) for word in words]
    found = audit(source([*many, *rare]))
    assert sorted(ids[0] for ids in findings(found, "likely-typo")) == ["biuldings", "buidings", "buildngs"]
    assert {one.extra["meant"] for one in found.findings if one.kind == "likely-typo"} == {"buildings"}


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("abc", "abd", True),
        ("abc", "acb", True),
        ("abc", "ab", True),
        ("abc", "abc", True),
        ("abcd", "badc", False),
        ("abc", "xyc", False),
        ("abcd", "ab", False),
        ("", "a", True),
        ("ab", "ba", True),
        ("abc", "cba", False),
    ],
)
def test_one_edit(one: str, other: str, near: bool) -> None:
    """One letter added, left out, changed or swapped with its neighbour is one edit, in both directions."""
    assert _one_edit(one, other) == _one_edit(other, one) == near


def test_caption_lists_and_captions_across_splits() -> None:
    """The same list in another order is the same; across splits it is an error; a shared sentence is a note."""
    rows = [
        example("a", MissingImage("x"), ("one two three .", "four five six .")),
        example("b", MissingImage("x"), ("four five six .", "one two three ."), "test"),
        example("c", MissingImage("x"), ("One two three .", "seven eight nine ."), "val"),
    ]
    found = audit(source(rows))
    assert findings(found, "same-captions") == [("a", "b")]
    assert findings(found, "repeated-caption") == []
    assert sorted(findings(found, "shared-caption")) == [("a", "b"), ("a", "b", "c")]
    assert found.leaks == {"test in train": 1, "val in train": 0, "test in val": 0}


def test_captions_repeated_within_a_split_are_notes() -> None:
    """A sentence on two images of one split is found once, with both; a sentence five times on one image is not."""
    rows = [
        example("a", MissingImage("x"), ("one two three .",) * 2),
        example("b", MissingImage("x"), ("One two three .", "four five six .")),
    ]
    (found,) = [one for one in audit(source(rows)).findings if one.kind == "repeated-caption"]
    assert (found.ids, found.severity, found.detail) == (("a", "b"), "note", "the caption of 2 train images")


def test_errors_of_a_kind_come_first() -> None:
    """Among equal caption lists those across splits stand before those within one."""
    rows = [
        example("a", MissingImage("x"), ("one two three .",)),
        example("b", MissingImage("x"), ("one two three .",)),
        example("c", MissingImage("x"), ("four five six .",)),
        example("d", MissingImage("x"), ("four five six .",), "test"),
    ]
    assert findings(audit(source(rows)), "same-captions") == [("c", "d"), ("a", "b")]


def test_leaks_follow_chains_of_duplicates() -> None:
    """A test image whose copy's copy is in train counts, though no pair joins the two."""
    rows = [
        example("a", held(picture(1)), ("one two .",)),
        example("b", held(picture(1)), ("two three .",), "unused"),
        example("c", held(picture(1)), ("three four .",), "test"),
    ]
    assert audit(source(rows)).leaks == {"test in train": 1}


def test_leaks_count_every_image_of_a_large_group() -> None:
    """A caption list on 200 images lists 50 ids and still counts all its test images."""
    rows = [
        example(f"{i}", MissingImage("x"), ("one two three .",), "train" if i < 150 else "test") for i in range(200)
    ]
    found = audit(source(rows))
    (group,) = [one for one in found.findings if one.kind == "same-captions"]
    assert (len(group.ids), group.count, found.leaks) == (50, 200, {"test in train": 50})


def test_the_audit_of_the_test_annotations(real_data: Path) -> None:
    """RISC's test captions: 330 images with one caption five times; kinds come in their order."""
    found = audit(open_source(real_data / "annotations" / "risc_test_captions.jsonl", check="none"))
    assert found.counts["one-caption"] == 330
    assert list(found.counts) == [kind for kind in KINDS if kind in found.counts]


def test_connected_components() -> None:
    """Chains join; what no pair touches stands alone."""
    assert connected(6, [(0, 2), (4, 2), (5, 3)]) == [[0, 2, 4], [1], [3, 5]]


def test_grouped_keeps_duplicates_and_equal_captions_together() -> None:
    """Copies and equal caption lists share a split; shares are near 80 / 10 / 10; row order changes nothing."""
    rows = [example(f"{i}", held(picture(i, 48)), (f"c {i} .",)) for i in range(150)]
    rows += [
        example(f"copy {i}", held(picture(i, 48).transpose(Image.Transpose.ROTATE_90)), (f"d {i} .",))
        for i in range(20)
    ]
    rows += [example(f"same {i}", MissingImage("x"), (f"c {i} .",)) for i in range(20, 40)]
    split = {one.id: one.split for one in assign_grouped(rows)[0]}
    assert all(split[f"{i}"] == split[f"copy {i}"] for i in range(20))
    assert all(split[f"{i}"] == split[f"same {i}"] for i in range(20, 40))
    assert set(split.values()) == {"train", "val", "test"}
    assert 0.65 < sum(name == "train" for name in split.values()) / len(split) < 0.95
    assert {one.id: one.split for one in assign_grouped(rows[::-1])[0]} == split


def test_grouped_never_trains_on_a_published_test_image() -> None:
    """Test images, and training images that duplicate one, are test; the others are split into train and val."""
    rows = [example(f"{i}", held(picture(i, 48)), (f"c {i} .",), "test" if i < 20 else "train") for i in range(120)]
    rows += [example("copy", held(picture(3, 48)), ("d .",), "train")]
    examples, notes = assign_grouped(rows)
    split = {one.id: one.split for one in examples}
    assert {name for name, own in split.items() if own == "test"} == {*(f"{i}" for i in range(20)), "copy"}
    assert set(split.values()) == {"train", "val", "test"}
    assert "stay in test" in notes[0].text


def test_grouped_on_real_images_leaks_nothing(mini: Source) -> None:
    """On the test images of risc-mini no duplicate and no caption list crosses a split of `grouped`."""
    examples, notes = assign_grouped([replace(example, split="all") for example in mini.split("test")])
    regrouped = audit(source(examples))
    assert set(regrouped.leaks.values()) == {0}
    assert "a group is never divided between splits" in notes[0].text
