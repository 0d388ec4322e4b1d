"""The page shows content errors: rates with their intervals, and the wrong words of each image."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import study_folder as make
from rscap.data import open_source
from rscap.reports import build_table, write_report
from rscap.store import RunFolder, read_sheet, write_json, write_panel

SPLIT = "test"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose captions are those of other images, so that many of their claims are wrong."""
    folder = tmp_path_factory.mktemp("content") / "mine"
    examples = open_source("sample").subset(SPLIT, 20, 0)
    others = make.predict([*examples[7:], *examples[:7]], 0.1, 1)
    mixed = [replace(one, example_id=example.id) for one, example in zip(others, examples, strict=True)]
    make.write_run(folder, examples, mixed, minutes=1)
    write_panel(RunFolder(folder).panel(SPLIT), examples[:4])
    return folder


def test_rates_and_words_are_on_the_page(run: Path) -> None:
    """Every rate of the sheet stands there in per cent with interval and counts; every image has its wrong words."""
    sheet = read_sheet(RunFolder(run).scores(SPLIT))
    content = sheet.extra["content"]
    assert content["rates"]["thing-errors"]["wrong"] > 5
    page = write_report([run], run / "report.html")[0].read_text(encoding="utf-8")
    for found in content["rates"].values():
        low, high = found["interval"]
        assert f"{found['rate']:.1%}" in page
        assert f"[{low:.1%}, {high:.1%}], {found['wrong']:,} of {found['claims']:,}" in page
    assert f"Word lists: version {content['version']}." in page
    (embedded,) = re.findall(r'id="browser-data">(.*?)</script>', page, re.DOTALL)
    images = {image["id"]: image for image in json.loads(embedded)["images"]}
    for example, kinds in content["wrong"].items():
        kind, texts = next(iter(kinds.items()))
        assert f"{kind}: {', '.join(texts)}" in images[example]["wrong"]["0"]
        assert "content error" in images[example]["flags"][0]


def test_a_sheet_without_them_shares_the_table(run: Path, tmp_path: Path) -> None:
    """A run whose content was not looked at, by an earlier version, stands in the same table, with a dash."""
    examples = open_source("sample").subset(SPLIT, 20, 0)
    make.write_run(tmp_path / "old", examples, make.predict(examples, 0.3, 2), minutes=1)
    path = RunFolder(tmp_path / "old").scores(SPLIT)
    plain = json.loads(path.read_text(encoding="utf-8"))
    del plain["content"], plain["statistics"]["content"]
    plain["signature"] = "|".join(part for part in plain["signature"].split("|") if not part.startswith("content:"))
    write_json(path, plain)
    (table,) = build_table([run, tmp_path / "old"])
    assert [row.label for row in table.rows] == ["mine", "old"]
    page = write_report([run, tmp_path / "old"], tmp_path / "report.html")[0].read_text(encoding="utf-8")
    assert '<td data-name="wrong things"><span class="value">—</span></td>' in page
