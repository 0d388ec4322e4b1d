"""`rscap score` and `rscap compare`, as a shell sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rscap import scoring
from rscap.cli import app
from rscap.errors import ScoreError

REFERENCES = {
    f"{i}.jpg": [f"{count} planes on the runway", f"there are {count} planes"] for i, count in enumerate("123456")
}
CANDIDATES = {i: own[0].replace("runway", "grass") for i, own in REFERENCES.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c.json").write_text(json.dumps(CANDIDATES), encoding="utf-8")
    (tmp_path / "d.json").write_text(json.dumps(dict.fromkeys(CANDIDATES, "a river")), encoding="utf-8")
    (tmp_path / "r.json").write_text(json.dumps(REFERENCES), encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    result = CliRunner().invoke(
        app, [argument.replace("@", f"{folder}/") for argument in arguments], env={"COLUMNS": "200"}
    )
    if result.exception:
        raise result.exception
    return result.stdout


def test_score(folder: Path) -> None:
    """The command prints scores with intervals and the signature, and writes what the library computes."""
    printed = run(
        folder, "score", "--candidates", "@c.json", "--references", "@r.json", "--no-meteor", "--out", "@s.json",
        "--draws", "200", "--decode", "greedy-64",
    )  # fmt: skip
    sheet = scoring.read_sheet(folder / "s.json")
    metrics = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
    assert sheet == scoring.score_captions(CANDIDATES, REFERENCES, metrics=metrics, draws=200, decode="greedy-64")
    assert sheet.signature in printed
    assert scoring.score_line(sheet) in printed
    for metric in metrics:
        assert f"{sheet.corpus[metric]:.{3 if metric == 'CIDEr' else 4}f}" in printed


def test_all_protocols_side_by_side(folder: Path) -> None:
    """`--protocol all` shows three columns and three signatures, and writes three sheets."""
    printed = run(
        folder, "score", "--candidates", "@c.json", "--references", "@r.json", "--protocol", "all", "--no-meteor",
        "--out", "@s.json", "--draws", "100",
    )  # fmt: skip
    for name in ("coco", "raw", "sentence"):
        assert f"protocol:{name}|" in printed
        assert scoring.read_sheet(folder / f"s.{name}.json").extra["protocol"] == name


def test_pool(folder: Path) -> None:
    """A saved pool is used for a subset, which then has the CIDEr of the whole."""
    common = ("--references", "@r.json", "--no-meteor", "--draws", "0")
    run(folder, "score", "--candidates", "@c.json", *common, "--save-pool", "@p.npz", "--out", "@all.json")
    (folder / "few.json").write_text(json.dumps({i: CANDIDATES[i] for i in list(CANDIDATES)[:2]}), encoding="utf-8")
    run(
        folder,
        "score",
        "--candidates",
        "@few.json",
        *common,
        "--pool",
        "@p.npz",
        "--allow-missing",
        "--out",
        "@few-s.json",
    )
    whole, few = scoring.read_sheet(folder / "all.json"), scoring.read_sheet(folder / "few-s.json")
    assert few.unscored == 4
    for i in few.items:
        assert few.items[i]["CIDEr"] == pytest.approx(whole.items[i]["CIDEr"])


def test_training_captions(folder: Path) -> None:
    """`--training` counts candidates that are training captions, whatever their case and punctuation."""
    training = {"t": [f"{CANDIDATES['1.jpg'].upper()} ."]}
    (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
    common = ("--candidates", "@c.json", "--references", "@r.json", "--no-meteor", "--draws", "0")
    printed = run(folder, "score", *common, "--training", "@training.json")
    assert "16.7% of captions are training captions word for word" in printed


def test_compare(folder: Path) -> None:
    """Sheets and run folders are compared by name; replicates are joined by commas; JSON holds the comparison."""
    for name in "cd":
        sheet = f"@runs/{name}/scores/test.json"
        run(
            folder, "score", "--candidates", f"@{name}.json", "--references", "@r.json", "--no-meteor", "--draws", "0",
            "--out", sheet,
        )  # fmt: skip
    printed = run(folder, "compare", "@runs/c", "@runs/d", "--draws", "500", "--out", "@found.json")
    assert "c is better than d at n = 6" in printed
    content = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    assert content["differences"][0]["first"] == "c"
    assert "better is better than worse" in run(
        folder, "compare", "better=@runs/c/scores/test.json", "worse=@runs/d", "--draws", "500"
    )
    (folder / "e.json").write_text((folder / "runs/c/scores/test.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert "seed noise" in run(folder, "compare", "c=@runs/c,@e.json", "@runs/d", "--draws", "500")


def test_complaints(folder: Path) -> None:
    """Ids that do not fit, a folder without scores, a sheet given twice: errors of ours, and nothing is written."""
    (folder / "d.json").write_text(json.dumps({"x": "a"}), encoding="utf-8")
    with pytest.raises(ScoreError, match="6 of 6 references have no candidate"):
        run(folder, "score", "--candidates", "@d.json", "--references", "@r.json", "--out", "@s.json")
    assert not (folder / "s.json").exists()
    with pytest.raises(ScoreError, match="has no scores for split 'test'; it has none"):
        run(folder, "compare", "@", "@")
    run(folder, "score", "--candidates", "@c.json", "--references", "@r.json", "--no-meteor", "--out", "@s.json")
    with pytest.raises(ScoreError, match="is given twice"):
        run(folder, "compare", "@s.json", "@s.json")


def test_neither_java_nor_torch(folder: Path) -> None:
    """With an empty PATH the command scores, and neither torch nor transformers is imported."""
    code = (
        "import sys\nfrom rscap.cli import app\n"
        f"app(['score', '--candidates', '{folder}/c.json', '--references', '{folder}/r.json', '--draws', '100'], "
        "standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'pandas', 'scipy'} & set(sys.modules)"
    )
    environment = {**os.environ, "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "protocol:coco" in done.stdout


SPICE = '# {"metric": "SPICE", "low": 0, "high": 1, "better": "higher", "source": "SPICE 1.0"}\nid,SPICE\n' + "".join(
    f"{i}.jpg,0.{i}\n" for i in range(6)
)


def test_scores_of_another_program(folder: Path) -> None:
    """`--foreign` puts them into table, sheet and signature; `--items` writes every score per image."""
    (folder / "spice.csv").write_text(SPICE, encoding="utf-8")
    printed = run(
        folder, "score", "--candidates", "@c.json", "--references", "@r.json", "--no-meteor", "--json", "@s.json",
        "--draws", "100", "--foreign", "@spice.csv", "--items", "@items.jsonl",
    )  # fmt: skip
    assert "SPICE" in printed
    sheet = scoring.read_sheet(folder / "s.json")
    assert sheet.items["3.jpg"]["SPICE"] == 0.3
    assert "foreign:SPICE@SPICE_1.0" in sheet.signature
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    assert lines[-1] == {"id": "5.jpg", **sheet.items["5.jpg"]}


@pytest.mark.parametrize("target", ["@run", "@run/scores/test.json"])
def test_scores_of_another_program_join_a_run(folder: Path, target: str) -> None:
    """`rscap score RUN --foreign FILE` adds them to the run's own sheet, twice as once, and changes nothing else in it;
    the same name from another source is refused."""
    (folder / "spice.csv").write_text(SPICE, encoding="utf-8")
    names = [name for name in scoring.METRICS if name != "METEOR"]
    before = scoring.score_captions(CANDIDATES, REFERENCES, metrics=names, draws=100)
    path = folder / "run" / "scores" / "test.json"
    scoring.write_sheet(path, before)
    for _ in range(2):
        run(folder, "score", target, "--foreign", "@spice.csv")
    together = scoring.score_captions(
        CANDIDATES, REFERENCES, metrics=[*names, *scoring.load_foreign(folder / "spice.csv")], draws=100
    )
    after = scoring.read_sheet(path)
    assert (after.signature, after.corpus, after.intervals, after.items) == (
        together.signature, together.corpus, together.intervals, together.items,
    )  # fmt: skip
    assert after.extra == {**before.extra, "foreign": together.extra["foreign"]}
    (folder / "spice.csv").write_text(SPICE.replace("SPICE 1.0", "SPICE 2.0"), encoding="utf-8")
    with pytest.raises(ScoreError, match=r"has SPICE from 'SPICE 1.0', and this one is from 'SPICE 2.0'"):
        run(folder, "score", target, "--foreign", "@spice.csv")


def test_a_pool_takes_references_alone(folder: Path) -> None:
    """`--save-pool` without candidates writes the pool of the references, and nothing is scored."""
    assert run(folder, "score", "--references", "@r.json", "--save-pool", "@pool.npz") == ""
    assert scoring.IdfPool.load(folder / "pool.npz").digest == scoring.IdfPool.build(REFERENCES).digest
    with pytest.raises(ScoreError, match="no candidates"):
        run(folder, "score", "--references", "@r.json")
    with pytest.raises(ScoreError, match="no references"):
        run(folder, "score", "--candidates", "@c.json")
