"""Write nano with random weights as a folder: its Gemma 2 twin, or nano itself before it learned anything.

    python tools/nano/twin.py runs/nano2                  # soft-capping and a sliding window of 40
    python tools/nano/twin.py runs/nano-untrained nano

Both have nano's tokenizer and have learned nothing. studies/base.toml and tests run Gemma 2's code through the first,
without PaliGemma 2's weights; studies/learning-speed.toml asks of the second what a pretrained start is worth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from rscap.model.families.paligemma import paligemma_config
from rscap.model.load import NANO


def write_twin(folder: Path, geometry: str) -> None:
    """The same weights on every call: they are drawn with seed 0."""
    processor = PaliGemmaProcessor.from_pretrained(NANO)
    config = paligemma_config(geometry, vocabulary=len(processor.tokenizer), image_token_id=processor.image_token_id)
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("geometry", nargs="?", default="nano2", choices=("nano2", "nano"))
    given = parser.parse_args()
    write_twin(given.folder, given.geometry)


if __name__ == "__main__":
    main()
