"""Recipes and studies that come with the package, by name: `rscap train risc-fast`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

ShippedKind = Literal["recipes", "studies"]

_HERE = Path(__file__).parent


def shipped(path: Path, kind: ShippedKind) -> Path:
    """`path` where there is something; else the shipped file of that name, if there is one.

    `NAME`, `NAME.toml` and `recipes/NAME.toml` name it; any other path comes back as it is, for the error to tell.
    """
    if path.exists() or path.parent not in (Path(), Path(kind)) or path.suffix not in ("", ".toml"):
        return path
    found = _HERE / kind / f"{path.stem if path.suffix else path.name}.toml"
    return found if found.is_file() else path


def names(kind: ShippedKind) -> list[str]:
    """The names of all that are shipped."""
    return sorted(path.stem for path in (_HERE / kind).glob("*.toml"))
