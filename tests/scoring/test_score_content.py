"""Content errors: what a caption claims and no reference bears out."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout import ROOT, shared
from rscap import scoring
from rscap.errors import ScoreError
from rscap.scoring import METRICS, check_content
from rscap.scoring.content import KINDS, RATES, error_rates, lexicon
from rscap.scoring.content.claims import said

FAST = [metric for metric in METRICS if metric != "METEOR"]
VERDICTS = Path(__file__).parent / "content_verdicts.json"


@pytest.mark.parametrize(
    ("caption", "references", "wrong"),
    [
        ("a river near a road", ["a road between trees"], {"thing": ["river"]}),
        ("an airplane on the runway", ["a plane at an airport"], {}),
        ("a building", ["many houses"], {}),
        ("three white planes", ["two white planes", "two planes"], {"count": ["three planes"]}),
        ("two planes", ["several planes"], {}),
        ("two planes", ["a plane is parked"], {"count": ["two planes"]}),
        ("one plane", ["many planes"], {"count": ["one plane"]}),
        ("planes", ["two planes"], {}),
        ("a red car", ["a white car", "a black car"], {"colour": ["red car"]}),
        ("a red car", ["a car"], {}),
        ("the car is gray", ["a silver car"], {}),
        ("the roofs are red", ["houses with grey roofs"], {"colour": ["roofs: red"]}),
        ("red and white roofs", ["white and orange roofs"], {"colour": ["red roofs"]}),
        ("a house on the left", ["a house on the right side"], {"direction": ["left"]}),
        ("a house on the left", ["a house"], {}),
        ("roads cross at right angles", ["a road on the left"], {}),
        ("a house in the lower left corner", ["a home in the bottom left of the image"], {}),
    ],
)
def test_claims_are_held_against_all_references(
    caption: str, references: list[str], wrong: dict[str, list[str]]
) -> None:
    """Synonyms, kinds and silence are no errors; what every reference contradicts or leaves out of the scene is."""
    assert check_content(caption, references).wrong == wrong


@pytest.mark.parametrize("denial", ["there are no trees", "a road without trees", "there aren't any trees nearby"])
def test_denials_are_understood(denial: str) -> None:
    """To deny a thing does not name it; to deny what references have is an error, and a reference that denies a thing
    does not bear it out."""
    assert "tree" in said(denial).denied
    assert "tree" not in said(denial).named
    assert any(text.startswith("no ") for text in check_content(denial, ["many trees and a road"]).wrong["thing"])
    assert not check_content(denial, [f"{denial} by the road"]).wrong
    assert check_content("many trees", [denial]).wrong == {"thing": ["trees"]}


@pytest.mark.parametrize("caption", ["not many trees and a road", "not far from the trees", "not only trees"])
def test_weak_denials_deny_nothing(caption: str) -> None:
    """Behind "not many" or "not far from" a thing is still there."""
    assert "tree" in said(caption).named


def test_a_denial_ends_with_its_clause() -> None:
    """What stands behind a comma, "but" or "and some" is there."""
    for caption in ("no cars, a river", "no cars but a river", "no cars and some rivers"):
        assert set(said(caption).named) == {"river"}
        assert set(said(caption).denied) == {"car"}
    assert set(said("no cars or rivers").denied) == {"car", "river"}


WORDS = """no not without two three a the many red green white and or , . left right side of on near is are plane planes
tree trees river road roads house roofs building pieces"""
captions = st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join)


@given(captions, st.lists(captions, min_size=1, max_size=3))
def test_a_caption_does_not_contradict_itself(caption: str, others: list[str]) -> None:
    """Where a reference says the same, words of things, counts and colours are right; the order of references and case
    change nothing; wrong claims are among the claims."""
    found = check_content(caption, [*others, caption])
    assert not {kind for kind in found.wrong if kind != "thing"}
    assert not [text for text in found.wrong.get("thing", []) if not text.startswith("no ")]
    alone = check_content(caption, others)
    assert alone == check_content(caption.upper(), others[::-1])
    assert all(len(alone.wrong.get(kind, [])) <= alone.claims[kind] for kind in KINDS)


def test_rates_are_in_the_sheet() -> None:
    """Rates are wrong claims over all claims, with an interval around them; the images and words are listed, the word
    lists' version is in the signature, and without `content` nothing of this is there and no other number differs."""
    candidates = {f"{n}": "a red plane near a river" if n % 3 else "two planes" for n in range(30)}
    references = {f"{n}": ["a white plane near a road", "one plane"] for n in range(30)}
    sheet = scoring.score_captions(candidates, references, metrics=FAST, draws=200, content=True)
    rates = sheet.extra["content"]["rates"]
    assert (rates["thing-errors"]["wrong"], rates["thing-errors"]["claims"]) == (20, 50)
    assert rates["thing-errors"]["rate"] == 20 / 50
    assert rates["count-errors"]["rate"] == rates["colour-errors"]["rate"] == 1.0
    low, high = rates["thing-errors"]["interval"]
    assert low < 20 / 50 < high
    assert "direction-errors" not in rates, "nothing could be checked"
    assert sheet.extra["content"]["wrong"]["1"] == {"thing": ["river"], "colour": ["red plane"]}
    assert f"content:{lexicon.VERSION}" in sheet.signature.split("|")
    plain = scoring.score_captions(candidates, references, metrics=FAST, draws=200)
    assert "content" not in plain.signature
    assert (plain.corpus, plain.items, plain.intervals) == (sheet.corpus, sheet.items, sheet.intervals)
    assert {key for key in sheet.extra if key not in plain.extra} == {"content"}
    assert json.loads(scoring.sheet_text(sheet))["content"] == sheet.extra["content"]


def test_two_systems_are_compared_by_their_errors() -> None:
    """`compare` takes the rates as metrics of which less is better, from kept statistics; other word lists refuse."""
    references = {f"{n}": ["a plane near a road"] for n in range(40)}
    good = scoring.score_captions(
        dict.fromkeys(references, "a plane near a road"), references, metrics=FAST, content=True
    )
    bad = {i: "a plane near a river" if int(i) % 2 else "a plane" for i in references}
    worse = scoring.score_captions(bad, references, metrics=FAST, content=True)
    found = scoring.compare({"good": good, "worse": worse}, "thing-errors", draws=300)
    assert [one.score for one in found.systems] == [0.0, 20 / 60]
    assert not found.higher_is_better
    assert found.differences[0].p_holm < 0.05
    assert "good" in found.differences[0].sentence
    worse.extra["content"]["version"] = "0"
    with pytest.raises(ScoreError, match="different word lists"):
        scoring.compare({"good": good, "worse": worse}, "thing-errors")
    plain = scoring.score_captions(bad, references, metrics=FAST)
    with pytest.raises(ScoreError, match="no score for thing-errors"):
        scoring.compare({"good": good, "plain": plain}, "thing-errors")


def test_the_word_lists_are_sound() -> None:
    """Every name that a relation uses is a thing, no phrase stands for two things, and no list holds an empty word."""
    for thing, others in lexicon.IS_SHOWN_BY.items():
        assert {thing, *(other.strip() for other in others.split(","))} <= set(lexicon.SCENE)
    forms = [form.strip() for listed in lexicon.SCENE.values() for form in listed.split(",")]
    assert [form for form, count in Counter(forms).items() if count > 1] == []
    assert all(forms)


def hand_checked() -> dict[str, Counter[str]]:
    """By kind: claims, wrong ones that both sides name (`both`), the program alone, and the reader alone."""
    with (shared("data") / "risc-mini" / "captions.csv").open(encoding="utf-8", newline="") as lines:
        texts = {row["image"]: [row[f"caption_{number}"] for number in range(1, 6)] for row in csv.DictReader(lines)}
    found = {kind: Counter[str]() for kind in KINDS}
    for verdict in json.loads(VERDICTS.read_text(encoding="utf-8")):
        caption = texts[verdict["caption_of"]][verdict["caption"] - 1]
        checked = check_content(caption, texts[verdict["image"]])
        for kind in KINDS:
            wanted, told = list(verdict["wrong"].get(kind, [])), list(checked.wrong.get(kind, []))
            for word in list(wanted):
                hit = next((text for text in told if word in text), None)
                if hit is not None:
                    wanted.remove(word)
                    told.remove(hit)
                    found[kind]["both"] += 1
            found[kind]["program alone"] += len(told)
            found[kind]["reader alone"] += len(wanted)
            found[kind]["claims"] += checked.claims[kind]
    return found


def test_precision_and_recall_are_those_documented() -> None:
    """On 200 captions that a reader judged before the program had seen them, the figures of docs/content.md hold."""
    found = hand_checked()
    assert len(json.loads(VERDICTS.read_text(encoding="utf-8"))) == 200
    text = (ROOT / "docs" / "content.md").read_text(encoding="utf-8")
    for kind, counts in found.items():
        both, program, reader = counts["both"], counts["program alone"], counts["reader alone"]
        row = f"| {kind} | {counts['claims']} | {both} | {program} | {reader} | "
        row += f"{both / (both + program):.2f} | {both / (both + reader):.2f} |"
        assert row in text


def test_the_example_of_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """The block of docs/content.md runs, and prints the comment behind its last line."""
    text = (ROOT / "docs" / "content.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(block, "docs/content.md", "exec"), {})
    assert capsys.readouterr().out.strip() == block.rstrip().rpartition("# ")[2]


def test_kinds_and_words_are_documented() -> None:
    """docs/content.md names each kind, each rate and the version of the word lists."""
    text = (ROOT / "docs" / "content.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in RATES)
    assert f"`content:{lexicon.VERSION}`" in text


def test_rates_are_wrong_claims_over_all_claims() -> None:
    """Of several captions together, as training watches them; a kind that nothing claims has no rate."""
    captions = ["a river near a road", "three white planes"]
    references = [["a road between trees"], ["two white planes"]]
    assert error_rates(captions, references) == pytest.approx(
        {"thing-errors": 1 / 3, "count-errors": 1.0, "colour-errors": 0.0}
    )
    assert error_rates([], []) == {}
