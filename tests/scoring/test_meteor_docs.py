"""The page docs/meteor.md: its code runs, and what it says of single words holds."""

from __future__ import annotations

import re

import pytest

from checkout import ROOT
from rscap.scoring.meteor import Meteor, MeteorUnavailable

PAGE = (ROOT / "docs" / "meteor.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def meteor() -> Meteor:
    try:
        return Meteor()
    except MeteorUnavailable as error:
        pytest.skip(str(error))


def test_the_example_runs(meteor: Meteor) -> None:
    """The Python block gives arrays of the stated shapes."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    names: dict[str, object] = {}
    exec(block, names)
    assert names["scores"].shape == (1,)  # type: ignore[attr-defined]
    assert names["counts"].shape == (1, 23)  # type: ignore[attr-defined]
    assert names["corpus"] == pytest.approx(names["scores"][0])  # type: ignore[index]


def test_contested_synonyms(meteor: Meteor) -> None:
    """`house` alone does not match `home`, `dwelling` does; beside a matched word `house` does too."""
    assert meteor.item_scores(["house"], [["home"]])[0] == 0
    assert meteor.item_scores(["dwelling"], [["home"]])[0] == pytest.approx(0.8)
    assert meteor.item_scores(["a house"], [["a home"]])[0] == pytest.approx(0.85)
