"""The packed batch is exact: its loss and gradients are those of separate sequences through transformers' own path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from rscap.captioner.batch import Batch, PackedRow, collate, pack
from rscap.model.families import FAMILIES, family_of, geometry_config
from rscap.model.packed import PackedModel

GEOMETRIES = ["nano", "nano2", "smolnano"]
BOS, EOS, PAD, IMAGE = 2, 1, 0, 127
PREFIX_WORDS = [11, 12, 13]
SUFFIXES = [
    [[20, 21, 22, EOS], [23, EOS], [24, 25, 26, 27, 28, 29, EOS], [20, 30, EOS], [EOS]],
    [[40, 41, EOS], [42, 43, 44, 45, 46, 47, 48, 49, 50, 51, EOS], [20, EOS]],
    [[60, EOS]],
]


def small_model(geometry: str) -> Any:
    """A random model with weights large enough for attention to matter."""
    torch.manual_seed(0)
    config = geometry_config(geometry, vocabulary=128, image_token_id=IMAGE)
    model = FAMILIES[config.model_type].model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def prefix_of(model: Any) -> list[int]:
    """Image tokens first, or between words as in a chat."""
    image = [IMAGE] * family_of(model).image_tokens(model.config)
    return [*image, BOS, *PREFIX_WORDS] if family_of(model).name == "paligemma" else [BOS, 5, *image, 6, *PREFIX_WORDS]


def packed_rows(model: Any, suffixes: list[list[list[int]]]) -> Batch:
    """One row for every image, all its suffixes packed."""
    generator, family = torch.Generator().manual_seed(1), family_of(model)
    side = model.config.vision_config.image_size
    rows = [
        PackedRow(
            example_id=str(index),
            pixels=torch.randn(*((1,) if family.squares else ()), 3, side, side, generator=generator),
            captions=len(of_image),
            **pack(prefix_of(model), of_image, first=family.first_position),
        )
        for index, of_image in enumerate(suffixes)
    ]
    return collate(rows, pad=PAD)


def separate_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Summed loss of one right-padded sequence a caption, by `labels` and, where masks use them, `token_type_ids`."""
    prefix = prefix_of(model)
    pairs = [(image, suffix) for image, of_image in enumerate(SUFFIXES) for suffix in of_image]
    width = max(len(prefix) + len(suffix) for _, suffix in pairs)

    def padded(make: Any) -> torch.Tensor:
        rows = [make(suffix) for _, suffix in pairs]
        return torch.tensor([values + [fill] * (width - len(values)) for values, fill in rows])

    labels = padded(lambda suffix: ([-100] * len(prefix) + suffix, -100))
    types = {"token_type_ids": padded(lambda suffix: ([0] * len(prefix) + [1] * len(suffix), 1))}
    outputs = model(
        input_ids=padded(lambda suffix: (prefix + suffix, PAD)),
        attention_mask=padded(lambda suffix: ([1] * (len(prefix) + len(suffix)), 0)),
        pixel_values=batch.pixel_values[[image for image, _ in pairs]],
        labels=labels,
        **({} if family_of(model).causal_prefix else types),
    )
    return outputs.loss * (labels != -100).sum()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_loss_and_gradients_equal_those_of_separate_sequences(geometry: str) -> None:
    """K ragged captions in one sequence: loss and gradients of K sequences (PaliGemma 1; 2, window 40; SmolVLM2)."""
    model = small_model(geometry)
    batch = packed_rows(model, SUFFIXES)
    assert geometry != "nano2" or model.config.text_config.sliding_window < batch.tokens.shape[1]

    ours = PackedModel(model, compute_dtype=torch.float32)(batch)
    ours.backward()
    gradients = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    theirs = separate_loss(model, batch)
    theirs.backward()

    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert len(gradients) == len(list(model.parameters()))
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-6 * largest, msg=name)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # by the tracer
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_compiled_layers_give_loss_and_gradients_of_eager_ones(geometry: str) -> None:
    """Layers through torch.compile, as the benchmarks try them, traced forward and backward: compiled = eager."""
    model = small_model(geometry)
    batch = packed_rows(model, SUFFIXES)
    packed = PackedModel(model, compute_dtype=torch.float32)
    eager = packed(batch)
    eager.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        calls.append(len(inputs))
        return aot_eager(graph, inputs)

    try:
        for layer in packed.language.layers[:-1]:
            layer.compile(dynamic=True, backend=backend)
        compiled = packed(batch)
        compiled.backward()
    finally:
        torch.compiler.reset()
    assert calls
    assert compiled.item() == pytest.approx(eager.item(), rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-5, atol=1e-6 * largest, msg=name)


def moved(model: Any, batch: Batch, column: int) -> set[int]:
    """The positions of row 0 whose last hidden state changes when the token at `column` does."""
    changed = batch.tokens.clone()
    changed[0, column] = 99
    packed = PackedModel(model, compute_dtype=torch.float32)
    other = packed_rows(model, SUFFIXES)
    object.__setattr__(other, "tokens", changed)
    with torch.no_grad():
        difference = (packed.hidden(batch) - packed.hidden(other))[0].abs().amax(dim=-1)
    return set(torch.nonzero(difference > 1e-6).flatten().tolist())


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_last_prefix_token_moves_every_position_that_sees_it(geometry: str) -> None:
    """Every branch sees the prefix: changing its last token moves all outputs of the row; in a family whose prefix is
    causal, all but those of the prefix before it."""
    model = small_model(geometry)
    batch = packed_rows(model, SUFFIXES)
    row = [column for column in range(batch.tokens.shape[1]) if batch.branch[0, column] >= 0]
    last = len(prefix_of(model)) - 1
    seeing = row[last:] if family_of(model).causal_prefix else row
    assert moved(model, batch, last) == set(seeing)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_suffix_token_moves_only_itself_and_its_own_future(geometry: str) -> None:
    """Branches are isolated and causal: a token moves itself and what follows it in its own branch, nothing else."""
    model = small_model(geometry)
    batch = packed_rows(model, SUFFIXES)
    branch = batch.branch[0].tolist()
    third = [column for column, value in enumerate(branch) if value == 3]
    assert moved(model, batch, third[2]) == set(third[2:])
    assert moved(model, batch, third[-1]) == {third[-1]}


def test_every_caption_is_predicted_whole() -> None:
    """Targets are the suffixes, each closed by one <eos>; the first token of each comes from the last prefix token."""
    model = small_model("smolnano")
    batch = packed_rows(model, SUFFIXES)
    expected = [token for of_image in SUFFIXES for suffix in of_image for token in suffix]
    assert batch.targets.tolist() == expected
    assert batch.captions == batch.targets.tolist().count(EOS) == 9
    last_prefix = len(prefix_of(model)) - 1
    assert batch.source_columns.tolist().count(last_prefix) == batch.captions
    assert EOS not in batch.tokens[batch.branch >= 0].tolist()


def test_positions_restart_after_the_prefix_in_every_branch() -> None:
    """Rotary positions count from the first, and every branch begins behind the prefix."""
    laid = pack([7, 8, 9], [[1, 2, 3, EOS], [4, 5, EOS]])
    assert laid["positions"] == [1, 2, 3, 4, 5, 6, 4, 5]
    assert laid["branch"] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert laid["sources"] == [2, 3, 4, 5, 2, 6, 7]
    assert pack([7, 8, 9], [[1, EOS]], first=0)["positions"] == [0, 1, 2, 3]


@pytest.mark.parametrize("geometry", ["nano", "smolnano"])
def test_extra_padding_changes_nothing(geometry: str) -> None:
    """A row padded to a longer neighbour has the loss it has alone."""
    model = small_model(geometry)
    packed = PackedModel(model, compute_dtype=torch.float32)
    with torch.no_grad():
        together = float(packed(packed_rows(model, SUFFIXES)))
    total = 0.0
    whole = packed_rows(model, SUFFIXES)
    for index in range(len(SUFFIXES)):
        alone = packed_rows(model, [SUFFIXES[index]])
        object.__setattr__(alone, "pixel_values", whole.pixel_values[index : index + 1])
        with torch.no_grad():
            total += float(packed(alone))
    assert together == pytest.approx(total, rel=1e-5)
