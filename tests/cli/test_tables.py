"""Tables of scores on a screen, in a file and in a narrow terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from rscap.cli.screen import print_sheets
from rscap.metrics import METRICS
from rscap.records import ScoreSheet

SHEET = ScoreSheet(
    signature="protocol:coco",
    n=1192,
    corpus=dict.fromkeys(METRICS, 0.5),
    intervals={"CIDEr": (0.4, 0.6)},
    items={},
)


@pytest.mark.parametrize(
    ("term", "terminal", "columns", "whole"),
    [
        ("xterm", True, 80, False),
        ("xterm", True, 120, True),
        ("xterm", False, 80, True),
        ("xterm", False, 20, True),
        ("dumb", True, 80, False),
        ("dumb", False, 20, True),
    ],
)
def test_no_cell_is_cut(
    term: str,
    terminal: bool,
    columns: int,
    whole: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A narrow terminal does without two metrics and says which; names and figures are always whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(Console, "is_terminal", terminal)
    print_sheets({"baselines/nearest": SHEET})
    heading, row, *rest = capsys.readouterr().out.splitlines()
    assert row.split() == ["baselines/nearest", *["0.500"] * (7 if whole else 5), "0.400", "to", "0.600", "1,192"]
    assert ("BLEU-2" in heading) == whole
    assert ("BLEU-2 and BLEU-3 do not fit here" in " ".join(rest)) != whole
    assert len(row) <= columns or whole
