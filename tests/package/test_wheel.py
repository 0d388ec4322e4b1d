"""The wheel holds the whole package and works where nothing but its requirements is installed."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

from checkout import ROOT, tracked
from environments import Environment

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    """Recipes, studies, nano, styles and scripts are data, which a wheel loses in silence if nobody names them."""
    inside = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == {path.relative_to("src").as_posix() for path in tracked("src/rscap")}


def test_the_wheel_says_who_made_it_and_under_which_licence(wheel: Path) -> None:
    """Name, version, licence and its text are those of the checkout, and CITATION.cff has the same version."""
    with ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        headers = Parser().parsestr(archive.read(metadata).decode())
        licence = archive.read(metadata.replace("METADATA", "licenses/LICENSE"))
    assert (headers["Name"], headers["Version"]) == (PROJECT["name"], PROJECT["version"])
    assert headers["License-Expression"] == "Apache-2.0"
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_help_and_version_work_in_the_light_environment(light: Environment, tmp_path: Path) -> None:
    """The command is on the path and answers without torch."""
    assert light.python("import importlib.util as u; print(u.find_spec('torch'))", tmp_path) == "None\n"
    done = light.run("rscap", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "evaluate" in done.stdout
    assert light.run("rscap", "--version", cwd=tmp_path).stdout == f"{PROJECT['version']}\n"


def test_captions_are_scored_in_the_light_environment(light: Environment, tmp_path: Path) -> None:
    """A caption that is its only reference has every word and every pair of words right; METEOR, which needs an extra,
    is left out with a note that names the extra."""
    references = {"a": ["two planes stand on the apron"], "b": ["a river winds through fields"]}
    (tmp_path / "references.json").write_text(json.dumps(references), encoding="utf-8")
    (tmp_path / "captions.json").write_text(json.dumps({k: v[0] for k, v in references.items()}), encoding="utf-8")
    done = light.run("rscap", "score", "--candidates", "captions.json", "--references", "references.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"│ (\S+) +│ ([\d.]+) ", done.stdout))
    assert {name: float(value) for name, value in found.items()} == {
        **dict.fromkeys(("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"), 1.0),
        "CIDEr": 10.0,
    }
    assert "rscap[meteor]" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "quickstart --out q",
        "train risc-mini-nano",
        "evaluate nano --source sample",
        "caption a.png --model nano",
        "plan risc-fast --gpu 16GB",
        "ablate peft --out x",
        "export run --out x",
        "doctor risc-fast",
    ],
)
def test_a_command_that_needs_torch_names_the_extra(words: str, light: Environment, tmp_path: Path) -> None:
    """Without torch it ends with an error and the command that installs what is missing, not with a traceback."""
    done = light.run("rscap", *words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert "not installed" in done.stderr
    assert "pip install 'rscap[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_shipped_recipes_and_studies_are_found_by_name(light: Environment, tmp_path: Path) -> None:
    """All that the checkout has, read from a folder that has none."""
    code = """
from pathlib import Path
from rscap.recipe import read_recipe
from rscap.ablation.study import read_study
from rscap.shipped import names
for name in names("recipes"): print(name, type(read_recipe(Path(name))).__name__)
for name in names("studies"): print(name, type(read_study(Path(name))).__name__)
"""
    recipes = [f"{name} Recipe" for name in sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))]
    studies = [f"{name} Study" for name in sorted(path.stem for path in (ROOT / "studies").glob("*.toml"))]
    assert light.python(code, tmp_path).splitlines() == recipes + studies


def test_the_weights_of_nano_are_those_of_their_checksum(wheel: Path) -> None:
    """The model that ships is whole in the wheel."""
    with ZipFile(wheel) as archive:
        [weights] = [name for name in archive.namelist() if name.endswith("nano/model.safetensors")]
        expected = archive.read(f"{weights}.sha256").split()[0].decode()
        assert hashlib.sha256(archive.read(weights)).hexdigest() == expected


def test_pages_have_their_styles_and_scripts_in_the_light_environment(light: Environment, tmp_path: Path) -> None:
    """Pages about a run, a study and a data set, written where only the wheel is installed, hold each of the package's
    style sheets and scripts whole; a style sheet that no page holds would be found too."""
    frozen = ROOT / "tests" / "frozen" / "v01"
    (tmp_path / "data").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "captions.csv").write_text("image,caption_1\na.png,a plane\n", encoding="utf-8")
    for words in (
        ("report", str(frozen / "run"), "--split", "val", "--out", "run.html"),
        ("report", str(frozen / "study"), "--out", "study.html"),
        ("data", "inspect", "data", "--html", "data.html"),
    ):
        done = light.run("rscap", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    pages = {name: (tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("run", "study", "data")}
    parts = [path for path in tracked("src/rscap/reports") if path.suffix in (".css", ".js")]
    held = {path.name: {name for name, page in pages.items() if (ROOT / path).read_text() in page} for path in parts}
    assert held == {
        "style.css": {"run", "study", "data"},
        "page.js": {"run", "study", "data"},
        "browser.js": {"run", "study"},
    }


def test_the_light_environment_reports_a_study_without_its_pdf(light: Environment, tmp_path: Path) -> None:
    """Every other format is written, a line names the extra; to demand the PDF is an error that names it too."""
    study = str(ROOT / "tests" / "frozen" / "v01" / "study")
    done = light.run("rscap", "report", study, "--out", "study.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.suffix for path in tmp_path.glob("study.*")} == {".html", ".csv", ".json", ".md", ".tex"}
    assert done.stderr == "no PDF, since fpdf2 is not installed: pip install 'rscap[pdf]'\n"
    done = light.run("rscap", "report", study, "--out", "study.html", "--pdf", cwd=tmp_path)
    assert done.returncode == 2
    assert "a PDF needs the package fpdf2" in done.stderr
    assert "pip install 'rscap[pdf]'" in done.stderr


@pytest.mark.slow
def test_the_quickstart_runs_from_the_wheel(full: Environment, tmp_path: Path) -> None:
    """With the packages that the wheel requires and no other, from an empty folder, to the report's page."""
    done = full.run("rscap", "quickstart", "--out", "quickstart", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "quickstart").glob("*.html"))
    done = full.run("rscap", "verify", "quickstart", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
