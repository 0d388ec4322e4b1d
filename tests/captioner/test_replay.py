"""Decoding steps of fixed shapes: the same tokens as steps that grow, on any device that can compute them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rscap.captioner import Captioner
from rscap.captioner.batch import Encoder
from rscap.data import open_source
from rscap.model import replay
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection, ModelSection
from rscap.records import Prediction


def loaded(base: str, dtype: str) -> tuple[Base, Captioner]:
    found = load_base(ModelSection(base=base, dtype=dtype))
    packed = PackedModel(found.model, compute_dtype=found.compute_dtype).eval()
    return found, Captioner(packed, Encoder.of(found), prefix="caption en", settings=GenerateSection())


def said(captioner: Captioner, count: int, **decode: object) -> list[Prediction]:
    images = [example.image.load() for example in open_source("sample").subset("train", count, 0)]
    return captioner.caption(images, **decode)


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed shapes wherever they can be computed; only the recording of a graph needs CUDA."""
    monkeypatch.setattr(replay, "usable", lambda packed, images, slots: True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "seed": 3}, {"no_repeat_ngram": 2}])
def test_captions_are_those_of_growing_shapes(
    dtype: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five images in batches of four, of which the last is padded: tokens, ends and near-ties are the same."""
    _, captioner = loaded("nano", dtype)
    growing = said(captioner, 5, batch_size=4, max_new_tokens=24, **settings)
    monkeypatch.setattr(replay, "usable", lambda packed, images, slots: True)
    assert said(captioner, 5, batch_size=4, max_new_tokens=24, **settings) == growing
    (still,) = captioner.packed.stills.made
    assert still.tokens.shape == (4, 1)


def test_gemma_2_is_decoded_alike(nano2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soft-capped scores, too, while the window does not bind; where it would, shapes grow."""
    _, captioner = loaded(str(nano2), "float32")
    assert captioner.packed.window == 40
    assert not replay.usable(captioner.packed, images=3, slots=40)
    captioner.packed.bare.config.text_config.sliding_window = 4096
    growing = said(captioner, 3, batch_size=4, max_new_tokens=8)
    monkeypatch.setattr(replay, "usable", lambda packed, images, slots: True)
    assert said(captioner, 3, batch_size=4, max_new_tokens=8) == growing


@pytest.mark.usefixtures("fixed")
def test_what_is_kept_is_used_again_and_bounded() -> None:
    """One step serves fewer images and any prompt of its length; of three sizes the oldest goes."""
    _, captioner = loaded("nano", "float32")
    said(captioner, 4, batch_size=4, max_new_tokens=8)
    (first,) = captioner.packed.stills.made
    said(captioner, 1, batch_size=1, max_new_tokens=8)
    assert captioner.packed.stills.made == [first]
    for tokens in (40, 70):
        said(captioner, 1, batch_size=1, max_new_tokens=tokens)
    assert len(captioner.packed.stills.made) == 2
    assert first not in captioner.packed.stills.made


@pytest.mark.usefixtures("fixed")
def test_weights_that_move_are_noticed() -> None:
    """A graph reads memory: when a weight lies elsewhere, what was made for it is let go."""
    _, captioner = loaded("nano", "float32")
    said(captioner, 1, max_new_tokens=4)
    (before,) = captioner.packed.stills.made
    weight = captioner.packed.bare.model.language_model.layers[0].mlp.down_proj.weight
    weight.data = weight.data.clone()
    said(captioner, 1, max_new_tokens=4)
    (after,) = captioner.packed.stills.made
    assert after is not before


def test_a_model_that_trains_is_not_replayed() -> None:
    """Fixed shapes are for CUDA, for models without trainable weights, and for batches within the limit."""
    base = load_base(ModelSection(base="nano", dtype="bfloat16"))
    packed = PackedModel(base.model, compute_dtype=base.compute_dtype)

    class OnGpu:
        device, window, net = torch.device("cuda"), None, packed.net

    on_gpu: PackedModel = OnGpu()  # type: ignore[assignment]
    assert not replay.usable(packed, images=1, slots=100)
    assert replay.usable(on_gpu, images=256, slots=100)
    assert not replay.usable(on_gpu, images=257, slots=100)
    packed.net.get_parameter("model.multi_modal_projector.linear.weight").requires_grad_(True)
    assert not replay.usable(on_gpu, images=1, slots=100)


@pytest.mark.usefixtures("fixed")
def test_a_failure_is_said_once_and_costs_no_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a step cannot be recorded, captions come from steps that grow, and one line says so."""
    _, captioner = loaded("nano", "float32")
    growing = said(captioner, 2, batch_size=1, max_new_tokens=6)
    captioner.packed.stills.drop()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(replay, "Still", broken)
    lines: list[str] = []
    images = open_source("sample").subset("train", 2, 0)
    settings = GenerateSection(batch_size=1, max_new_tokens=6)
    found = list(captioner.predictions(images, settings=settings, say=lines.append))
    assert [one.caption for one in found if isinstance(one, Prediction)] == [one.caption for one in growing]
    assert len(lines) == 1
    assert lines[0].endswith("at a lower speed: operation not permitted when stream is capturing")
