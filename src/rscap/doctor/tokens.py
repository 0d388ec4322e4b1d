"""Vocabulary and special ids of a base model, as far as its name or its local files tell."""

from __future__ import annotations

from pathlib import Path

import rscap.model
from rscap.doctor.reading import Reader, mapping

_NANO = Path(rscap.model.__file__).parent / "nano"
_PALIGEMMA = {"vocabulary": 257_216, "image": 257_152, "bos": 2, "eos": 1, "pad": 0}


def known_tokens(base: str, reader: Reader) -> dict[str, int]:
    """`vocabulary`, `image`, `bos`, `eos`, `pad`: of a local base model's config.json, or PaliGemma's by its name."""
    known = dict(_PALIGEMMA) if "paligemma" in base.lower() else {}
    file = (_NANO if base == "nano" else Path(base)) / "config.json"
    config = reader.read(file, mapping) if base and file.is_file() else None
    if not config:
        return known
    found = {
        "vocabulary": config.get("text_config", {}).get("vocab_size", config.get("vocab_size")),
        "image": config.get("image_token_index", config.get("image_token_id")),
        **{name: config.get(f"{name}_token_id") for name in ("bos", "eos", "pad")},
    }
    return known | {name: value for name, value in found.items() if isinstance(value, int)}
