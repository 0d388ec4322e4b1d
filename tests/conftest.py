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
    return with_random_weights("nano2", tmp_path_factory.mktemp("base") / "nano2")


@pytest.fixture(scope="session")
def untrained_nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nano as it was before it learned: every token is as likely to it."""
    return with_random_weights("nano", tmp_path_factory.mktemp("base") / "untrained")


def with_random_weights(geometry: str, folder: Path) -> Path:
    """The same weights on every call, and nano's processor."""
    import torch
    from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

    from rscap.model.geometry import paligemma_config
    from rscap.model.load import NANO

    processor = PaliGemmaProcessor.from_pretrained(NANO)
    config = paligemma_config(geometry, vocabulary=len(processor.tokenizer), image_token_id=processor.image_token_id)
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
