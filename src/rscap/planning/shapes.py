"""The shape of a model as numbers, and the memory of an adapter on one of its linear layers.

Neither weights nor the network are needed: shapes come from a written geometry, a folder or the Hub's cache.
Adapters are PEFT's methods; docs/adapters.md cites their papers. A layer maps x to x W'; r is the rank. Kept are:

lora, pissa, olora, eva, corda   x A' B': A's input and output; DoRA also the two outputs that it weighs
adalora                          x (A E)' B': the same at the rank it begins with
hira                             x (W * BA)': its input, and the composed matrix itself
vera                             b * ((d * x A') B'), A and B shared and frozen: what d and b scale
randlora                         x (scaled A)' B': the smaller of both sides in between, and both composed matrices
miss                             blocks of x, summed, times one matrix: the sums
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from rscap.errors import ModelError
from rscap.methods import learned_by_layer, starting_rank
from rscap.model.families import FAMILIES, Family, family_named, family_of_checkpoint
from rscap.model.load import locate
from rscap.recipe import AdapterSection
from rscap.store import read_config


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer of a block, by the name that adapters target."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Elements of its matrix."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        return self.weights + (self.outputs if self.bias else 0)


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """SigLIP: `layers` blocks of `width` over `tokens` patches."""

    width: int
    layers: int
    heads: int
    mlp: int
    patch_px: int
    resolution_px: int
    crops: int = 1
    """Squares of one image, each encoded by itself."""

    @property
    def patches(self) -> int:
        """Patches of one square."""
        return (self.resolution_px // self.patch_px) ** 2

    @property
    def tokens(self) -> int:
        """Patches of one image."""
        return self.crops * self.patches

    @property
    def pixels(self) -> int:
        """Numbers in one image."""
        return 3 * self.crops * self.resolution_px**2

    @cached_property
    def linears(self) -> dict[str, Linear]:
        square = [
            Linear(name, self.width, self.width, bias=True) for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        ]
        maps = [*square, Linear("fc1", self.width, self.mlp, bias=True), Linear("fc2", self.mlp, self.width, bias=True)]
        return {one.name: one for one in maps}

    @property
    def embedding_parameters(self) -> int:
        """Patches and positions."""
        return 3 * self.patch_px**2 * self.width + self.width + self.patches * self.width

    @property
    def layer_parameters(self) -> int:
        return sum(one.parameters for one in self.linears.values()) + 4 * self.width

    @property
    def parameters(self) -> int:
        return self.embedding_parameters + self.layers * self.layer_parameters + 2 * self.width


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """A language model: `layers` blocks of `width`."""

    width: int
    layers: int
    heads: int
    groups: int
    """Heads of keys and values."""
    head_width: int
    mlp: int
    vocabulary: int
    norms: int
    """Norms a block: two in Gemma, four in Gemma 2."""
    capped: bool
    """Attention scores and logits are soft-capped (Gemma 2), so that plain attention holds all scores in memory."""
    window: int | None
    """Sliding window of every other layer (Gemma 2), in positions."""
    tied: bool = True
    """The head is the matrix of the embeddings."""

    @cached_property
    def linears(self) -> dict[str, Linear]:
        inner, shared = self.heads * self.head_width, self.groups * self.head_width
        maps = [
            Linear("q_proj", self.width, inner),
            Linear("k_proj", self.width, shared),
            Linear("v_proj", self.width, shared),
            Linear("o_proj", inner, self.width),
            Linear("gate_proj", self.width, self.mlp),
            Linear("up_proj", self.width, self.mlp),
            Linear("down_proj", self.mlp, self.width),
        ]
        return {one.name: one for one in maps}

    @property
    def embedding_parameters(self) -> int:
        """Embeddings; where they are tied, the head too."""
        return self.vocabulary * self.width

    @property
    def head_parameters(self) -> int:
        """A head that is a matrix of its own."""
        return 0 if self.tied else self.vocabulary * self.width

    @property
    def layer_parameters(self) -> int:
        return sum(one.parameters for one in self.linears.values()) + self.norms * self.width

    @property
    def block_parameters(self) -> int:
        """All layers and the norm behind them."""
        return self.layers * self.layer_parameters + self.width


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """A whole model."""

    name: str
    vision: VisionShape
    projector: Linear
    text: TextShape
    merged: int = 1
    """Patches that become one image token."""
    family: Family

    @property
    def image_tokens(self) -> int:
        """Tokens of one image in a prefix."""
        return self.vision.tokens // self.merged

    def prefix_length(self, count: Callable[[str], int], words: str) -> int:
        """Tokens of a prefix, where `count` counts those of a text."""
        return self.family.prefix_length(count, words, image_tokens=self.image_tokens, crops=self.vision.crops)

    @property
    def parameters(self) -> int:
        text = self.text.embedding_parameters + self.text.block_parameters + self.text.head_parameters
        return self.vision.parameters + self.projector.parameters + text


def shapes_of(config: Any, *, name: str, split: bool = False) -> Shapes:
    """The numbers of a model's configuration; with `split`, images are cut into squares."""
    family = family_named(config.model_type, base=name)
    vision, text, traits = config.vision_config, config.text_config, family.traits(config)
    if split and not family.squares:
        raise ModelError(f"a {family.title} takes an image whole", hint="leave model.image_splitting out")
    return Shapes(
        name=name,
        vision=VisionShape(
            width=vision.hidden_size,
            layers=vision.num_hidden_layers,
            heads=vision.num_attention_heads,
            mlp=vision.intermediate_size,
            patch_px=vision.patch_size,
            resolution_px=vision.image_size,
            crops=family.squares if split else 1,
        ),
        projector=Linear("linear", *traits.projector, bias=traits.projector_bias),
        text=TextShape(
            width=text.hidden_size,
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads,
            groups=text.num_key_value_heads,
            head_width=text.head_dim,
            mlp=text.intermediate_size,
            vocabulary=text.vocab_size,
            norms=traits.norms,
            capped=traits.capped,
            window=traits.window,
            tied=traits.tied,
        ),
        merged=traits.merged,
        family=family,
    )


def shapes_of_base(base: str, *, split: bool = False) -> Shapes:
    """The shape of a base model: of a known checkpoint by its geometry, of a folder or the Hub's cache by config.json.

    Raises:
        ModelError: no such folder, no configuration in it, or a Hub name that is neither known nor in the cache.
    """
    if (family := family_of_checkpoint(base)) is not None:
        return shapes_of(family.config(family.checkpoints[base].geometry), name=base, split=split)
    table = _configuration(base)
    family = family_named(table.get("model_type"), base=base)
    return shapes_of(family.config_class.from_dict(table), name=base, split=split)


def _configuration(base: str) -> dict[str, Any]:
    """config.json of a folder or from the Hub's cache; the library would return defaults if there is none."""
    source = locate(base)
    file = source / "config.json" if isinstance(source, Path) else try_to_load_from_cache(source, "config.json")
    if not isinstance(file, str | Path) or not Path(file).is_file():
        published = ", ".join(f"{family.title} ({family.published}…)" for family in FAMILIES.values())
        where = "in the folder" if isinstance(source, Path) else "in the Hub's cache"
        raise ModelError(
            f"the shape of base model {base} is unknown: no config.json {where}",
            hint=f"put its config.json into a folder and name that folder; known without one: {published}",
        )
    table = read_config(Path(file))
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """One adapter, in numbers (not bytes)."""

    trainable: int
    """Parameters."""
    reads: bool
    """True if it keeps its input."""
    token: int
    """Kept per token besides."""
    copied: int
    """Parameters that enter matrix products: autocast copies them."""
    composed: int = 0
    """Numbers of matrices that every forward pass computes and keeps."""
    sliced: int = 0
    """Numbers of frozen shared matrices, which autocast copies in every forward pass and keeps."""
    weighs: bool = False
    """True if its output is multiplied by float32 numbers, and so becomes float32 briefly."""

    @property
    def products(self) -> int:
        """Numbers of all matrices that multiply a token."""
        return self.copied + self.composed + self.sliced


def footprint(adapter: AdapterSection, one: Linear) -> Footprint:
    """The adapter of a recipe on a linear layer."""
    rank, sides = starting_rank(adapter.method, adapter.rank), one.inputs + one.outputs
    trainable = learned_by_layer(
        adapter.method,
        inputs=one.inputs,
        outputs=one.outputs,
        rank=adapter.rank,
        weight_decomposed=adapter.weight_decomposed,
    )
    match adapter.method:
        case "hira":
            return Footprint(trainable=trainable, reads=True, token=0, copied=rank * sides, composed=one.weights)
        case "vera":
            return Footprint(
                trainable=trainable, reads=False, token=rank + one.outputs, copied=0, sliced=rank * sides, weighs=True
            )
        case "miss":
            return Footprint(trainable=trainable, reads=False, token=rank, copied=rank * one.outputs)
        case "randlora":
            small, large = sorted((one.inputs, one.outputs))
            between = math.ceil(small / rank) * rank
            reads = one.inputs <= one.outputs
            return Footprint(
                trainable=trainable,
                reads=reads,
                token=0 if reads else between,
                copied=0,
                composed=between * small,
                sliced=between * large,
            )
    token = rank + (2 * one.outputs if adapter.weight_decomposed else 0)
    weighs = adapter.weight_decomposed or adapter.method == "adalora"
    return Footprint(trainable=trainable, reads=True, token=token, copied=rank * sides, weighs=weighs)


def shared_numbers(adapter: AdapterSection, maps: list[Linear]) -> int:
    """Float32 numbers of the frozen random matrices that all adapters of a model share: those of the largest sides."""
    if not maps or adapter.method not in ("vera", "randlora"):
        return 0
    inputs, outputs = max(one.inputs for one in maps), max(one.outputs for one in maps)
    if adapter.method == "vera":
        return adapter.rank * (inputs + outputs)
    small, large = sorted((inputs, outputs))
    return adapter.rank * small + large * math.ceil(small / adapter.rank) * adapter.rank
