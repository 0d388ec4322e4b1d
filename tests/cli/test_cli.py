"""The command line answers at once, fails with a sentence, and its commands do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from command_line import rscap


def test_help_imports_nothing_heavy() -> None:
    """`rscap --help` loads neither torch nor numpy nor pydantic nor Pillow."""
    code = (
        "import sys; from rscap.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'PIL', 'transformers', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("quickstart", "train", "evaluate", "caption", "score", "report"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere.toml"], "recipe nowhere.toml does not exist"),
        (["evaluate", "nano"], "no data named to evaluate nano on"),
        (["report", "nowhere"], "nowhere"),
        (["score", "--candidates", "nowhere.json", "--references", "nowhere.csv"], "nowhere"),
    ],
)
def test_an_error_is_a_sentence_with_a_way_out(arguments: list[str], message: str, tmp_path: Path) -> None:
    """Errors go to standard error, name the thing, exit with 2 and show no traceback."""
    done = rscap(*arguments, cwd=tmp_path)
    assert done.code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_misspelt_override_is_found_before_torch_is_loaded(tmp_path: Path) -> None:
    """A wrong key costs no seconds and leaves no folder."""
    recipe = tmp_path / "r.toml"
    recipe.write_text('[data]\nsource = "sample"\n[model]\nbase = "nano"\n[adapter]\n', encoding="utf-8")
    code = (
        "import sys; from rscap.cli import main\n"
        f"sys.argv = ['rscap', 'train', {str(recipe)!r}, '--set', 'train.lr=3']\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert "unknown key 'train.lr'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_caption_prints_one_line_an_image(tmp_path: Path) -> None:
    """Captions go to standard output, file name first; a broken file goes to standard error and exit code 1."""
    from rscap.sample import sample_examples

    sample_examples()[0].image.load().save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"")
    done = rscap("caption", "a.png", "b.jpg", "--model", "nano", "--dtype", "float32", cwd=tmp_path)
    assert done.code == 1
    name, caption = done.stdout.strip().split("\t")
    assert name == "a.png"
    assert len(caption.split()) > 2
    assert "b.jpg" in done.stderr
