"""docs/data.md: its code runs, and it names every format, split scheme, caption scheme and normalisation there is."""

from __future__ import annotations

import re
from pathlib import Path

from checkout import ROOT
from rscap.data import SCHEMES as CAPTION_SCHEMES
from rscap.data.convert import FORMATS
from rscap.data.splits import SCHEMES
from rscap.data.text import NORMALISATIONS

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_code_on_the_page_runs(real_data: Path) -> None:
    """Each Python block runs as printed, on the real images."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block.replace("../shared/data", str(real_data)), {})


def test_the_page_names_all_there_is() -> None:
    """Nothing that can be asked for by name is missing from the page, and its pictures exist."""
    for name in (*FORMATS, *SCHEMES, *CAPTION_SCHEMES, *NORMALISATIONS):
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", PAGE), name
    pictures = re.findall(r"images/[\w-]+\.webp", PAGE)
    assert len(pictures) == 4
    assert all((ROOT / "docs" / picture).is_file() for picture in pictures)
