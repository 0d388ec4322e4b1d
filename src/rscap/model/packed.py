"""A model on packed batches: the summed caption loss for training; `rscap.model.decoding` generates captions.

The towers are called one by one, so that each image is encoded once, attention masks come from `rscap.model.attention`
(per layer type, from positions) and only supervised positions reach the language-model head.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import rotate_half

from rscap.errors import ModelError
from rscap.model.attention import CACHED, FLEX, Shape, Tokens, blocks, flex_differs, pairs
from rscap.model.families import Family, family_of
from rscap.model.float16 import hold_in_float32
from rscap.model.head import WideHead
from rscap.model.lora import Held, make_lean
from rscap.model.loss import Draw, summed_loss, token_losses
from rscap.model.replay import Stills
from rscap.recipe import Logits

Attention = Literal["auto", "plain", "flex"]


class PackedBatch(Protocol):
    """The part of a batch that the model reads; `rscap.captioner.batch.Batch` gives the shapes."""

    @property
    def pixel_values(self) -> Tensor: ...

    @property
    def tokens(self) -> Tensor: ...

    @property
    def positions(self) -> Tensor: ...

    @property
    def features(self) -> Tensor | None: ...

    @property
    def branch(self) -> Tensor: ...

    @property
    def source_rows(self) -> Tensor: ...

    @property
    def source_slots(self) -> Tensor: ...

    @property
    def source_grid(self) -> Tensor: ...

    @property
    def targets(self) -> Tensor: ...

    @property
    def weights(self) -> Tensor | None: ...

    @property
    def draw(self) -> Draw | None: ...

    def parts(self, size: int) -> Sequence[PackedBatch]: ...


@dataclass(frozen=True, slots=True)
class Given:
    """Stands in for a cache: returns to an attention layer the keys and values of the whole sequence."""

    keys: Tensor
    values: Tensor

    def update(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self.keys, self.values


class PackedModel(nn.Module):
    """Wraps a model of any family, bare or inside a PEFT model.

    `compute_dtype` is the precision of matrix products. Trainable weights are always held in float32; autocast
    multiplies with them in `compute_dtype`.
    """

    def __init__(self, net: nn.Module, *, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.net = net
        self.family: Family = family_of(net)
        self.compute_dtype = compute_dtype
        self.flex = False
        self.recomputes = False
        self.smoothing = 0.0
        """Share of every training target that is spread over the vocabulary."""
        self.stills = Stills()
        self._held: Held | None = None
        self._wide_head = WideHead()
        if self.device.type == "cuda":
            # cuDNN's attention, which torch prefers on Hopper, builds a plan for every new shape (0.2 to 2.7 s on an
            # H200, in decoding at every token), and is reported to go wrong with few key heads (pytorch issue 193893).
            torch.backends.cuda.enable_cudnn_sdp(False)
        if compute_dtype != torch.float32:
            make_lean(net)
        if compute_dtype == torch.float16:
            hold_in_float32(self.bare)

    @property
    def bare(self) -> Any:
        """The model inside, in its own class of transformers, adapters included."""
        net: Any = self.net
        return net.get_base_model() if hasattr(net, "get_base_model") else net

    @property
    def text_config(self) -> Any:
        """The configuration of the language model."""
        return self.bare.config.text_config

    @property
    def language(self) -> Any:
        """The language model: embeddings, layers and the norm behind them."""
        return self.family.part(self.bare, "language_model")

    @property
    def vision(self) -> Any:
        """The vision tower."""
        return self.family.part(self.bare, "vision_tower")

    @property
    def device(self) -> torch.device:
        return self.bare.lm_head.weight.device

    @property
    def stream(self) -> torch.dtype:
        """Precision of hidden states between layers: that of the embeddings; float32 if products are in float16."""
        embeddings = self.language.embed_tokens.weight.dtype
        return torch.float32 if self.compute_dtype == torch.float16 else embeddings

    def autocast(self) -> Any:
        """Products in `compute_dtype`; nothing to do for float32."""
        if self.compute_dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute_dtype)

    def products(self, given: torch.dtype) -> torch.dtype:
        """The dtype in which numbers of dtype `given` are multiplied."""
        return given if self.compute_dtype == torch.float32 else self.compute_dtype

    @contextmanager
    def cached_attention(self) -> Iterator[None]:
        """Within the block, layers attend as prefixes and decoding steps do: see `attend_cached`."""
        config = self.text_config
        before, config._attn_implementation = config._attn_implementation, CACHED
        try:
            yield
        finally:
            config._attn_implementation = before

    @contextmanager
    def held_for_captions(self) -> Iterator[None]:
        """Within the block, weights that autocast would cast at every token are cast once; captions are the same."""
        if self.compute_dtype == torch.float32:
            yield
            return
        held, learns = self._held, any(one.requires_grad for one in self.net.parameters())
        if held is None or held.moved():
            held = Held(self.net, self.compute_dtype)
            self._held = None if learns else held
        try:
            with held.swapped():
                yield
        finally:
            if learns:  # training changes the weights, and needs the memory
                self._wide_head.drop()

    def places(self) -> tuple[int, ...]:
        """Addresses of the language model's weights; a recorded graph is valid as long as they do not change."""
        return tuple(one.data_ptr() for one in self.language.parameters())

    def checkpoint_activations(self) -> None:
        """Keep each layer's input alone for the backward pass and compute the rest again (arXiv:1604.06174)."""
        self.recomputes = True
        self.bare.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})

    def choose_attention(self, asked: Attention, *, checkpointed: bool) -> None:
        """Use FlexAttention for training steps if asked for; call after the weights are loaded.

        Raises:
            ModelError: it computes something else on this device than plain attention, or cannot be compiled.
        """
        if asked != "flex":
            return
        config, layer = self.text_config, self.language.layers[0].self_attn
        wrong = flex_differs(
            Shape.of(layer, config, self.compute_dtype),
            self.device,
            causal=self.family.causal_prefix,
            checkpointed=checkpointed,
        )
        if wrong is not None:
            raise ModelError(
                f"model.attention = 'flex' cannot be used on {self.device}: {wrong}",
                hint="train with model.attention = 'plain'",
            )
        self.flex, config._attn_implementation = True, FLEX

    def forward(self, batch: PackedBatch) -> Tensor:
        """Summed negative log-likelihood of all supervised tokens (arXiv:2407.07726, section 3.2), each
        times its weight if the batch has weights.

        A sum, so that the caller can divide by the tokens of the whole update and every token weighs the same. With
        gradients, targets are smoothed by `smoothing`; without, the loss is that of the targets as they are.
        """
        with self.autocast():
            hidden = self.supervised(batch)
        return summed_loss(
            hidden,
            self._head_weight(),
            batch.targets,
            cap=self._cap,
            dtype=self.compute_dtype,
            weights=batch.weights,
            draw=batch.draw,
            smoothing=self.smoothing,
        )

    @torch.no_grad()
    def token_losses(self, batch: PackedBatch) -> Tensor:
        """float[S]: the negative log-likelihood of each supervised token, without gradients."""
        with self.autocast():
            hidden = self.supervised(batch)
        return token_losses(
            hidden, self._head_weight(), batch.targets, cap=self._cap, dtype=self.compute_dtype, draw=batch.draw
        )

    def image_features(self, batch: PackedBatch) -> Tensor:
        """float[B, I, H]: what the language model reads in place of the image tokens."""
        seen = self.seen(batch.pixel_values) if batch.features is None else batch.features
        return self.family.project(self.bare, seen)

    @property
    def vision_learns(self) -> bool:
        """Whether training changes what the vision tower sees."""
        return any(parameter.requires_grad for parameter in self.vision.parameters())

    def seen(self, pixel_values: Tensor) -> Tensor:
        """Pixels to float[B, T, V]: what the vision tower hands to the projector."""
        tower = self.vision
        with nullcontext() if self.vision_learns else torch.no_grad():
            return self.family.see(self.bare, pixel_values.to(next(tower.parameters()).dtype))

    def hidden(self, batch: PackedBatch) -> Tensor:
        """float[B, N, H]: the last hidden states of the packed sequence."""
        embeddings = self.embed(batch)
        outputs = self.language(
            inputs_embeds=embeddings,
            position_ids=batch.positions,
            attention_mask=self.masks(batch, embeddings.dtype),
            use_cache=False,
        )
        return outputs.last_hidden_state

    def supervised(self, batch: PackedBatch) -> Tensor:
        """float[S, H]: the last hidden states at the sources of the targets alone.

        Nothing reads the last layer's output at other tokens, so this layer computes queries and MLP for these alone,
        and keys and values for all. That spares most of one layer in 4 (nano) to 32 (SmolLM2).
        """
        model = self.language
        hidden = self.embed(batch)
        tokens, grid = Tokens.of(batch.branch, batch.positions), batch.source_grid
        before = range(len(model.layers) - 1)
        masks = self._looks(tokens, tokens, hidden.dtype, layers=before)
        rotary = model.rotary_emb(hidden, batch.positions)
        for index, layer in enumerate(model.layers[:-1]):
            hidden = layer(
                hidden,
                attention_mask=masks[self.layer_type(index)],
                position_ids=batch.positions,
                position_embeddings=rotary,
            )
        last = model.layers[-1]
        # Without its wrapper: gradient checkpointing would drop keys and values; so few rows need none.
        outputs = inspect.unwrap(type(last).forward)(
            last,
            _at(grid, hidden),
            attention_mask=self._looks(tokens.at(grid), tokens, hidden.dtype, layers=[-1])[self.layer_type(-1)],
            position_ids=batch.positions.gather(1, grid),
            position_embeddings=tuple(_at(grid, part) for part in rotary),
            past_key_values=keys_and_values(last, hidden, rotary),
        )
        return model.norm(outputs[batch.source_rows, batch.source_slots])

    def head(self, hidden: Tensor, logits_in: Logits = "model") -> Tensor:
        """float[..., H] to logits float[..., V], soft-capped where the model asks for it (Gemma 2, arXiv:2408.00118).

        With `logits_in = "float32"` the product is not rounded to 16 bits; that has no gradients. In float32 both are
        the same.
        """
        if logits_in == "model" or self.compute_dtype == torch.float32:
            logits = self.bare.lm_head(hidden).float()
        else:
            logits = self._wide_head.logits(hidden, self._head_weight(), self.compute_dtype)
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    @property
    def _cap(self) -> float | None:
        return getattr(self.text_config, "final_logit_softcapping", None)

    def _head_weight(self) -> Tensor:
        """float[V, H]: the head's matrix, for products outside its module, which must be free of adapters and 4-bit
        weights."""
        head = self.bare.lm_head
        if type(head) is not nn.Linear:
            raise ModelError(
                f"the language-model head is a {type(head).__name__}, where a plain matrix is needed",
                hint='a head with an adapter captions with generate.logits = "model"',
            )
        return head.weight

    @property
    def window(self) -> int | None:
        """Gemma 2's sliding window, in positions; Gemma has none."""
        return getattr(self.text_config, "sliding_window", None)

    def embed(self, batch: PackedBatch) -> Tensor:
        """float[B, N, H]: image features in place of the image tokens, and the embeddings of words."""
        return self.family.embed(self.bare, batch.tokens, self.image_features(batch))

    def masks(self, batch: PackedBatch, dtype: torch.dtype) -> Any:
        """Who attends to whom, in the form that this model's attention takes; by layer type if it has several."""
        tokens = Tokens.of(batch.branch, batch.positions)
        full = self._form(self._pairs(tokens, tokens, None), dtype)
        if self.window is None:
            return full
        return {
            "full_attention": full,
            "sliding_attention": self._form(self._pairs(tokens, tokens, self.window), dtype),
        }

    def _pairs(self, query: Tokens, key: Tokens, window: int | None) -> Tensor:
        return pairs(query, key, window=window, causal=self.family.causal_prefix)

    def layer_type(self, layer: int) -> str:
        """`full_attention`, or `sliding_attention` for every other layer of Gemma 2."""
        types = getattr(self.text_config, "layer_types", None)
        return types[layer] if types else "full_attention"

    def _looks(self, query: Tokens, key: Tokens, dtype: torch.dtype, *, layers: Sequence[int]) -> dict[str, Any]:
        """By type of these layers, who of the queries attends to whom, in the form that training's attention takes.

        A window that is no shorter than the rows hides nothing, so that one mask serves all layers.
        """
        window = self.window if self.window is not None and self.window < key.column.shape[1] else None
        windows = {"full_attention": None, "sliding_attention": window}
        made: dict[int | None, Any] = {}
        found = {}
        for name in {self.layer_type(layer) for layer in layers}:
            limit = windows[name]
            if limit not in made:
                flex = self.flex and torch.is_grad_enabled()
                if flex:
                    made[limit] = blocks(query, key, window=limit, causal=self.family.causal_prefix)
                else:
                    made[limit] = self._form(self._pairs(query, key, limit), dtype)
            found[name] = made[limit]
        return found

    def _form(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        mask = mask.unsqueeze(1)
        if self.text_config._attn_implementation != "eager":
            return mask
        # Eager attention adds its mask to the scores: a boolean one would be added as 0 and 1 and hide nothing.
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _at(columns: Tensor, values: Tensor) -> Tensor:
    """values[b, columns[b, m]]: [B, N, D] to [B, M, D]. Gathered, since the backward of indexing sums in any order."""
    return values.gather(1, columns.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def keys_and_values(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Given:
    """Keys, turned by their positions, and values that a layer's attention makes of float[B, N, H]."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    shape = (*normed.shape[:-1], -1, attention.head_dim)
    keys, values = (project(normed).view(shape).transpose(1, 2) for project in (attention.k_proj, attention.v_proj))
    cos, sin = (part.unsqueeze(1) for part in rotary)
    return Given(keys * cos + rotate_half(keys) * sin, values)
