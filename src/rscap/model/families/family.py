"""The interface of a family of vision-language models. The rest of rscap uses this interface and names no model.

A family is one file beside this one: a subclass of `Family` without state, whose instance `FAMILIES` lists. What
depends on the loaded model (its sizes, its tokenizer) is passed in; what depends on the family is written there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor

from rscap.errors import ModelError
from rscap.recipe import Tower


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on the Hub that rscap knows: its geometry, and its commit where rscap pins one."""

    geometry: str
    revision: str | None = None
    """None: a run begins with the newest commit, records it, and keeps it."""
    branches: tuple[str, ...] = ()
    """Branches that hold the same weights in 16 bits; what the main branch holds is then float32, twice as large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """How pixels are prepared for the vision tower: one square of bicubically resized pixels (SigLIP)."""

    resolution_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def crops(self) -> int:
        """Squares that the vision tower sees of one image."""
        return 1

    @property
    def resampling(self) -> str:
        """How it is resized, as STAC's MLM extension names it."""
        return "interpolation-cubic"

    def pixels(self, image: Image) -> Tensor:
        """An RGB image as float[3, R, R]: resized, scaled, normalised."""
        return self.normalised(self.resized(image, Resampling.BICUBIC))

    def resized(self, image: Image, way: Resampling) -> Image:
        """The image as a square of the resolution; an image of that size is left as it is."""
        side = self.resolution_px
        return image if image.size == (side, side) else image.resize((side, side), way)

    def normalised(self, image: Image) -> Tensor:
        """An RGB image of H x W pixels as float[3, H, W]."""
        array = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).to(torch.float32).div_(255.0)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return array.sub_(mean).div_(std).contiguous()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout(ABC):
    """Where image, words and caption stand among the tokens, for one tokenizer; picklable, for data workers."""

    tokenizer: Any
    image_token_id: int
    image_tokens: int
    """Image tokens in a prefix."""
    first_position: int
    """Position of the first token."""

    @property
    def eos(self) -> int:
        """The token that ends a caption."""
        return self.tokenizer.eos_token_id

    @property
    def pad(self) -> int:
        return self.tokenizer.pad_token_id

    @property
    @abstractmethod
    def special(self) -> frozenset[int]:
        """Ids that no prompt and no caption may spell."""

    @abstractmethod
    def prefix(self, words: str) -> list[int]:
        """Ids of everything before the caption: the image's placeholders and the words of the prompt."""

    @abstractmethod
    def suffix(self, caption: str) -> list[int]:
        """Ids of a caption, closed by one `eos`; `eos` alone for an empty caption."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text as it stands, without tokens that the tokenizer would add."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def require_tokens(tokenizer: Any, *names: str, title: str) -> None:
    """Refuse a tokenizer that lacks a token which the layout needs.

    Raises:
        ModelError: names the first that is missing.
    """
    for name in names:
        if getattr(tokenizer, f"{name}_token_id", None) is None:
            raise ModelError(f"the tokenizer has no {name}_token", hint=f"is this {title}'s tokenizer?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What `rscap plan` must know of a model beyond the sizes in its configuration."""

    norms: int
    """Norms in a block of the language model."""
    capped: bool
    """Attention scores and logits are soft-capped."""
    window: int | None
    """Sliding window of every other layer, in positions."""
    tied: bool
    """The head is the matrix of the embeddings."""
    projector: tuple[int, int]
    """Inputs and outputs of the projector's matrix."""
    projector_bias: bool
    merged: int
    """Patches that become one image token."""
    positions: int
    """Positions that the vision tower has embeddings for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How an exported model is asked with transformers alone, as lines of Python for a model card."""

    imports: str
    """Names imported from transformers."""
    model: str
    """The class that loads the weights."""
    processor: str
    """Statements that load what prepares inputs; `{source}` stands for folder and revision."""
    ask: str
    """Statements from `image.jpg` to a printed caption; `{words}`, `{dtype}` and `{arguments}` are filled in."""
    before_words: str = ""
    """What a processor's own text has before the words of a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Terms of the checkpoints that the family's makers published."""

    hub_id: str
    """As the Hub abbreviates them."""
    text: str
    """A paragraph for the model card; `{base}` is the checkpoint."""
    notice: str | None = None
    """Content of a file NOTICE that must stay beside the weights."""


class Family(ABC):
    """One family of models."""

    name: ClassVar[str]
    """`model_type` in config.json."""
    title: ClassVar[str]
    """The name that people use."""
    checkpoints: ClassVar[Mapping[str, Checkpoint]]
    special_ids: ClassVar[Mapping[str, int]]
    """`vocabulary`, `image`, `bos`, `eos` and `pad` of the checkpoints, and image tokens of one `square`."""
    geometries: ClassVar[tuple[str, ...]]
    """Names that `config` knows."""
    modules: ClassVar[Mapping[Tower, tuple[str, ...]]]
    """Full paths of each tower's modules, the one that holds its layers first."""
    adapted: ClassVar[Mapping[Tower, str]]
    """Expressions that match, by full path, the blocks' linear layers of each tower that takes adapters."""
    causal_prefix: ClassVar[bool]
    """Whether a prefix token sees only the tokens before it; otherwise the prefix sees itself whole."""
    first_position: ClassVar[int]
    """Position of the first token."""
    default_prompt: ClassVar[str]
    """The default prompt."""
    squares: ClassVar[int] = 0
    """Squares that a split image becomes, the whole image among them; 0 where images are never split."""
    published: ClassVar[str]
    """What names of the makers' own checkpoints begin with; `licence` holds their terms."""
    licence: ClassVar[Licence]
    usage: ClassVar[Usage]

    # Loading.

    @abstractmethod
    def config(self, geometry: str, *, vocabulary: int | None = None, image_token_id: int | None = None) -> Any:
        """The configuration of a named geometry; `vocabulary` and `image_token_id` are for small ones.

        Raises:
            ModelError: no such geometry; lists those there are.
        """

    @property
    def config_class(self) -> Any:
        """The class of its configuration."""
        return self.model_class.config_class

    @property
    @abstractmethod
    def model_class(self) -> Any:
        """The class of transformers that holds a model of this family."""

    @abstractmethod
    def load_processor(self, source: str | Path, options: Mapping[str, Any]) -> Any:
        """What prepares inputs: it has `tokenizer`, `image_processor` and `save_pretrained(folder)`."""

    @abstractmethod
    def image_spec(self, processor: Any, config: Any, *, split: bool) -> ImageSpec:
        """How pixels are prepared, cut into squares with `split`; `processor` is changed to prepare the same."""

    @abstractmethod
    def layout(self, processor: Any, config: Any, image: ImageSpec) -> Layout:
        """The token layout of a loaded model.

        Raises:
            ModelError: the tokenizer lacks a token that the layout needs.
        """

    # Towers.

    def part(self, net: Any, tower: Tower) -> Any:
        """The module of a tower in a bare model, adapters included."""
        return net.get_submodule(self.modules[tower][0])

    # The forward pass.

    def image_tokens(self, config: Any, image: ImageSpec | None = None) -> int:
        """Tokens that stand for one image in a prefix."""
        return self.seen_tokens(config, image) // self.traits(config).merged

    def seen_tokens(self, config: Any, image: ImageSpec | None = None) -> int:
        """Vectors that the vision tower hands to the projector for one image."""
        vision = config.vision_config
        return (image.crops if image else 1) * (vision.image_size // vision.patch_size) ** 2

    @abstractmethod
    def see(self, net: Any, pixels: Tensor) -> Tensor:
        """Pixels of B images, as `ImageSpec.pixels` makes them, to float[B, T, V]: the projector's input."""

    @abstractmethod
    def project(self, net: Any, seen: Tensor) -> Tensor:
        """float[B, T, V] to float[B, I, H]: what the language model reads in place of the image tokens."""

    @abstractmethod
    def embed(self, net: Any, tokens: Tensor, features: Tensor) -> Tensor:
        """float[B, N, H]: embeddings of int[B, N] tokens with float[B, I, H] features at the image tokens."""

    # Planning, exporting.

    @abstractmethod
    def traits(self, config: Any) -> Traits:
        """What `rscap plan` must know of a model."""

    @abstractmethod
    def prefix_length(self, count: Callable[[str], int], words: str, *, image_tokens: int, crops: int) -> int:
        """Tokens of a prefix, where `count` counts those of a text."""

    @abstractmethod
    def inputs(
        self, processor: Any, layout: Layout, image: Image, prefix: str, suffix: str | None = None
    ) -> dict[str, Tensor]:
        """The arguments of the model's own forward pass for one image, with `labels` if a suffix is given.

        Pixels come from the library's own image processor, as a user's would; an export is compared through it.
        """
