"""The documentation as a website: it builds without a warning, and its pages load nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

LOADS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["']?(?P<src>[^"'\s>]+)"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*\bhref=["']?(?P<link>[^"'\s>]+)"""
    r"""|@import\s+(?:url\()?["']?(?P<imported>[^"')]+)|url\(["']?(?P<url>[^"')]+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; `strict` makes a broken link, an absent page or an unknown name in a docstring an error."""
    pytest.importorskip("material", reason="the website needs mkdocs-material: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_of_docs_is_on_the_site(site: Path) -> None:
    """No Markdown page is left out."""
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in site.glob("*.html")}


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures lie in the site; only links that a reader clicks lead away."""
    foreign = [
        f"{path.name}: {address}"
        for path in [*site.rglob("*.html"), *site.rglob("*.css")]
        for found in LOADS.finditer(path.read_text(encoding="utf-8"))
        if re.match(r"(?:https?:)?//", address := next(filter(None, found.groups())))
    ]
    assert foreign == []


def test_the_reference_names_what_the_library_offers(site: Path) -> None:
    """Each function that `dir(rscap)` lists stands on the reference page."""
    import rscap

    page = (site / "api.html").read_text(encoding="utf-8")
    functions = [name for name in dir(rscap) if callable(getattr(rscap, name)) and not name[0].isupper()]
    assert [name for name in functions if f'id="rscap.library.{name}"' not in page] == []
