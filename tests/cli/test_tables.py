"""Tables of scores on a screen, in a file and in a narrow terminal."""

from __future__ import annotations

import pytest

from rscap.cli.screen import print_sheets, signature_lines
from rscap.metrics import METRICS
from rscap.records import ScoreSheet

SHEET = ScoreSheet(
    signature="protocol:coco",
    n=1192,
    corpus=dict.fromkeys(METRICS, 0.5),
    intervals={"CIDEr": (0.4, 0.6)},
    items={},
)


@pytest.mark.parametrize(("columns", "whole"), [(20, False), (80, False), (120, True)])
def test_no_figure_is_cut(
    columns: int, whole: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A narrow screen does without two metrics and says which; figures are always whole, and a name folds only where
    the figures alone are wider than the screen."""
    monkeypatch.setenv("COLUMNS", str(columns))
    print_sheets({"baselines/nearest": SHEET})
    heading, row, *rest = capsys.readouterr().out.splitlines()
    name = "baselines/nearest" if columns > 20 else "baselines/"
    assert row.split() == [name, *["0.500"] * (7 if whole else 5), "[0.400,", "0.600]", "1,192"]
    assert ("BLEU-2" in heading) == whole
    assert ("BLEU-2 and BLEU-3 do not fit here" in " ".join(" ".join(rest).split())) != whole
    assert len(row) <= columns or columns == 20


def test_signatures_are_shown_by_what_they_share() -> None:
    """One line for what all have in common, and for each what is its own; a single one is shown whole."""
    signatures = {"a": "protocol:coco|decode:greedy-24|n:6", "b": "protocol:coco|decode:beam-3|n:6"}
    assert signature_lines(signatures) == ["signature: protocol:coco|n:6", "a: decode:greedy-24", "b: decode:beam-3"]
    assert signature_lines({"a": "protocol:coco|n:6"}) == ["signature: protocol:coco|n:6"]
