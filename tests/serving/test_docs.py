"""What docs/serving.md shows works as it stands there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from checkout import ROOT
from rscap.serving.models import ServedModels
from served import Live, png

TEXT = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
CURL = [line for line in TEXT.splitlines() if line.startswith("curl ")]


@pytest.mark.parametrize("line", CURL)
def test_the_lines_for_curl_answer(line: str, live: Live, tmp_path: Path) -> None:
    """Each line, asked of this server, gives a caption for every file that it names."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not on the PATH")
    if "field.tif" in line:
        rasters = pytest.importorskip("rasters", reason="needs the extra `geo`")
        (tmp_path / "field.tif").write_bytes(rasters.geotiff(2))
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes(png(number))
    words = shlex.split(line.replace(ADDRESS, live.url).replace("model=risc", "model=tuned"))
    done = subprocess.run([*words, "--silent", "--fail"], cwd=tmp_path, capture_output=True, text=True, check=True)
    if "field.tif" in line:
        assert json.loads(done.stdout)["features"][0]["properties"]["caption"]
    else:
        assert all(json.loads(row)["caption"] for row in done.stdout.splitlines())
        assert len(done.stdout.splitlines()) == line.count("@")


def test_the_lines_for_openais_client_print_a_caption(
    live: Live,
    models: ServedModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The block of Python prints what the captioner says."""
    found = re.search(r"```python\n(.*?)```", TEXT, re.S)
    assert found
    (tmp_path / "scene.png").write_bytes(png(3))
    monkeypatch.chdir(tmp_path)
    exec(compile(found.group(1).replace(ADDRESS, live.url), "docs/serving.md", "exec"), {})
    assert capsys.readouterr().out.strip() == models["nano"].captioner.caption(png(3)).caption
