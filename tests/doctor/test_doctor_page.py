"""docs/doctor.md says what the code does: the findings are the catalogue's, its examples work; and the command."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from checkout import ROOT
from rscap.cli import app
from rscap.doctor import CATALOGUE, KINDS
from rscap.doctor.foreign import Statement, read_foreign
from rscap.doctor.reading import EvidenceReader

Start = tuple[Any, Any, dict[str, torch.Tensor]]
PAGE = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")


def catalogue_as_page() -> str:
    """The findings as the page lists them."""
    parts = []
    for group, kinds in CATALOGUE.items():
        parts.append(f"### {group}\n")
        for code, kind in kinds.items():
            parts.append(f"**`{code}`** · {kind.severity} · {kind.title}  ")
            parts.append(f"*Told by:* {kind.when}  \n*Why:* {kind.why}  \n*Do:* {kind.cure}\n")
    return "\n".join(parts).strip()


def test_the_page_lists_every_finding() -> None:
    """The part below `## Findings` is the catalogue, word for word."""
    assert PAGE.split("\n## Findings\n", 1)[1].strip() == catalogue_as_page()
    assert len(re.findall(r"^\*\*`", PAGE, flags=re.MULTILINE)) == len(KINDS)


def test_the_doctor_toml_of_the_page_is_read() -> None:
    """The example names every key that there is, and is accepted."""
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    table = tomllib.loads(example)
    Statement.model_validate(table)
    keys = {f"{name}.{key}" for name, section in table.items() for key in section}
    known = {
        f"{name}.{key}"
        for name, field in Statement.model_fields.items()
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    }
    assert keys == known


def test_the_snapshot_of_the_page_runs(plain_start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines for other people's training scripts run as printed and leave a folder that can be diagnosed."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    processor, model, batch = plain_start
    monkeypatch.chdir(tmp_path)
    exec(code, {"model": model, "batch": batch, "processor": processor})
    evidence = read_foreign(tmp_path / "my-run", EvidenceReader(tmp_path / "my-run"))
    assert evidence.targets is not None
    assert evidence.targets.captions == 2
    assert evidence.attention is not None
    assert (evidence.attention.future_seen, evidence.attention.prefix_reach) == (0, evidence.attention.before)


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    return result.exit_code, result.stdout


def test_the_command_is_silent_on_a_good_run(good_run: Path) -> None:
    """Nothing found: one line, exit code 0, and what was not looked at."""
    code, text = invoke(str(good_run), "--no-probe")
    assert code == 0
    assert "nothing found" in " ".join(text.split())
    assert "not looked at: attention mask" in text


def test_the_command_fails_on_a_bad_run(prior_work_a: Path) -> None:
    """Errors end in exit code 1; JSON has the same findings, and says so itself."""
    code, text = invoke(str(prior_work_a))
    assert code == 1
    for part in ("error: image tokens are labels", "[image-targets]", "evidence", "where", "why", "cure"):
        assert part in text
    code, text = invoke(str(prior_work_a), "--json")
    assert code == 1
    report = json.loads(text)
    assert report["sound"] is False
    assert {finding["code"] for finding in report["findings"]} <= set(KINDS)
    assert set(report["findings"][0]) == {"code", "severity", "title", "evidence", "where", "why", "cure"}


def test_a_warning_alone_is_no_failure(run: Path) -> None:
    """Warnings are printed, and the exit code stays 0."""
    file = run / "recipe.toml"
    text = file.read_text(encoding="utf-8").replace("train_limit = 256", "train_limit = 100")
    file.write_text(text, encoding="utf-8")
    code, text = invoke(str(run), "--no-probe")
    assert code == 0
    assert "warning: few training images" in text
