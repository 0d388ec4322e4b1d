"""The report of synthetic run folders: tables, pages, files, and what happens when pieces are missing or broken."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image

from rscap import scoring
from rscap.errors import StoreError
from rscap.metrics import METRICS
from rscap.records import Prediction
from rscap.reports import build_table, tables_markdown, write_report
from rscap.store import (
    RunFolder,
    read_jsonl,
    write_json,
    write_jsonl,
    write_predictions,
    write_text,
)

IDS = [f"image_{number:02d}" for number in range(24)]
REFERENCES = {
    name: (f"{['a plane', 'two boats', 'many houses'][number % 3]} near the {['river', 'road'][number % 2]} .",) * 2
    + (f"we see {['a plane', 'two boats', 'some houses'][number % 3]} and a {['river', 'road'][number % 2]} .",)
    for number, name in enumerate(IDS)
}
SAME = dict.fromkeys(IDS, "a plane near the river .")
GOOD = {name: captions[0] for name, captions in REFERENCES.items()}


def write_scored(
    folder: RunFolder, captions: Mapping[str, str], *, protocol: str = "coco", decode: str = "greedy-64"
) -> None:
    """Predictions and their real score sheet."""
    rows = [
        Prediction(example_id=name, caption=caption, prefix="caption en", tokens=6, stopped="eos")
        for name, caption in captions.items()
    ]
    write_predictions(folder.predictions("test"), rows)
    sheet = scoring.score_captions(
        captions,
        {name: REFERENCES[name] for name in captions},
        protocol=protocol,
        decode=decode,
        draws=200,
        sources={name: ("UCM", "RSICD")[number % 2] for number, name in enumerate(IDS)},
    )
    scoring.write_sheet(folder.scores("test"), sheet)


def write_references(run: RunFolder) -> None:
    rows = [
        {"id": name, "captions": list(own), "source": "UCM", "scene_class": None} for name, own in REFERENCES.items()
    ]
    write_jsonl(run.references("test"), rows)


def write_panel(run: RunFolder, names: list[str]) -> None:
    folder = run.panel("test")
    folder.mkdir(parents=True)
    for number, _ in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.jpg")
    write_json(folder / "panel.json", [{"id": name, "file": f"{n:03d}.jpg"} for n, name in enumerate(names)])


def recipe_text(**prompt: object) -> str:
    """A recipe that trains nano, with a section [prompt] where one is given."""
    table: dict[str, object] = {"data": {"source": "sample"}, "model": {"base": "nano"}, "adapter": {"rank": 2}}
    return tomli_w.dumps({**table, "train": {"learning_rate": 1e-3}, **({"prompt": prompt} if prompt else {})})


def make_run(path: Path, captions: Mapping[str, str], *, protocol: str = "coco", baselines: bool = True) -> RunFolder:
    """A finished run with two baselines and a panel."""
    run = RunFolder.create(path)
    write_scored(run, captions, protocol=protocol)
    write_references(run)
    write_panel(run, IDS[:3])
    if baselines:
        write_scored(run.baseline("constant"), SAME, protocol=protocol, decode="baseline-constant")
        shifted = {name: GOOD[IDS[(number + 2) % len(IDS)]] for number, name in enumerate(IDS)}
        write_scored(run.baseline("nearest"), shifted, protocol=protocol, decode="baseline-nearest")
    write_json(run.provenance_file, {"rscap": "0.1.0", "commit": "abc123", "dirty": True, "packages": {"numpy": "2"}})
    run.close("finished")
    return run


def add_training(run: RunFolder) -> None:
    steps = [{"event": "step", "step": step, "loss": 5.0 / step, "learning_rate": 1e-3} for step in range(1, 30)]
    scored = {"metrics": {"CIDEr": 0.75, "METEOR": None}, "loss": 1.25, "degenerate": 0.0}
    write_jsonl(run.train_log, [*steps, {"event": "evaluation", "step": 20, "split": "val", "n": 8, **scored}])
    speed = {"images_per_s": 8.0, "captions_per_s": 40.0, "memory_bytes": 3 * 2**30, "seconds": 1.0}
    write_jsonl(run.speed_log, [{"step": step, **speed} for step in range(1, 30)])
    write_json(
        run.parameters_file, {"vision_tower": {"total": 100, "trainable": 0}, "projector": {"total": 7, "trainable": 7}}
    )
    reasons = {"consensus": 4, "length": 1}
    removed = {"captions_removed": 5, "by_reason": reasons, "images_dropped": 0, "captions_weighted": 7}
    write_json(run.path / "quality.json", {**removed, "mean_weight": 0.25})
    write_text(run.recipe_file, recipe_text())
    write_jsonl(run.rejected_file, [{"row": f"line {line}", "reason": "empty caption"} for line in (3, 9)])


@dataclass
class Page:
    """A page as a browser reads it."""

    html: str
    text: str
    tags: set[str]
    attributes: set[str]

    @classmethod
    def of(cls, path: Path) -> Page:
        html = path.read_text(encoding="utf-8")
        reader = _Text()
        reader.feed(html)
        return cls(html, " ".join(" ".join(reader.found).split()), reader.tags, reader.attributes)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.style = tag in ("style", "script")
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        if not self.style:
            self.found.append(data)


def browser_of(html: str) -> Any:
    """The data of a page's image browser."""
    [embedded] = re.findall(r'<script type="application/json" id="browser-data">(.*?)</script>', html, re.DOTALL)
    return json.loads(embedded)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    make_run(folder / "zero-shot", SAME)
    add_training(make_run(folder / "adapted", GOOD))
    return folder


@pytest.fixture
def two_runs(template: Path, tmp_path: Path) -> list[Path]:
    """A zero-shot and an adapted run, to do with as a test likes."""
    return [Path(shutil.copytree(template / name, tmp_path / name)) for name in ("zero-shot", "adapted")]


def test_table_shows_runs_and_each_baseline_once(two_runs: list[Path]) -> None:
    """Two runs with equal baselines make one table of four rows, with the figures of their sheets."""
    [table] = build_table(two_runs)
    labels = ["zero-shot", "adapted", "constant caption", "nearest training image"]
    assert [row.label for row in table.rows] == labels
    sheet = scoring.read_sheet(RunFolder(two_runs[1]).scores("test"))
    adapted = table.rows[1]
    assert {metric: cell.value for metric, cell in adapted.cells.items()} == sheet.corpus
    assert (adapted.cells["CIDEr"].low, adapted.cells["CIDEr"].high) == sheet.intervals["CIDEr"]
    assert table.best("CIDEr") == sheet.corpus["CIDEr"]
    assert "protocol:coco" in table.signature()
    assert "decode" not in table.signature()
    assert table.own_signatures()["decode:greedy-64"] == ("zero-shot", "adapted")


def test_differences_are_those_of_compare(two_runs: list[Path]) -> None:
    """Every pair of finished rows is compared, best first."""
    [table] = build_table(two_runs)
    assert table.comparison is not None
    assert len(table.comparison.differences) == 6
    assert all(found.difference >= 0 for found in table.comparison.differences)


def test_the_headline_is_about_the_trained_run(two_runs: list[Path]) -> None:
    """It sets the run against the baselines and against the base model as it is, and words match the intervals."""
    write_json(two_runs[0] / "evaluation.json", {"model": "nano"})
    [table] = build_table(two_runs)
    [sentence] = table.headlines
    assert sentence.startswith("adapted (CIDEr ")
    groups = dict(
        re.findall(r"(better than|worse than|not significantly different from) ([^;]+?)(?:;|\.\s|\.$)", sentence)
    )
    for name in ("zero-shot", "constant caption", "nearest training image"):
        [(words, low, high)] = [
            (words, *map(float, found))
            for words, told in groups.items()
            for found in re.findall(rf"{name} \([^\[]*\[([-\d.]+), ([-\d.]+)\]", told)
        ]
        assert words == ("better than" if low > 0 else "worse than" if high < 0 else "not significantly different from")


def test_an_export_is_no_base_model(two_runs: list[Path]) -> None:
    """Of a model that was trained elsewhere the sheet says that its training is unknown; it is compared as a run is."""
    write_json(two_runs[0] / "evaluation.json", {"model": "exports/mine"})
    assert [row.untrained for row in build_table(two_runs)[0].rows[:2]] == [True, False]
    scores = RunFolder(two_runs[0]).scores("test")
    sheet = scoring.read_sheet(scores)
    scoring.write_sheet(scores, scoring.with_seen(sheet, {"of": sheet.n, "unknown": "it is an export"}))
    assert [row.untrained for row in build_table(two_runs)[0].rows[:2]] == [False, False]


def test_a_run_below_a_baseline_says_so_first(tmp_path: Path) -> None:
    """What a run loses to comes before what it beats."""
    run = make_run(tmp_path / "mine", SAME)
    write_scored(run.baseline("constant"), GOOD, decode="baseline-constant")
    write_scored(run.baseline("nearest"), dict.fromkeys(IDS, "fog"), decode="baseline-nearest")
    [table] = build_table([run.path])
    assert re.fullmatch(
        r"mine \(CIDEr [^)]*\) is worse than constant caption \(-[^)]*\); it is better than nearest training image "
        r"\(\+[^)]*\)\. Intervals of differences are corrected for 3 comparisons \(Holm\)\.",
        table.headlines[0],
    )


def test_baselines_with_other_outcomes_keep_their_rows(tmp_path: Path) -> None:
    """A baseline that came out differently beside another run is shown apart and named after that run."""
    one, two = make_run(tmp_path / "one", GOOD), make_run(tmp_path / "two", GOOD)
    write_scored(two.baseline("constant"), dict.fromkeys(IDS, "many houses near the road ."))
    [table] = build_table([one.path, two.path])
    assert [row.label for row in table.rows if row.kind == "baseline"] == [
        "constant caption",
        "nearest training image",
        "constant caption (two)",
    ]


def test_protocols_images_and_references_are_never_mixed(tmp_path: Path) -> None:
    """Another protocol, other images or other references each get a table of their own, and the page says why."""
    runs = [make_run(tmp_path / "coco", GOOD), make_run(tmp_path / "raw", GOOD, protocol="raw")]
    fewer = RunFolder.create(tmp_path / "fewer")
    write_scored(fewer, {name: GOOD[name] for name in IDS[:12]})
    other = RunFolder.create(tmp_path / "other")
    write_scored(other, GOOD)
    write_jsonl(other.references("test"), [{"id": name, "captions": ["changed since"]} for name in IDS])
    paths = [*(run.path for run in runs), fewer.path, other.path]
    tables = build_table(paths)
    assert [[row.label for row in table.rows if row.kind == "run"] for table in tables] == [
        ["coco"],
        ["raw"],
        ["fewer"],
        ["other"],
    ]
    [page, *_] = write_report(paths, tmp_path / "report.html")
    assert "4 different sets of images, references or protocols" in Page.of(page).text


def test_files_beside_the_page_hold_the_table(two_runs: list[Path], tmp_path: Path) -> None:
    """CSV and JSON repeat the scores in full precision; unscored metrics are empty, not 0."""
    page, table_csv, table_json = write_report(two_runs, tmp_path / "out" / "report.html")
    assert [path.name for path in (page, table_csv, table_json)] == ["report.html", "report.csv", "report.json"]
    sheet = scoring.read_sheet(RunFolder(two_runs[1]).scores("test"))
    with table_csv.open(encoding="utf-8", newline="") as stream:
        row = list(csv.DictReader(stream))[1]
    assert (row["label"], row["kind"], row["state"], row["n"]) == ("adapted", "run", "finished", "24")
    for metric in METRICS:
        assert row[metric] == (str(sheet.corpus[metric]) if metric in sheet.corpus else "")
    [written] = json.loads(table_json.read_text())["tables"]
    assert written["rows"][1]["scores"] == sheet.corpus
    assert written["rows"][1]["intervals"]["CIDEr"] == list(sheet.intervals["CIDEr"])
    assert len(written["differences"]) == 6


def test_markdown_is_one_line_a_row(two_runs: list[Path]) -> None:
    """The Markdown table has a column for each metric and n, equally many in each line, and the signature."""
    lines = tables_markdown(build_table(two_runs)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 4
    assert {row.count("|") for row in rows} == {len(METRICS) + 3}
    assert any(line.startswith("`protocol:coco") for line in lines)


def test_page_is_self_contained_and_complete(two_runs: list[Path], tmp_path: Path) -> None:
    """The page fetches nothing, allows its own program alone, and says what each part of the run folders says."""
    page = Page.of(write_report(two_runs, tmp_path / "report.html")[0])
    assert not re.search(r'(?:src|href)="(?!data:image/|#)', page.html)
    assert not re.search(r"https?://|@import|url\(|<link", page.html)
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.html)
    [program] = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    assert unescape(policy) == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    for said in (
        "zero-shot · adapted",
        "24 test images",
        "adapted (CIDEr",
        "adapted is better than constant caption at n = 24",
        "Paired differences in CIDEr",
        "Loss",
        "Validation CIDEr",
        "0.750 at step 20",
        "Validation loss",
        "captions/s, median 40.0",
        "images/s, median 8.0",
        "3.00 GiB",
        "vision tower frozen 100",
        "distinct captions",
        "RSICD",
        "rejected rows 2",
        "captions removed 5 (consensus 4, length 1)",
        "captions weighed down 7 (mean weight 0.25)",
        "empty caption (2)",
        "abc123",
        "with uncommitted changes",
        'base = "nano"',
    ):
        assert said in page.text, said


def test_captions_and_names_cannot_inject_markup(tmp_path: Path) -> None:
    """Captions, references, ids, reasons, recipes and states full of markup stay text."""
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&</style>"
    run = make_run(tmp_path / "plain", {name: f"{attack} {name}" for name in IDS})
    add_training(run)
    rows = [
        {"id": name, "captions": [attack, attack], "source": attack, "scene_class": attack} for name in [*IDS, attack]
    ]
    write_jsonl(run.references("test"), rows)
    write_json(run.panel("test") / "panel.json", [{"id": attack, "file": "000.jpg"}, {"id": IDS[0], "file": "001.jpg"}])
    write_jsonl(run.rejected_file, [{"row": "line 1", "reason": attack}])
    write_text(run.recipe_file, attack)
    write_json(run.provenance_file, {attack: attack, "base": {"name": attack}, "command": attack, "commit": attack})
    write_json(run.parameters_file, {attack: {"total": 1, "trainable": 1}})
    run.close("failed", error=attack)
    page = Page.of(write_report([run.path], tmp_path / "report.html")[0])
    assert page.text.count("alert(1)") > 5
    assert page.html.count("<script") == page.html.count("</script>") == 2
    assert not {name for name in page.attributes if name.startswith("on")}
    assert page.html.count("</style>") == 1
    assert "src=" not in page.html.partition("<script")[0].replace("src=x", "")
    images = browser_of(page.html)["images"]
    assert attack in {image["source"] for image in images}
    assert f"{attack} {IDS[0]}" in {image["captions"][0] for image in images}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("failed", "failed: loss is nan"),
        ("started", "has not finished"),
        ("interrupted", "was interrupted and can be resumed"),
    ],
)
def test_unfinished_runs_are_shown_as_such_and_never_win(tmp_path: Path, state: str, said: str) -> None:
    """A failed or started run keeps its row with its state, is not the best and takes part in no comparison."""
    finished, broken = make_run(tmp_path / "finished", SAME), make_run(tmp_path / "broken", GOOD)
    details = {"error": "loss is nan"} if state == "failed" else {}
    write_json(broken.status_file, {"state": state, **details})
    [table] = build_table([finished.path, broken.path])
    assert table.rows[1].state == state
    assert table.best("CIDEr") < table.rows[1].cells["CIDEr"].value
    assert table.comparison is not None
    assert "broken" not in {system.name for system in table.comparison.systems}
    page = Page.of(write_report([finished.path, broken.path], tmp_path / "report.html")[0])
    assert said in page.text


PIECES = (
    "status.json",
    "provenance.json",
    "parameters.json",
    "rejected.jsonl",
    "train.jsonl",
    "speed.jsonl",
    "evaluation.json",
    "quality.json",
    "recipe.toml",
    "scores/test.json",
    "predictions/test.jsonl",
    "references/test.jsonl",
    "panel/test/panel.json",
    "panel/test/000.jpg",
    "thumbnails/test.jsonl",
    "baselines/nearest/scores/test.json",
)


@pytest.mark.parametrize("piece", PIECES[1:])
def test_a_missing_piece_is_no_crash(two_runs: list[Path], tmp_path: Path, piece: str) -> None:
    """Any file but status.json may be absent."""
    (two_runs[1] / piece).unlink(missing_ok=piece in ("evaluation.json", "thumbnails/test.jsonl"))
    page = Page.of(write_report(two_runs, tmp_path / "report.html")[0])
    assert "zero-shot" in page.text
    assert ("adapted: no scores for this split" in page.text) == (piece == "scores/test.json")


@pytest.mark.parametrize("piece", PIECES)
def test_a_broken_piece_is_a_note(two_runs: list[Path], tmp_path: Path, piece: str) -> None:
    """Whatever stands in a file, a report is written; what could not be read is named."""
    for content in (b"", b"{", b"[]\n", b"[1]\n", b'{"a": 1}\n', b"null\n", b'"x"\n', b"\xff\xfe\x00"):
        (two_runs[1] / piece).parent.mkdir(exist_ok=True)
        (two_runs[1] / piece).write_bytes(content)
        page = Page.of(write_report(two_runs[1:], tmp_path / "report.html")[0])
        assert "Image captioning report" in page.text
        if content == b"{" and piece.endswith(".json"):
            assert f"{piece} is damaged" in page.text or f"{piece} is not" in page.text


@pytest.mark.parametrize(
    ("piece", "value"),
    [
        ("provenance.json", {"packages": ["torch"], "data": "risc", "base": None, "commit": 7, "dirty": "yes"}),
        ("parameters.json", {"vision_tower": 5}),
        ("parameters.json", {"vision_tower": {"total": 0, "trainable": 0}}),
        ("scores/test.json", {"signature": 1, "n": "many", "corpus": {}, "intervals": {}, "items": {}, "unscored": 0}),
        ("scores/test.json", {"signature": "x", "n": 1, "corpus": {"CIDEr": "high"}, "intervals": {}, "items": {}}),
        ("panel/test/panel.json", [{"id": "x"}]),
        ("panel/test/panel.json", [{"id": "x", "file": "none.jpg"}, {"id": "y", "file": "panel.json"}]),
        ("status.json", {"state": ["odd"], "ended": 7}),
    ],
)
def test_odd_values_are_no_crash(two_runs: list[Path], tmp_path: Path, piece: str, value: object) -> None:
    """JSON of an unexpected shape is shown or noted."""
    write_json(two_runs[1] / piece, value)
    assert "zero-shot" in Page.of(write_report(two_runs, tmp_path / "report.html")[0]).text


def test_speed_of_older_runs_stands_in_the_training_log(tmp_path: Path) -> None:
    """Where there is no speed.jsonl, the rates are those that train.jsonl tells; speed.jsonl goes before it."""
    run = make_run(tmp_path / "old", GOOD)
    row = {"event": "step", "step": 1, "loss": 5.0, "captions_per_s": 12.5, "images_per_s": 2.5}
    write_jsonl(run.train_log, [row])
    assert "captions/s, median 12.5" in Page.of(write_report([run.path], tmp_path / "report.html")[0]).text
    write_jsonl(run.speed_log, [{"step": 1, "captions_per_s": 99.0}])
    text = Page.of(write_report([run.path], tmp_path / "report.html")[0]).text
    assert "captions/s, median 99.0" in text
    assert "images/s, median 2.5" in text


def ask_otherwise(run: RunFolder, words: str) -> None:
    """Replace the prompt of all predictions."""
    rows = [{**row, "prefix": words} for row in read_jsonl(run.predictions("test"))]
    write_jsonl(run.predictions("test"), rows)


def warned(runs: list[Path], out: Path) -> dict[str, bool]:
    """Where a report of runs warns of another prompt: page, table of the page, CSV, JSON and Markdown."""
    page, table_csv, table_json = write_report(runs, out)
    text = Page.of(page).text
    rows = [row for table in json.loads(table_json.read_text())["tables"] for row in table["rows"]]
    markdown = tables_markdown(build_table(runs))
    return {
        "page": "was evaluated with the prompt “" in text,
        "flag": "another prompt" in text,
        "csv": "was evaluated with the prompt" in table_csv.read_text(),
        "json": any("was evaluated with the prompt" in one for row in rows for one in row["warnings"]),
        "markdown": "was evaluated with the prompt" in markdown,
    }


@pytest.mark.parametrize(
    ("prompt", "asked", "warns"),
    [
        ({"prefix": "caption en"}, "caption en", False),
        ({"prefix": "caption en"}, "describe this image", True),
        ({}, "caption en", False),  # the default prompt
        ({}, "describe this image", True),
        ({"prefix": "caption en", "training_prefixes": ["caption en", "say"]}, "say", False),
        ({"prefix": "caption en", "training_prefixes": ["say", "tell"]}, "caption en", True),
        (None, "describe this image", False),  # never trained: no prompt to differ from
    ],
)
def test_another_prompt_than_in_training_is_a_warning(
    tmp_path: Path, prompt: dict[str, object] | None, asked: str, warns: bool
) -> None:
    """Page, table, CSV, JSON and Markdown say it when predictions were asked with words that training never used."""
    run = make_run(tmp_path / "run", GOOD)
    ask_otherwise(run, asked)
    if prompt is not None:
        write_text(run.recipe_file, recipe_text(**prompt))
    assert warned([run.path], tmp_path / "report.html") == dict.fromkeys(
        ("page", "flag", "csv", "json", "markdown"), warns
    )


@pytest.mark.parametrize("told", [{"training_prefixes": ["caption en"]}, {"model": "runs/trained"}])
def test_the_prompt_of_an_evaluation_elsewhere_is_held_against_its_run(tmp_path: Path, told: dict) -> None:
    """evaluation.json names the training prompts, or, from earlier versions, the run whose recipe tells them."""
    trained = make_run(tmp_path / "runs" / "trained", GOOD)
    write_text(trained.recipe_file, recipe_text(prefix="caption en"))
    apart = make_run(tmp_path / "runs" / "trained-val", GOOD)
    for words, warns in (("caption en", False), ("describe", True)):
        ask_otherwise(apart, words)
        write_json(apart.path / "evaluation.json", {"prefix": words, **told})
        assert set(warned([apart.path], tmp_path / "report.html").values()) == {warns}
    write_json(apart.path / "evaluation.json", {"model": "nano", "prefix": "describe", "training_prefixes": []})
    assert set(warned([apart.path], tmp_path / "report.html").values()) == {False}


def test_without_predictions_evaluation_json_tells_the_prompt(tmp_path: Path) -> None:
    """The prompt is known even where the predictions were moved away."""
    run = make_run(tmp_path / "run", GOOD)
    run.predictions("test").unlink()
    write_json(run.path / "evaluation.json", {"prefix": "describe", "training_prefixes": ["caption en"]})
    assert warned([run.path], tmp_path / "report.html")["page"]


def test_a_line_cut_short_does_not_cost_the_log(two_runs: list[Path], tmp_path: Path) -> None:
    """A run that was killed while it wrote leaves half a line; the lines before it are drawn."""
    log = RunFolder(two_runs[1]).train_log
    log.write_text(log.read_text() + '{"event": "step", "st')
    page = Page.of(write_report(two_runs, tmp_path / "report.html")[0])
    assert "cannot be read" not in page.text
    assert "Learning rate" in page.text


def test_a_panel_cannot_reach_out_of_its_folder(two_runs: list[Path], tmp_path: Path) -> None:
    """A panel that names a file elsewhere is not followed."""
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.jpg")
    for run in two_runs:
        write_json(run / "panel/test/panel.json", [{"id": "x", "file": "../../../secret.jpg"}])
    page = Page.of(write_report(two_runs, tmp_path / "report.html")[0])
    assert not any(image["picture"] for image in browser_of(page.html)["images"])
    assert "leads out of the panel folder" in page.text


def test_the_browser_holds_every_image_and_every_system(two_runs: list[Path], tmp_path: Path) -> None:
    """All 24 images with references, captions, item scores and flags of both runs and of both baselines; the best
    trained run is asked first, and a caption that was cut off or came near a tie says so."""
    path = RunFolder(two_runs[1]).predictions("test")
    first, *others = read_jsonl(path)
    write_jsonl(path, [{**first, "stopped": "length", "near_ties": 2}, *others])
    write_json(two_runs[0] / "evaluation.json", {"model": "nano"})
    data = browser_of(Page.of(write_report(two_runs, tmp_path / "report.html")[0]).html)
    assert [(one["name"], one["kind"], one["colour"]) for one in data["systems"]] == [
        ("zero-shot", "untrained", 0),
        ("adapted", "run", 1),
        ("constant caption", "baseline", None),
        ("nearest training image", "baseline", None),
    ]
    assert data["subject"] == "adapted"
    assert [image["id"] for image in data["images"]] == IDS
    sheet = scoring.read_sheet(RunFolder(two_runs[1]).scores("test"))
    for image in data["images"]:
        assert image["references"] == list(REFERENCES[image["id"]])
        assert image["captions"][:2] == [SAME[image["id"]], GOOD[image["id"]]]
        assert image["scores"][1] == pytest.approx(sheet.items[image["id"]]["CIDEr"], abs=5e-4)
    assert data["images"][0]["flags"] == [[], ["cut at the limit", "near-tie"], [], []]


def test_small_pictures_of_all_images_are_shown(two_runs: list[Path], tmp_path: Path) -> None:
    """An evaluation keeps a picture of every image; one of 0.1 shows those of its panel, and the page says so."""
    data = browser_of(Page.of(write_report(two_runs, tmp_path / "report.html")[0]).html)
    assert [image["id"] for image in data["images"] if image["picture"]] == IDS[:3]
    assert data["note"] == (
        "Some pictures are missing: evaluated before rscap kept small pictures of all images: zero-shot, adapted."
    )
    write_jsonl(RunFolder(two_runs[0]).thumbnails("test"), [{"id": name, "jpeg": "/9j/AAAA"} for name in IDS])
    data = browser_of(Page.of(write_report(two_runs, tmp_path / "report.html")[0]).html)
    assert {image["picture"] for image in data["images"]} == {"/9j/AAAA"}
    assert data["note"] == ""


def test_the_same_id_with_other_references_is_another_image(tmp_path: Path) -> None:
    """Runs on different data whose ids happen to be equal do not share an entry."""
    one, two = make_run(tmp_path / "one", GOOD), make_run(tmp_path / "two", SAME)
    write_jsonl(two.references("test"), [{"id": name, "captions": ["changed since"]} for name in IDS])
    data = browser_of(Page.of(write_report([one.path, two.path], tmp_path / "report.html")[0]).html)
    assert len(data["images"]) == 2 * len(IDS)
    first = [image for image in data["images"] if image["id"] == IDS[0]]
    assert [image["captions"].count(None) for image in first] == [3, 3]


def test_wrong_requests_are_errors(two_runs: list[Path], tmp_path: Path) -> None:
    """A folder of runs, a missing folder, a run given twice and a page not named .html say what to do."""
    with pytest.raises(StoreError, match="holds some") as caught:
        write_report([two_runs[0].parent], tmp_path / "report.html")
    assert "zero-shot" in str(caught.value)
    with pytest.raises(StoreError, match="not a run folder"):
        build_table([tmp_path / "nowhere"])
    with pytest.raises(StoreError, match="twice"):
        build_table([two_runs[0], two_runs[0]])
    with pytest.raises(StoreError, match=r"table\.csv"):
        write_report(two_runs, tmp_path / "table.csv")
    with pytest.raises(StoreError, match="no run folder"):
        build_table([])
    assert not list(tmp_path.glob("*.csv"))
