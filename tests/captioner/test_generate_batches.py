"""What is decoded together changes nothing: batch size, images that leave, memory that runs out, images made ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rscap.captioner import Captioner
from rscap.captioner import choice as decoded
from rscap.captioner import decoding as fitting
from rscap.captioner.batch import Batch, Encoder
from rscap.captioner.choice import Decoded
from rscap.captioner.decoding import decode, images_together
from rscap.captioner.loader import ahead, batches, worker_count
from rscap.errors import OutOfMemory
from rscap.model import decoding
from rscap.model.decoding import prefill, step
from rscap.model.load import Base, load_base
from rscap.model.packed import PackedModel
from rscap.recipe import GenerateSection, ModelSection
from rscap.records import Example, Prediction
from rscap.sample import sample_examples

PREFIX = "caption en"
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalties": {"repetition_penalty": 1.2, "no_repeat_ngram": 3},
    "beams": {"beams": 3, "length_penalty": 0.7},
    "draws": {"temperature": 0.8, "top_p": 0.9, "seed": 3},
}


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(ModelSection(base="nano", dtype="float32"))


@pytest.fixture(scope="module")
def packed(base: Base) -> PackedModel:
    return PackedModel(base.model, compute_dtype=torch.float32)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return sample_examples()[:7]


def batch_of(base: Base, examples: list[Example]) -> Batch:
    encoder = Encoder.of(base)
    encode = partial(encoder, prefix=PREFIX, captions=())
    return next(batches(examples, encode, size=len(examples), pad=encoder.prompter.pad))


def ids(found: list[Decoded]) -> list[list[int]]:
    return [one.ids for one in found]


@pytest.fixture(scope="module", params=WAYS)
def alone(
    request: pytest.FixtureRequest, base: Base, packed: PackedModel, examples: list[Example]
) -> tuple[GenerateSection, list[Decoded]]:
    """Settings of each way, and what each image gets when it is decoded alone."""
    settings = GenerateSection(max_new_tokens=32, **WAYS[request.param])
    eos = Encoder.of(base).prompter.eos
    single = [decode(packed, batch_of(base, [one]), settings=settings, eos=eos)[0] for one in examples]
    assert len({len(one.ids) for one in single}) > 2, "captions of one length let no image leave before others"
    return settings, single


@pytest.mark.parametrize("order", [1, -1])
def test_batched_equals_one_by_one(
    base: Base, packed: PackedModel, examples: list[Example], alone: tuple[GenerateSection, list[Decoded]], order: int
) -> None:
    """In float32 a batch, in whatever order, gives every image the tokens it has alone; so near-ties are none here."""
    settings, single = alone
    together = decode(packed, batch_of(base, examples[::order]), settings=settings, eos=Encoder.of(base).prompter.eos)
    for one, many in zip(single[::order], together, strict=True):
        assert one.ids == many.ids or one.near_ties


@pytest.mark.parametrize("share", [1e-9, 2.0])
def test_images_that_leave_change_nothing(
    base: Base,
    packed: PackedModel,
    examples: list[Example],
    alone: tuple[GenerateSection, list[Decoded]],
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Leaving at once or never: tokens and near-ties of every image are the same."""
    settings, batch, eos = alone[0], batch_of(base, examples), Encoder.of(base).prompter.eos
    usual = decode(packed, batch, settings=settings, eos=eos)
    monkeypatch.setattr(decoded, "LEAVING_SHARE", share)
    assert ids(decode(packed, batch, settings=settings, eos=eos)) == ids(usual)


def test_fewer_rows_are_computed_once_images_leave(
    base: Base, packed: PackedModel, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps get narrower as captions end, and none is made for an image whose caption ended a quarter of images ago."""
    import rscap.captioner.decoding as module

    widths: list[int] = []

    def counting(packed: PackedModel, tokens: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        widths.append(len(tokens))
        return step(packed, tokens, *args, **kwargs)

    monkeypatch.setattr(module, "step", counting)
    found = decode(
        packed,
        batch_of(base, examples),
        settings=GenerateSection(max_new_tokens=32),
        eos=Encoder.of(base).prompter.eos,
    )
    assert len(widths) == max(len(one.ids) for one in found) - 1
    for length, width in enumerate(widths, start=1):
        growing = sum(len(one.ids) > length for one in found)
        assert growing <= width < growing / (1 - decoded.LEAVING_SHARE) + 1
    assert widths[0] == len(examples) > widths[-1]


def test_prefixes_in_parts_are_prefixes_together(
    base: Base, nano2: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether two or all are computed at once: logits of the first and of the next token are those of each image."""
    for one in (base, load_base(ModelSection(base=str(nano2), dtype="float32"))):
        packed, batch = PackedModel(one.model, compute_dtype=torch.float32), batch_of(one, examples[:5])
        found = []
        for at_once in (2, 5):
            monkeypatch.setattr(decoding, "TOGETHER", at_once)
            with torch.inference_mode():
                logits, state = prefill(packed, batch, room=1)
                found.append((logits, step(packed, torch.arange(5, 10).unsqueeze(1), state)))
        for parts, together in zip(*found, strict=True):
            assert len(parts) == 5
            torch.testing.assert_close(parts, together, atol=2e-4, rtol=1e-4)


def test_branches_share_a_prefix_and_each_other(base: Base, nano2: Path, examples: list[Example]) -> None:
    """Logits behind branches that took other parents are those of each branch's own history, decoded alone."""
    generator = torch.Generator().manual_seed(0)
    for one in (base, load_base(ModelSection(base=str(nano2), dtype="float32"))):
        packed, batch = PackedModel(one.model, compute_dtype=torch.float32), batch_of(one, examples[:2])
        with torch.inference_mode():
            _, state = prefill(packed, batch, room=3 * 4)
            tokens = torch.randint(5, 90, (4, 2, 3), generator=generator)
            parents = torch.cat([torch.zeros(1, 2, 3, dtype=torch.long), torch.randint(0, 3, (3, 2, 3))])
            histories: list[list[list[int]]] = [[[], [], []] for _ in range(2)]
            for new, old in zip(tokens, parents, strict=True):
                logits = step(packed, new, state, parents=old)
                histories = [
                    [histories[row][old[row, beam]] + [int(new[row, beam])] for beam in range(3)] for row in range(2)
                ]
            for beam in range(3):
                _, single = prefill(packed, batch, room=4)
                for place in range(4):
                    chain = torch.tensor([[histories[row][beam][place]] for row in range(2)])
                    expected = step(packed, chain, single)
                torch.testing.assert_close(logits[:, beam], expected[:, 0], atol=2e-4, rtol=1e-4)


def stream(packed: PackedModel, base: Base, examples: list[Example], said: list[str], **fields: Any) -> list[Any]:
    settings = GenerateSection(max_new_tokens=12, **fields)
    captioner = Captioner(packed, Encoder.of(base), prefix=PREFIX, settings=settings)
    return list(captioner.predictions(examples, say=said.append))


def allocate(fits: int, seen: list[int]) -> Any:
    """A decoder whose allocator gives out above `fits` images, with the error of torch's own allocator."""

    def attempt(packed: PackedModel, batch: Batch, **kwargs: Any) -> list[Decoded]:
        seen.append(batch.images)
        if batch.images > fits:
            torch.empty(1 << 60, dtype=torch.uint8)
        return decode(packed, batch, **kwargs)

    return attempt


def test_out_of_memory_halves_the_batch_and_loses_nothing(
    base: Base, packed: PackedModel, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image once, in order, with its caption; tried once more as it was; said once a halving; later ones fit."""
    said: list[str] = []
    expected = stream(packed, base, examples, said, batch_size=4)
    assert not said
    seen: list[int] = []
    monkeypatch.setattr(fitting, "decode", allocate(1, seen))
    found = stream(packed, base, examples, said, batch_size=4)
    assert [item.example_id for item in found] == [example.id for example in examples]
    assert [item.caption for item in found] == [item.caption for item in expected]
    assert seen == [4, 4, 2, 1, 1, 1, 1, 1, 1, 1]
    assert said == [
        "out of memory decoding 4 images together; continuing with 2 at a time",
        "out of memory decoding 2 images together; continuing with 1 at a time",
    ]


def test_memory_that_runs_out_in_the_middle_of_captions_is_no_loss(
    base: Base, packed: PackedModel, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's error at the fifth token of a beam search: the images begin again in smaller parts."""
    import rscap.captioner.beams as module

    def late(packed: PackedModel, tokens: torch.Tensor, state: Any, **kwargs: Any) -> torch.Tensor:
        if len(tokens) > 2 and state.next_position > 70:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(packed, tokens, state, **kwargs)

    said: list[str] = []
    expected = stream(packed, base, examples[:5], said, batch_size=5, beams=2)
    monkeypatch.setattr(module, "step", late)
    found = stream(packed, base, examples[:5], said, batch_size=5, beams=2)
    assert [(item.example_id, item.caption) for item in found] == [(one.example_id, one.caption) for one in expected]
    assert [line.split(";")[1] for line in said] == [" continuing with 3 at a time", " continuing with 2 at a time"]


def test_an_image_that_does_not_fit_alone_is_an_error_that_names_it(
    base: Base, packed: PackedModel, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of one that runs out of memory ends the run, with the settings that could be lowered."""
    monkeypatch.setattr(fitting, "decode", allocate(0, []))
    with pytest.raises(OutOfMemory, match=rf"^{examples[0].id}: a single image does not fit .*beams = 1 "):
        stream(packed, base, examples, [], batch_size=2)


def test_other_errors_are_not_taken_for_memory(
    base: Base, packed: PackedModel, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A RuntimeError of another kind is raised as it is."""

    def broken(*_: Any, **__: Any) -> list[Decoded]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(fitting, "decode", broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        stream(packed, base, examples, [], batch_size=2)


def test_draws_do_not_depend_on_what_else_is_in_the_batch(
    base: Base, packed: PackedModel, examples: list[Example]
) -> None:
    """A drawn caption is a function of seed and example: the same at every batch size; other seeds draw others."""

    def drawn(size: int, seed: int) -> dict[str, str]:
        found = stream(packed, base, examples, [], batch_size=size, temperature=1.0, seed=seed)
        return {item.example_id: item.caption for item in found if isinstance(item, Prediction) and not item.near_ties}

    one, four, other = drawn(1, 0), drawn(4, 0), drawn(4, 1)
    both = one.keys() & four.keys()
    assert len(both) > len(examples) // 2
    assert all(one[name] == four[name] for name in both)
    assert any(four[name] != other[name] for name in four.keys() & other.keys())


def test_the_next_item_is_made_while_the_last_is_worked_with() -> None:
    """When the first item is handed out the second is under way, and no more than one is."""
    begun = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number in range(4):
            begun[number].set()
            yield number

    stream = ahead(items())
    assert next(stream) == 0
    assert begun[1].wait(timeout=60)
    assert not begun[2].is_set()
    assert list(stream) == [1, 2, 3]


def test_an_error_in_making_an_item_comes_in_its_place() -> None:
    """Items before a broken one are handed out, then its error is raised."""

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    stream = ahead(items())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken"):
        next(stream)


@pytest.mark.parametrize(
    ("free_gib", "beams", "expected"), [(0.01, 1, 16), (0.1, 1, range(17, 256)), (80.0, 1, 256), (80.0, 4, 64)]
)
def test_a_gpu_decodes_as_many_images_as_it_has_room_for(
    free_gib: float, beams: int, expected: int | range, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto`: at least 16, at most 256 rows; a number is taken as it is, and a CPU decodes 16."""
    base = load_base(ModelSection(base="nano", dtype="float32"))
    packed = PackedModel(base.model, compute_dtype=torch.float32)
    settings = GenerateSection(beams=beams)
    assert images_together(packed, settings, base.image) == 16
    monkeypatch.setattr(PackedModel, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free_gib * 2**30), 2**40))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda _: 0)
    found = images_together(packed, settings, base.image)
    assert found in expected if isinstance(expected, range) else found == expected
    assert images_together(packed, GenerateSection(beams=beams, batch_size=5), base.image) == 5


def test_a_gpu_decodes_fewer_images_that_are_split(smolnano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` counts the pixels of all seventeen squares, and the keys and values of their image tokens."""
    whole, cut = (
        load_base(ModelSection(base=str(smolnano), dtype="float32", image_splitting=split)) for split in (False, True)
    )
    packed = PackedModel(whole.model, compute_dtype=torch.float32)
    monkeypatch.setattr(PackedModel, "device", torch.device("cuda"))
    free = 130 * 2**20
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2**40))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda _: 0)
    many, few = (images_together(packed, GenerateSection(max_new_tokens=16), one.image) for one in (whole, cut))
    assert 16 < few < many < 256
    config = packed.text_config
    token = 4 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    sixteen_squares = 16 * (token * whole.image_tokens + 4 * 3 * whole.image.resolution_px**2)
    may_take = free / 2  # what the caches and logits of a batch may take
    assert may_take / (few + 1) - may_take / many < sixteen_squares < may_take / few - may_take / (many + 1)


def test_workers_are_started_beside_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto`: none on a CPU; beside a GPU up to four, fewer where processes share few cores; a number as it is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(12), raising=False)
    assert worker_count("auto") == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = []
    for processes in ("1", "4", "12", "16"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        found.append(worker_count("auto"))
    assert found == [4, 2, 0, 0]
    assert worker_count(7) == 7
