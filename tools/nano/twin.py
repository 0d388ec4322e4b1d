"""Write nano's Gemma 2 twin as a folder: random weights, nano's tokenizer, soft-capping, a sliding window of 40.

    python tools/nano/twin.py runs/nano2

It has learned nothing; studies/base.toml and tests use it to run Gemma 2's code without PaliGemma 2's weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from rscap.model.geometry import paligemma_config
from rscap.model.load import NANO


def write_twin(folder: Path) -> None:
    """The same weights on every call: they are drawn with seed 0."""
    processor = PaliGemmaProcessor.from_pretrained(NANO)
    config = paligemma_config("nano2", vocabulary=len(processor.tokenizer), image_token_id=processor.image_token_id)
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    write_twin(Path(sys.argv[1]))
