"""Captions and logits of a run and of its export, on the same images.

The run captions as in `rscap evaluate`; the export as any user would, with transformers alone. Logits are compared
under the run's own caption (teacher forcing), so that one different token does not make all later ones differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import GenerationConfig

from rscap.captioner import Captioner
from rscap.captioner.loading import best_device
from rscap.data import FileImage, open_data, open_source
from rscap.errors import DataError, ExportError, StoreError
from rscap.exporting.hub import public_name
from rscap.model.adapters import quiet_peft
from rscap.model.families import Family, Layout
from rscap.model.load import load_base
from rscap.recipe import GenerateSection, ModelSection, Recipe
from rscap.records import Example, Prediction
from rscap.store import RunFolder, read_panel

KEPT = 100
"""Logits kept for each token, the largest: most of the 257,152 entries of the vocabulary are never close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How captions are generated: the prompt, and greedy decoding up to a number of tokens."""

    prefix: str
    max_new_tokens: int
    batch_size: int | Literal["auto"]

    @property
    def generate(self) -> GenerateSection:
        """As transformers' `generate` computes, whose logits have the model's precision."""
        return GenerateSection(max_new_tokens=self.max_new_tokens, batch_size=self.batch_size, logits="model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A run's caption of one image with its T tokens (`<eos>` included) and the KEPT largest logits at each."""

    example: Example
    caption: str
    tokens: tuple[int, ...]
    entries: Tensor
    """int[T, KEPT]: ids of the likeliest tokens"""
    logits: Tensor
    """float[T, KEPT]: their logits"""
    effect: float | None = None
    """The largest change of these logits if the adapter is switched off; None without an adapter."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A model used through transformers alone; matrix products run inside `compute()`."""

    family: Family
    model: Any
    processor: Any
    layout: Layout
    compute: Callable[[], AbstractContextManager[Any]]

    @classmethod
    def of(cls, family: Family, model: Any, processor: Any, layout: Layout) -> Plain:
        """A model in its own precision."""
        return cls(family, model.eval(), processor, layout, nullcontext)

    @torch.inference_mode()
    def caption(self, image: Image, asking: Asking) -> str:
        """Greedy caption of one image, by the library's own `generate`."""
        inputs = self._inputs(image, asking.prefix)
        with self.compute():
            ids = self.model.generate(**inputs, generation_config=self._greedy(asking))
        fresh = ids[0, inputs["input_ids"].shape[1] :].tolist()
        return self.processor.tokenizer.decode(
            fresh, skip_special_tokens=True, clean_up_tokenization_spaces=False
        ).strip()

    @torch.inference_mode()
    def token_logits(self, image: Image, prefix: str, caption: str) -> tuple[tuple[int, ...], Tensor]:
        """The T tokens of a caption, and float[T, V]: the logits that each of them was chosen from."""
        inputs = self._inputs(image, prefix, suffix=caption)
        labels = inputs.pop("labels")[0]
        tokens = tuple(labels[labels != -100].tolist())
        with self.compute():
            logits = self.model(**inputs, logits_to_keep=len(tokens) + 1).logits
        return tokens, logits[0, :-1].float()

    def tokens(self, image: Image, prefix: str, caption: str) -> tuple[int, ...]:
        """The tokens of a caption, `<eos>` included."""
        labels = self._inputs(image, prefix, suffix=caption)["labels"][0]
        return tuple(labels[labels != -100].tolist())

    def _greedy(self, asking: Asking) -> GenerationConfig:
        """Greedy decoding with every setting given: transformers takes omitted ones from the checkpoint."""
        tokenizer = self.processor.tokenizer
        return GenerationConfig(
            max_new_tokens=asking.max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=self.layout.eos,
            pad_token_id=self.layout.pad,
        )

    def _inputs(self, image: Image, prefix: str, suffix: str | None = None) -> dict[str, Tensor]:
        inputs = self.family.inputs(self.processor, self.layout, image, prefix, suffix)
        parameter = next(self.model.parameters())
        inputs["pixel_values"] = inputs["pixel_values"].to(parameter.dtype)
        return {name: value.to(parameter.device) for name, value in inputs.items()}


def load_export(form: str, section: ModelSection, dtype: str, family: Family, folder: Path) -> Plain:
    """An export as a user loads it, without rscap.

    Args:
        section: the unquantised base model, around which an adapter is put.
        dtype: precision of merged weights.
    """
    device = best_device()
    if form == "adapter":
        from peft import PeftModel

        base = load_base(section, device=device)
        with quiet_peft():
            model = PeftModel.from_pretrained(base.model, folder, torch_device=device)
        return Plain.of(base.family, model, base.processor, base.layout)
    model = family.model_class.from_pretrained(folder, dtype=getattr(torch, dtype), trust_remote_code=False)
    processor = family.load_processor(folder, {"trust_remote_code": False})
    image = family.image_spec(processor, model.config, split=bool(section.image_splitting))
    return Plain.of(family, model.to(device), processor, family.layout(processor, model.config, image))


def captions(captioner: Captioner, examples: Sequence[Example], asking: Asking) -> dict[str, str]:
    """Captions by id, as `rscap evaluate` makes them; an image that cannot be decoded has none."""
    stream = captioner.predictions(examples, prefix=asking.prefix, settings=asking.generate)
    return {item.example_id: item.caption for item in stream if isinstance(item, Prediction)}


def read(captioner: Captioner, examples: Sequence[Example], asking: Asking) -> list[Reading]:
    """Captions of a run with the logits of every token.

    Raises:
        ExportError: none of the images can be decoded.
    """
    said = captions(captioner, examples, asking)
    if not said:
        raise ExportError("none of the images to compare on can be decoded", hint="`rscap data audit` says why")
    packed = captioner.packed
    base = captioner.base
    plain = Plain(base.family, packed.bare.eval(), base.processor, base.layout, packed.autocast)
    return [
        _reading(plain, packed.net, example, said[example.id], asking) for example in examples if example.id in said
    ]


def _reading(plain: Plain, net: Any, example: Example, caption: str, asking: Asking) -> Reading:
    image = example.image.load()
    tokens, logits = plain.token_logits(image, asking.prefix, caption)
    best = logits.topk(min(KEPT, logits.shape[-1]), dim=-1)
    effect = None
    if hasattr(net, "disable_adapter"):
        with net.disable_adapter():
            _, bare = plain.token_logits(image, asking.prefix, caption)
        effect = float((bare.gather(-1, best.indices) - best.values).abs().max())
    return Reading(
        example=example,
        caption=caption,
        tokens=tokens,
        entries=best.indices.cpu(),
        logits=best.values.cpu(),
        effect=effect,
    )


# The images on which run and export are compared.


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Examples to compare on, and a description of them."""

    examples: Sequence[Example]
    origin: str


def pictures(run: RunFolder, recipe: Recipe, n: int) -> Pictures:
    """Up to `n` validation images of the run's own data, chosen by its seed.

    If the data are not available or have no validation split: the images that the run folder keeps for its report; if
    it was never evaluated, validation images of the built-in sample. `origin` says which.
    """
    return _validation(recipe, n) or _panel(run, n) or _sample(recipe, n)


def _validation(recipe: Recipe, n: int) -> Pictures | None:
    try:
        source = open_data(recipe.data, check="exists")
    except DataError:
        return None
    if not (available := source.splits.get("val", 0)):
        return None
    chosen = source.subset("val", min(n, available), recipe.seed)
    return Pictures(examples=chosen, origin=f"{len(chosen)} validation images of {public_name(source.name)}")


def _panel(run: RunFolder, n: int) -> Pictures | None:
    """The first panel of an evaluation that can be read."""
    for split in run.pictured():
        with suppress(StoreError):
            kept = read_panel(run.panel(split))[:n]
            if kept and all(one.path.is_file() for one in kept):
                examples = [
                    Example(id=one.example_id, captions=(), image=FileImage(one.path), split=split, source="")
                    for one in kept
                ]
                origin = f"{len(examples)} {split} images that the run folder keeps"
                return Pictures(examples=examples, origin=origin)
    return None


def _sample(recipe: Recipe, n: int) -> Pictures:
    source = open_source("sample")
    chosen = source.subset("val", min(n, source.splits["val"]), recipe.seed)
    return Pictures(
        examples=chosen, origin=f"{len(chosen)} images of the built-in sample (the run's own data are not available)"
    )
