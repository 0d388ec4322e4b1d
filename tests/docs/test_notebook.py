"""notebooks/hosted_gpu.ipynb: made from code, and its cells run."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from PIL import Image

from checkout import ROOT
from rscap import open_data
from rscap.store import read_jsonl

SOURCE = ROOT / "notebooks" / "hosted_gpu.py"


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("notebook_tool", ROOT / "tools" / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebook_tool"] = module
    spec.loader.exec_module(module)
    return module


def test_the_notebook_is_that_of_its_source() -> None:
    """notebooks/hosted_gpu.ipynb is what tools/notebook.py makes, and no cell has an output."""
    text = SOURCE.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == tool().notebook(SOURCE.read_text(encoding="utf-8"))
    assert all(not cell.get("outputs") for cell in json.loads(text)["cells"])


def code_of(words: str) -> str:
    """The cell that holds these words, as Python."""
    [found] = [one.python() for one in tool().cells(SOURCE.read_text(encoding="utf-8")) if words in one.python()]
    return str(found)


def test_rscap_is_installed_from_what_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address, a path, or the wheel that lies in the session's folder; without any, the error says what to upload.
    pip reads the requirement, extras included."""
    monkeypatch.chdir(tmp_path)
    cell = code_of("REQUIREMENT =")
    with pytest.raises(FileNotFoundError, match="upload rscap-"):
        exec(cell, {"RSCAP": ""})
    wheel = tmp_path / "rscap-0.2.0-py3-none-any.whl"
    wheel.touch()
    for given, url in (
        ("", wheel.as_uri()),
        (wheel.name, wheel.as_uri()),
        ("https://example.org/rscap-0.2.0-py3-none-any.whl", "https://example.org/rscap-0.2.0-py3-none-any.whl"),
    ):
        names: dict[str, Any] = {"RSCAP": given}
        exec(cell, names)
        asked = Requirement(names["REQUIREMENT"])
        assert (asked.name, asked.extras, asked.url) == ("rscap", {"train", "meteor"}, url)


def test_runs_are_kept_on_a_mounted_drive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On Colab the drive is mounted first; a folder that is named goes before; elsewhere it is the folder `runs`."""
    cell, mounted = code_of("drive.mount"), []
    colab, package = ModuleType("google.colab"), ModuleType("google")
    colab.__dict__["drive"] = SimpleNamespace(mount=mounted.append)
    for given, there, kept in (("", True, "/content/drive/MyDrive/rscap"), ("", False, "runs"), ("a/b", False, "a/b")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "google", package if there else None)
            patch.setitem(sys.modules, "google.colab", colab if there else None)
            names: dict[str, Any] = {"RUNS": given, "Path": Path}
            exec(cell, names)
        assert names["runs"] == Path(kept)
    assert mounted == ["/content/drive"]
    assert "runs are kept in" in capsys.readouterr().out


def test_the_token_comes_from_the_secrets_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kaggle's secret is put where the Hub's client looks; nobody is asked where a token is there, or for a model that
    needs none; elsewhere the client asks."""
    cell, logins = code_of("UserSecretsClient"), []
    secrets = ModuleType("kaggle_secrets")
    secrets.__dict__["UserSecretsClient"] = lambda: SimpleNamespace(get_secret=lambda name: f"the secret {name}")
    monkeypatch.setattr("huggingface_hub.login", lambda: logins.append("asked"))
    for base, token, kaggle, asked, secret in (
        ("nano", None, True, 0, None),
        ("google/paligemma", "there", True, 0, None),
        ("google/paligemma", None, True, 0, "the secret HF_TOKEN"),
        ("google/paligemma", None, False, 1, None),
    ):
        logins.clear()
        with monkeypatch.context() as patch:
            patch.delenv("HF_TOKEN", raising=False)
            patch.setattr("huggingface_hub.get_token", lambda token=token: token)
            patch.setitem(sys.modules, "kaggle_secrets", secrets if kaggle else None)
            exec(cell, {"BASE": base})
            assert os.environ.get("HF_TOKEN") == secret
            assert len(logins) == asked
            os.environ.pop("HF_TOKEN", None)


def test_every_cell_runs_and_a_second_time_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nano and the sample in place of the real ones, all cells run from top to bottom, and again after a
    disconnect, when nothing is trained or evaluated twice; the captions that it prints are those of the evaluation."""
    shown: list[Image.Image] = []
    notebook = ModuleType("IPython.display")
    notebook.__dict__["display"] = shown.append
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    cells = [
        one for one in tool().cells(SOURCE.read_text(encoding="utf-8")) if not one.markdown and "setup" not in one.tags
    ]
    assert len(cells) > 6
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 64), "green").save(photos / "field.png")
    (photos / "notes.txt").write_text("not an image")
    small = {
        "RSCAP": str(ROOT),
        "BASE": "nano",
        "SOURCE": "sample",
        "MINUTES": 0.05,
        "TRAIN_IMAGES": 24,
        "TEST_IMAGES": 6,
        "RUNS": str(tmp_path / "runs"),
        "PHOTOS": str(photos),
    }
    made = []
    for _ in range(2):
        names: dict[str, Any] = {}
        for cell in cells:
            exec(compile(cell.python(), str(SOURCE), "exec"), names)
            if "settings" in cell.tags:
                assert small.keys() <= names.keys()
                names |= small
        made.append({path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")})
    assert made[0] == made[1]
    printed, said = capsys.readouterr()
    captions = {
        row["id"]: row["caption"] for row in read_jsonl(tmp_path / "runs" / "test" / "predictions" / "test.jsonl")
    }
    assert len(captions) == 6
    looked = open_data("sample").subset("test", 5, seed=0)
    assert all(f"{captions[example.id]}\nreference: {example.captions[0]}\n" in printed for example in looked)
    assert len(shown) == 2 * (5 + 1)
    assert re.search(r"^field\.png: \S+", printed, flags=re.MULTILINE)
    assert re.search(r"^notes\.txt: .*not an image", printed, flags=re.MULTILINE)
    with (tmp_path / "runs" / "captions.csv").open(encoding="utf-8", newline="") as stream:
        assert [row[0] for row in csv.reader(stream)] == ["image", "field.png"]
    assert "is finished already" in said
    assert (tmp_path / "runs" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "runs" / "captioner" / "adapter_model.safetensors").is_file()
    assert "adapter_model.safetensors" in ZipFile(tmp_path / "runs" / "captioner.zip").namelist()
