"""A hook of MkDocs: links from a page to files of the repository that are no page become plain text on the website."""

from __future__ import annotations

import re
from typing import Any

_LEAVES = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s]*)\)")
_PAGES = {"../README.md": "index.md"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with links that lead out of docs/ replaced by their text, or by the page that says the same."""

    def replaced(found: re.Match[str]) -> str:
        page = _PAGES.get(found[2].partition("#")[0])
        return f"[{found[1]}]({page})" if page else found[1]

    return _LEAVES.sub(replaced, markdown)
