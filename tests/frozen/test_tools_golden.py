"""tools/golden_rules.py finds what differs between two folders of runs: one planted case of each kind."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from checkout import ROOT

TOOLS = ROOT / "tools"
PACKAGES = ("/one/src/rscap", "/two/src/rscap")
HTML = (
    "<html><style>p { margin: 3px }</style><p>CIDEr <b>0.853</b> [0.840, 0.866]</p>"
    '<script type="application/json">{"n": 900, "picture": "data:image/jpeg;base64,A1"}</script></html>'
)
FILES = {
    "run/train.jsonl": '{"step": 1, "loss": 2.5}\n',
    "run/rejected.jsonl": "",
    "run/predictions/test.jsonl": '{"id": "a", "caption": "a plane ."}\n',
    "run/checkpoints/step-000002/weights.safetensors": "\0weights",
    "run/checkpoints/step-000002/progress.json": '{"step": 2, "seconds": 1.5, "sha256": "ab"}',
    "run/adapter/adapter_model.safetensors": "\0adapter",
    "run/adapter/adapter_config.json": '{"base_model_name_or_path": "/one/src/rscap/model/nano", "r": 2}',
    "full/model/config.json": '{"vocab_size": 7}',
    "run/scores/test.json": '{"corpus": {"CIDEr": 0.853}, "items": {"a": [1, 2]}}',
    "run/recipe.toml": "seed = 3\n[train]\nlearning_rate = 0.001\n",
    "run/status.json": '{"state": "finished", "selected": {"step": 3}}',
    "run/speed.jsonl": '{"step": 1, "seconds": 0.4}\n',
    "study/attempts.jsonl": '{"folder": "runs/a/seed-0", "progress": "refused", "reason": "no", "seconds": 1.0}\n',
    "study/logs/a.log": "12 s",
    "pages/runs.html": HTML,
    "pages/runs.csv": "label,CIDEr\nrun,0.853\n",
    "pages/study.json": '{"rows": [{"verdict": "0.02 better", "minutes": 4.0, "seeds": null}]}',
    "pages/study.md": "| run | 0.853 |\n",
}


@pytest.fixture(scope="module")
def golden() -> Iterator[ModuleType]:
    """The script, imported as it imports its own module, and forgotten afterwards."""
    sys.path.insert(0, str(TOOLS))
    try:
        yield importlib.import_module("golden")
    finally:
        sys.path.remove(str(TOOLS))
        for name in ("golden", "golden_rules"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def rules(golden: ModuleType) -> ModuleType:
    return sys.modules["golden_rules"]


def found(rules: ModuleType, place: Path, name: str = "", text: str | None = "") -> tuple[list[str], list[str]]:
    """Differences, and what is new, between a folder made by hand and what another package made of it.

    There the file `name` holds `text`; None: it is missing.
    """
    old, new = place / "old", place / "new"
    for path, content in FILES.items():
        (old / path).parent.mkdir(parents=True, exist_ok=True)
        (old / path).write_text(content, encoding="utf-8")
    shutil.copytree(old, new)
    config = new / "run" / "adapter" / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace("/one/", "/two/"), encoding="utf-8")
    if text is None:
        (new / name).unlink()
    elif name:
        (new / name).write_text(text, encoding="utf-8")
    told = rules.compare(old, new, packages=PACKAGES)
    return [one.text for one in told if not one.new], [one.text for one in told if one.new]


def test_equal_folders_have_no_difference(rules: ModuleType, tmp_path: Path) -> None:
    """A copy of a folder differs from it in nothing."""
    assert found(rules, tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run/train.jsonl", '{"step": 1, "loss": 2.6}\n', "differs at byte 23, line 1"),
        ("run/rejected.jsonl", "{}\n", "0 bytes before, 3 now"),
        ("run/predictions/test.jsonl", None, "the file is missing"),
        ("run/checkpoints/step-000002/weights.safetensors", "\0weightS", "differs at byte 8 ("),
        (
            "run/checkpoints/step-000002/progress.json",
            '{"step": 3, "seconds": 1.5, "sha256": "ab"}',
            "step was 2, is 3",
        ),
        ("run/checkpoints/step-000002/progress.json", '{"step": 2, "seconds": 1.5}', "sha256 is missing"),
        ("run/adapter/adapter_model.safetensors", "\0adapter.", "differs at byte 9"),
        ("run/adapter/adapter_config.json", '{"base_model_name_or_path": "/two/src/rscap/nano", "r": 4}', "differs"),
        ("run/adapter/adapter_config.json", '{"base_model_name_or_path": "/two/src/rscap/nan2", "r": 2}', "differs"),
        ("full/model/config.json", '{"vocab_size":  7}', "differs at byte 16, line 1"),
        (
            "run/scores/test.json",
            '{"corpus": {"CIDEr": 0.85}, "items": {"a": [1, 2]}}',
            "corpus.CIDEr was 0.853, is 0.85",
        ),
        (
            "run/scores/test.json",
            '{"corpus": {"CIDEr": 0.853}, "items": {"a": [1]}}',
            "items.a had 2 entries and has 1",
        ),
        ("run/scores/test.json", '{"corpus": {"CIDEr": 0.853}, "items": {"a": [1, 2.0]}}', "items.a[1] was 2, is 2.0"),
        ("run/scores/test.json", '{"corpus": {}, "items": {"a": [1, 2]}}', "corpus.CIDEr is missing"),
        ("run/scores/test.json", "{", "cannot be read"),
        ("run/recipe.toml", "seed = 3\n[train]\nlearning_rate = 0.01\n", "train.learning_rate was 0.001, is 0.01"),
        ("run/status.json", '{"state": "finished", "selected": {}}', "selected.step is missing"),
        ("run/speed.jsonl", '{"step": 1}\n', "[0].seconds is missing"),
        (
            "study/attempts.jsonl",
            '{"folder": "runs/a/seed-0", "progress": "failed", "reason": "", "seconds": 2.0}\n',
            "'failed')] now",
        ),
        ("pages/runs.html", HTML.replace("0.853", "0.85"), "was: “CIDEr 0.853 [0.840, 0.866”; is: “CIDEr 0.85 [0.840"),
        ("pages/runs.html", HTML.replace(" [0.840, 0.866]", ""), "is: gone"),
        ("pages/runs.html", HTML.replace("900", "90"), "[0].n was 900, is 90"),
        ("pages/runs.csv", "label,CIDEr\nrun,0.854\n", '[0].CIDEr was "0.853", is "0.854"'),
        ("pages/study.json", '{"rows": [{"verdict": "-0.02", "minutes": 4.0, "seeds": null}]}', "rows[0].verdict was"),
        ("pages/study.json", '{"rows": [{"verdict": "0.02", "minutes": 4.0, "seeds": 2}]}', "seeds was null, is 2"),
        ("pages/study.md", "| run | -0.853 |\n", "was: “| run | 0.853 |”; is: “| run | -0.853 |”"),
    ],
)
def test_a_planted_difference_is_found(
    name: str, text: str | None, said: str, rules: ModuleType, tmp_path: Path
) -> None:
    """One file is changed, and the one difference found names it and what changed in it."""
    [difference], new = found(rules, tmp_path, name, text)
    assert difference.startswith(f"{name}: ")
    assert said in difference
    assert new == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run/checkpoints/step-000002/progress.json", '{"step": 2, "seconds": 9.5, "sha256": "cd"}'),
        ("run/adapter/adapter_config.json", '{"base_model_name_or_path": "/two/src/rscap/base/nano", "r": 2}'),
        ("run/scores/test.json", json.dumps(json.loads(FILES["run/scores/test.json"]), indent=2)),
        ("run/status.json", '{"selected": {"step": 4}, "state": "failed"}'),
        ("run/speed.jsonl", '{"step": 1, "seconds": 0.7}\n'),
        ("study/attempts.jsonl", FILES["study/attempts.jsonl"].replace('"no"', '"not so"').replace("1.0", "2.0")),
        ("study/logs/a.log", None),
        ("run/.lock", ""),
        ("pages/runs.html", HTML.replace("CIDEr", "the score of CIDEr is").replace("3px", "4px").replace("A1", "B2")),
        ("pages/study.json", '{"rows": [{"verdict": "better by 0.02", "minutes": 4.0, "seeds": null}]}'),
    ],
)
def test_what_may_change_is_no_difference(name: str, text: str | None, rules: ModuleType, tmp_path: Path) -> None:
    """Clocks, commits, the place of the package, the words of pages, logs and locks."""
    assert found(rules, tmp_path, name, text) == ([], [])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run/seen.npz", "\0", "a new file"),
        (
            "run/scores/test.json",
            '{"corpus": {"CIDEr": 0.853, "SPICE": 0.1}, "items": {"a": [1, 2]}}',
            "SPICE is a new key",
        ),
        ("run/status.json", '{"state": "finished", "selected": {"step": 3}, "version": 2}', "version is a new key"),
        ("pages/runs.html", HTML.replace("</p>", " of 900</p>"), "a new figure: “"),
        ("pages/runs.csv", "label,CIDEr,SPICE\nrun,0.853,0.1\n", "[0].SPICE is a new key"),
    ],
)
def test_what_is_new_is_told_apart(name: str, text: str, said: str, rules: ModuleType, tmp_path: Path) -> None:
    """New files, keys and figures are listed and are no difference."""
    differences, [new] = found(rules, tmp_path, name, text)
    assert differences == []
    assert new.startswith(f"{name}: ")
    assert said in new


def test_a_file_with_many_differences_is_summed_up(rules: ModuleType, tmp_path: Path) -> None:
    """Five are listed, the others counted."""
    old, new = tmp_path / "old", tmp_path / "new"
    for place, text in ((old, json.dumps(dict.fromkeys("abcdefgh", 1))), (new, "{}")):
        place.mkdir()
        (place / "plan.json").write_text(text, encoding="utf-8")
    told = [one.text for one in rules.compare(old, new)]
    assert told == [*(f"plan.json: {letter} is missing" for letter in "abcde"), "plan.json: and 3 more"]


def made(golden: ModuleType, folder: Path, text: str) -> str:
    """A folder that looks as if the script had made it, with one file."""
    folder.mkdir()
    (folder / "train.jsonl").write_text(text, encoding="utf-8")
    described = {"commit": None, "package": "", "work": golden.work_digest(), "machine": {}}
    (folder / golden.MADE).write_text(json.dumps(described), encoding="utf-8")
    return str(folder)


def test_the_exit_code_says_whether_folders_differ(
    golden: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 where nothing differs; 1 and the list where something does; 2 where the folders cannot be compared."""
    one, same, other = (made(golden, tmp_path / name, text) for name, text in (("a", "1"), ("b", "1"), ("c", "2")))
    assert golden.main([one, same]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert golden.main([one, other]) == 1
    assert capsys.readouterr().out.startswith("different: train.jsonl: differs at byte 1")
    described = json.loads((tmp_path / "c" / golden.MADE).read_text(encoding="utf-8"))
    (tmp_path / "c" / golden.MADE).write_text(json.dumps({**described, "work": "another"}), encoding="utf-8")
    assert golden.main([one, other]) == 2
    assert "make it again" in capsys.readouterr().err


def test_pages_are_made_without_the_clock(golden: ModuleType, tmp_path: Path) -> None:
    """Two runs that differ in times, speed and commit alone are the same file for file; another step is not."""
    for name, second, step in (("a", 1, 3), ("b", 2, 3), ("c", 1, 4)):
        run = tmp_path / name
        run.mkdir()
        status = {"started": f"2026-01-01T00:00:0{second}", "loop_seconds": second, "selected": {"step": step}}
        (run / "status.json").write_text(json.dumps(status), encoding="utf-8")
        (run / "provenance.json").write_text(json.dumps({"commit": f"{second}", "rscap": "0.1.0"}), encoding="utf-8")
        (run / "speed.jsonl").write_text(f'{{"step": 1, "seconds": {second}}}\n' * 2, encoding="utf-8")
        golden.stop_the_clock(run)
    contents = [sorted((path.name, path.read_text()) for path in (tmp_path / name).iterdir()) for name in "abc"]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
    assert contents[0][1][1].count("\n") == 2
