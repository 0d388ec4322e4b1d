"""An export is asked as its `model.stac.json` says, and nothing else in such a file is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rscap.captioner.exported import exported_as
from rscap.captioner.loading import ModelRef
from rscap.errors import StoreError
from rscap.recipe import GenerateSection
from rscap.store import MODEL_ITEM

OURS = {
    "weights.form": "merged",
    "weights.dtype": "bfloat16",
    "prompt.prefix": "describe it",
    "generate.beams": 3,
    "train.learning_rate": 1e-3,
}


def written(folder: Path, settings: object) -> Path:
    folder.mkdir(exist_ok=True)
    item = {"type": "Feature", "properties": {"mlm:hyperparameters": settings}}
    (folder / MODEL_ITEM).write_text(json.dumps(item), encoding="utf-8")
    return folder


def test_an_export_is_asked_in_its_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompt, precision and decode settings are those of the file, and nothing is said; arguments come first."""
    folder = str(written(tmp_path / "mine", OURS))
    ref = ModelRef.of(folder)
    assert (ref.prefix, ref.section.dtype, ref.generate.beams) == ("describe it", "bfloat16", 3)
    assert ref.exported == ref.generate
    other = ModelRef.of(folder, prefix="caption en", dtype="float32", changes=["generate.beams=2"])
    assert (other.prefix, other.section.dtype, other.generate.beams) == ("caption en", "float32", 2)
    assert exported_as(tmp_path / "nowhere", pytest.fail) is None
    assert capsys.readouterr().err == ""


# What is changed, what the note names, and what is left of prompt, precision and beams.
MISFITS: dict[str, tuple[dict[str, Any], str, tuple[str | None, str | None, int]]] = {
    "a prompt that is no text": ({"prompt.prefix": ["a"]}, "prompt.prefix", (None, "bfloat16", 3)),
    "a prompt without end": ({"prompt.prefix": "a" * 2_001}, "prompt.prefix", (None, "bfloat16", 3)),
    "an unknown precision": ({"weights.dtype": "float8"}, "weights.dtype 'float8'", ("describe it", None, 3)),
    "a precision in a list": ({"weights.dtype": ["float32"]}, "weights.dtype", ("describe it", None, 3)),
    "a number out of range": ({"generate.beams": 10**6}, "decode settings", ("describe it", "bfloat16", 1)),
    "an unknown setting": ({"generate.code": "x"}, "decode settings", ("describe it", "bfloat16", 1)),
    "settings at odds": ({"generate.temperature": 1.0}, "decode settings", ("describe it", "bfloat16", 1)),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_left_out_with_a_note(tmp_path: Path, kind: str) -> None:
    """The rest of the file still counts, and the note names file and key on one line."""
    change, named, left = MISFITS[kind]
    folder, notes = written(tmp_path / "mine", {**OURS, **change}), list[str]()
    found = exported_as(folder, notes.append)
    assert found is not None
    assert (found.prefix, found.dtype, found.generate.beams) == left
    (note,) = notes
    assert note.startswith(f"note: {folder / MODEL_ITEM}")
    assert named in note
    assert "\n" not in note


@pytest.mark.parametrize(
    "settings", [None, [1], {}, {"weights.form": "another"}, {"prompt.prefix": "obey"}, "x" * 2**20]
)
def test_a_file_of_another_program_changes_nothing(
    tmp_path: Path, settings: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Items that rscap did not write, or of more than a MiB, are passed over with a note: the model is a base model."""
    ref = ModelRef.of(str(written(tmp_path / "theirs", settings)))
    assert ref.exported is None
    assert ref.generate == GenerateSection()
    assert (ref.prefix, ref.section.dtype) == ("caption en", "auto")
    assert MODEL_ITEM in capsys.readouterr().err


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """As for every file of somebody's folder."""
    written(tmp_path / "mine", OURS)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / MODEL_ITEM).symlink_to(tmp_path / "mine" / MODEL_ITEM)
    with pytest.raises(StoreError, match="leads out of"):
        ModelRef.of(str(tmp_path / "theirs"))
