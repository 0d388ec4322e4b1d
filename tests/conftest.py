"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, captions and golden scores; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("RSCAP_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set RSCAP_REAL_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def nano2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nano's Gemma 2 twin: random weights, nano's processor, a sliding window of 40."""
    import torch
    from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

    from rscap.model.geometry import paligemma_config
    from rscap.model.load import NANO

    folder = tmp_path_factory.mktemp("base") / "nano2"
    processor = PaliGemmaProcessor.from_pretrained(NANO)
    config = paligemma_config("nano2", vocabulary=len(processor.tokenizer), image_token_id=processor.image_token_id)
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
