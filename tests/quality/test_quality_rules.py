"""Quality: consensus agrees with CIDEr by hand, rules remove what they say and report it, test captions stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from rscap.data import MissingImage, Source, choose, open_source
from rscap.data.source import digest
from rscap.errors import DataError, RecipeError
from rscap.quality import QualityRules, consensus, disagreements, select
from rscap.recipe import parse_recipe
from rscap.records import Example
from rscap.scoring import IdfPool, cider_rewards
from rscap.store import RunFolder, read_json, read_jsonl

AGREE = (
    "two white planes are parked near the terminal .",
    "two white planes are parked beside the terminal .",
    "some planes are parked near the terminal .",
    "two planes are near a terminal building .",
)
OUTSIDER = "weather was nice today ."


def made(*captions: tuple[str, ...], split: str = "train") -> Source:
    examples = [
        Example(id=f"{i}", captions=one, image=MissingImage("x"), split=split, source="s")
        for i, one in enumerate(captions)
    ]
    test = Example(id="t", captions=("bad", "bad"), image=MissingImage("x"), split="test", source="s")
    return Source(name="made", examples=[*examples, test], digest=digest([*examples, test]))


OTHERS = tuple((f"a field number {i} with corn .", f"corn grows in field {i} .", f"field {i} .") for i in range(20))


def test_consensus_is_cider_against_the_siblings() -> None:
    """Each caption's consensus is its CIDEr-D with the others as references, in the pool of the split."""
    examples = made((*AGREE, OUTSIDER), *OTHERS).split("train")
    pool = IdfPool.build([example.captions for example in examples])
    captions = examples[0].captions
    expected = [
        float(cider_rewards([captions[i]], [[*captions[:i], *captions[i + 1 :]]], pool)[0])
        for i in range(len(captions))
    ]
    assert consensus(examples)[0] == pytest.approx(expected)
    assert min(range(5), key=consensus(examples)[0].__getitem__) == 4
    assert consensus([Example(id="x", captions=("one .",), image=MissingImage("x"), split="train", source="s")]) == [
        (0.0,)
    ]
    assert consensus([]) == []


def test_the_default_rules_change_nothing() -> None:
    """No rule, no change: same digest, no weight, nothing removed."""
    source = made((*AGREE, OUTSIDER), *OTHERS)
    chosen = select(source, QualityRules())
    assert (chosen.source.digest, chosen.weights, chosen.removed, chosen.dropped_images) == (source.digest, {}, (), ())


def test_rules_act_on_the_training_split_alone() -> None:
    """Test captions stay as published, however bad they are."""
    source = made((*AGREE, OUTSIDER), *OTHERS)
    chosen = select(source, QualityRules(min_words=3, min_consensus=0.5, repeated="drop"))
    assert chosen.source.split("test") == source.split("test")


def test_an_outsider_is_dropped_by_consensus() -> None:
    """The caption that shares nothing with its siblings goes, with its reason; the siblings stay in their order."""
    chosen = select(made((*AGREE, OUTSIDER), *OTHERS), QualityRules(min_consensus=0.05))
    assert chosen.source.examples[0].captions == AGREE
    assert [(one.example_id, one.caption) for one in chosen.removed if one.example_id == "0"] == [("0", OUTSIDER)]
    assert chosen.removed[0].reason.startswith("consensus: 0.0")
    assert chosen.summary().by_reason["consensus"] == len(chosen.removed)


def test_repeated_captions_are_weighed_or_dropped() -> None:
    """A sentence said four times weighs a quarter each, or stays once."""
    captions = ("a b c .", "a b c .", "x y z .", "a b c .", "a b c .")
    weighed = select(made(captions), QualityRules(repeated="weigh"))
    assert weighed.weights == {"0": (0.25, 0.25, 1.0, 0.25, 0.25)}
    dropped = select(made(captions), QualityRules(repeated="drop"))
    assert dropped.source.examples[0].captions == ("a b c .", "x y z .")
    assert dropped.summary().captions_removed == 3


def test_length_and_noise() -> None:
    """Too short, too long and noisy captions go, or weigh the floor; each with its kind."""
    captions = ("one two three four .", "one .", "a b c d e f g h i .", "a  double space .", "a ​hidden thing .")
    rules = QualityRules(min_words=3, max_words=8, noise=("spaces", "invisible"))
    chosen = select(made(captions), rules)
    assert chosen.source.examples[0].captions == captions[:1]
    assert [one.reason for one in chosen.removed] == [
        "length: 2 words",
        "length: 10 words",
        "noise: spaces",
        "noise: invisible",
    ]
    weighed = select(made(captions), QualityRules(noise=("spaces", "invisible"), noisy="weigh", floor=0.2))
    assert weighed.weights["0"] == (1.0, 1.0, 1.0, 0.2, 0.2)
    assert weighed.summary().captions_weighted == 2


def test_weights_follow_consensus_down_to_the_floor() -> None:
    """Weights rise in proportion to consensus, reach 1 at `full_consensus` and never fall below the floor."""
    source = made((*AGREE, OUTSIDER), *OTHERS)
    scores = consensus(source.split("train"))[0]
    chosen = select(source, QualityRules(full_consensus=max(scores), floor=0.1))
    assert chosen.weights["0"] == pytest.approx([max(0.1, score / max(scores)) for score in scores])


def test_an_image_keeps_its_best_captions() -> None:
    """With `keep_at_least` 2 the best two by consensus stay whatever the rules say; with 0 the image goes."""
    source = made((*AGREE, OUTSIDER), *OTHERS)
    scores = consensus(source.split("train"))[0]
    best = sorted(range(5), key=lambda i: -scores[i])[:2]
    kept = select(source, QualityRules(min_words=50, keep_at_least=2))
    assert kept.source.examples[0].captions == tuple((*AGREE, OUTSIDER)[i] for i in sorted(best))
    source = made((*AGREE, OUTSIDER), ("far too short",) * 2)
    gone = select(source, QualityRules(min_words=5, keep_at_least=0))
    assert gone.dropped_images == ("1",)
    assert [example.id for example in gone.source.examples] == ["0", "t"]
    with pytest.raises(DataError, match="leave no image of 'train'"):
        select(source, QualityRules(min_words=50, keep_at_least=0))


def test_what_the_rules_did_is_left_in_the_run_folder(tmp_path: Path) -> None:
    """Every caption removed is on file with its reason, every one weighed down with its weight; both are counted."""
    rules = QualityRules(repeated="weigh", max_words=8)
    chosen = select(made(("one two three .", "one two three .", "four five six ."), (*AGREE, OUTSIDER)), rules)
    run = RunFolder.create(tmp_path / "run")
    chosen.write(run)
    removed, weighted = (read_jsonl(run.path / f"{name}.jsonl") for name in ("removed", "weighted"))
    assert [(row["example_id"], row["caption"]) for row in removed] == [("1", AGREE[0]), ("1", AGREE[1])]
    assert all(row["reason"] == "length: 9 words" for row in removed)
    assert weighted == [{"example_id": "0", "caption": "one two three .", "weight": 0.5}] * 2
    assert read_json(run.path / "quality.json") == {
        "captions_removed": 2,
        "by_reason": {"length": 2},
        "images_dropped": 0,
        "captions_weighted": 2,
        "mean_weight": 0.5,
    }


@pytest.mark.parametrize(
    "rules", [{"full_consensus": 1.0}, {"repeated": "weigh"}, {"noise": ["spaces"], "noisy": "weigh"}]
)
def test_weights_that_no_draw_would_heed_are_refused(rules: dict) -> None:
    """A recipe that weighs captions and learns all of them, or the first, asks for what would not happen."""
    table = {"model": {"base": "nano"}, "adapter": {}}
    for captions in ("all", "first", "longest", "concat"):
        with pytest.raises(RecipeError, match="ignores"):
            parse_recipe({**table, "data": {"source": "sample", "captions": captions, "quality": rules}})
    for captions in ("random", "cycle"):
        parse_recipe({**table, "data": {"source": "sample", "captions": captions, "quality": rules}})
    parse_recipe({**table, "data": {"source": "sample", "captions": "all", "quality": {"min_consensus": 1.0}}})


def test_weights_fit_caption_choice() -> None:
    """The weights are what `choose` takes: a caption weighed to the floor is drawn rarely."""
    chosen = select(made((*AGREE, OUTSIDER), *OTHERS), QualityRules(full_consensus=3.0, floor=0.01))
    example, weights = chosen.source.examples[0], chosen.weights["0"]
    drawn = [
        choose(example.captions, "random", seed=0, epoch=e, example_id="0", weights=weights)[0] for e in range(300)
    ]
    assert drawn.count(OUTSIDER) < 10


@pytest.mark.parametrize(
    "rules",
    [
        {"noise": ("smell",)},
        {"floor": 0},
        {"floor": 2},
        {"keep_at_least": -1},
        {"min_words": 9, "max_words": 3},
        {"repeated": "x"},
    ],
)
def test_impossible_rules_are_refused(rules: dict) -> None:
    """A rule that cannot hold is an error when it is written, not when it is used."""
    with pytest.raises(DataError):
        QualityRules(**rules)


def test_disagreement_names_the_outsider() -> None:
    """The outsider is found with its siblings as evidence; where nobody agrees, nobody is blamed."""
    nobody = ("red roofs .", "blue water flows .", "tall trees stand here .", "cars drive fast .", "ships sail away .")
    (found,) = disagreements(made((*AGREE, OUTSIDER), nobody, *OTHERS), siblings_above=1.0)
    assert (found.kind, found.ids, found.captions[0]) == ("disagreement", ("0",), OUTSIDER)
    assert set(found.captions[1:]) == set(AGREE)


def test_real_captions_same_rules_same_data(real_data: Path) -> None:
    """On Sydney-Captions the same rules remove the same captions twice: some, and fewer than 5 %."""
    source = open_source(real_data / "annotations" / "sydney_dataset.json", check="none")
    rules = QualityRules(min_consensus=0.1, repeated="weigh", full_consensus=1.0)
    first, second = select(source, rules), select(source, rules)
    assert (first.source.digest, first.weights, first.removed) == (second.source.digest, second.weights, second.removed)
    total = sum(len(example.captions) for example in source.split("train"))
    assert 0 < len(first.removed) < 0.05 * total
    assert len(first.weights) > 10
