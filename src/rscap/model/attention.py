"""Who attends to whom in a packed sequence, defined once, and the two ways to compute it.

Plain attention (SDPA; eager for Gemma 2) takes the rule as a mask of all pairs. FlexAttention
(torch.nn.attention.flex_attention, arXiv:2412.05496) takes it as a function, skips blocks that no query attends to, and
soft-caps scores (Gemma 2, arXiv:2408.00118) without holding them in memory. It needs a GPU and a compiler at run time,
and is used only if a recipe asks for it and `flex_differs` finds it equal to plain attention on the device: with torch
2.11 it could not be compiled for Gemma 2 at all, and what it saves, checkpointing saves too (docs/speed.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._dynamo import config as _dynamo
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

FLEX, CACHED = "rscap_flex", "rscap_cached"
_VARIANTS = 64
"""Graphs of FlexAttention: by autocast, one row or several, all tokens or picked ones. One more would be an error: past
its own limit of 8, torch would silently continue uncompiled, and gradients of capped scores may then be wrong."""
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Norm of the difference over the norm, for outputs and gradients; a GPU may multiply float32 as TF32."""


class Tokens(NamedTuple):
    """What decides who attends to whom: each token's branch, position and column, all int[B, N]."""

    branch: Tensor
    """0: prefix; k: the k-th caption; -1: padding"""
    position: Tensor
    column: Tensor

    @classmethod
    def of(cls, branch: Tensor, positions: Tensor) -> Tokens:
        """All tokens of packed rows, in order."""
        return cls(branch, positions, torch.arange(branch.shape[1], device=branch.device).expand_as(branch))

    def at(self, columns: Tensor) -> Tokens:
        """The tokens at `columns`, int[B, M]."""
        return Tokens(*(part.gather(1, columns) for part in self))


def sees(query: Tokens, key: Tokens, *, window: int | Tensor | None, causal: bool = False) -> Tensor:
    """True where `query` attends to `key`, element by element.

    The prefix sees itself whole; a branch sees the prefix and its own past; padding sees only itself, so that no row of
    the softmax is empty. `window` is Gemma 2's sliding window, measured in positions: a suffix token sees the `window`
    positions that end with its own. The prefix stays bidirectional whatever the window, as in transformers. In a
    `causal` family a prefix token sees the prefix up to itself.
    """
    prefix = (query.branch == 0) & (key.branch == 0)
    if causal:
        prefix = prefix & (key.position <= query.position)
    kin = (key.branch == 0) | (key.branch == query.branch)
    past = (query.branch > 0) & kin & (key.position <= query.position)
    if window is not None:
        past = past & (query.position - key.position < window)
    return prefix | past | (query.column == key.column)


def pairs(query: Tokens, key: Tokens, *, window: int | None, causal: bool = False) -> Tensor:
    """bool[B, M, N]: `sees` for M queries and N keys a row."""
    rows, columns = Tokens(*(part.unsqueeze(2) for part in query)), Tokens(*(part.unsqueeze(1) for part in key))
    return sees(rows, columns, window=window, causal=causal)


def blocks(query: Tokens, key: Tokens, *, window: int | None, causal: bool = False) -> BlockMask:
    """`sees` in the form FlexAttention takes; the window as a tensor, so that one graph serves any."""
    limit = torch.full((), 2**31 - 1 if window is None else window, device=query.branch.device)

    def visible(row: Tensor, _: Tensor, at: Tensor, of: Tensor) -> Tensor:
        asking, asked = Tokens(*(part[row, at] for part in query)), Tokens(*(part[row, of] for part in key))
        return sees(asking, asked, window=limit, causal=causal)

    (rows, queries), keys = query.branch.shape, key.branch.shape[1]
    return create_block_mask(visible, rows, None, queries, keys, device=query.branch.device)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: BlockMask | Tensor,
    *,
    scaling: float,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: float[B, H, M, D] queries, float[B, G, N, D] keys and values of G groups.

    A `BlockMask` goes through FlexAttention, a mask bool[B, 1, M, N] the plain way; both give float[B, M, H, D].
    """
    if isinstance(attention_mask, BlockMask):
        cap = None if softcap is None else _capped(softcap)
        query, key = query.to(value.dtype), key.to(value.dtype)  # float16 turns them in float32
        compute: Any = _compiled() if query.is_cuda else flex_attention
        with _dynamo.patch(recompile_limit=_VARIANTS, fail_on_recompile_limit_hit=True):
            out = compute(query, key, value, score_mod=cap, block_mask=attention_mask, scale=scaling, enable_gqa=True)
    else:
        out = _plain(query, key, value, attention_mask, scaling=scaling, softcap=softcap)
    return out.transpose(1, 2).contiguous(), None


def attend_cached(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of prefixes and decoding steps: float[B, H, M, D] queries, float[B, G, N, D] keys and values.

    Keys and values are read in place: the heads that share one head of them lie side by side, as more queries of it.
    `attention_mask` is None where everything is visible, else as `additive` makes it. Returns float[B, M, H, D].
    """
    rows, heads, asked, width = query.shape
    groups = key.shape[1]
    if asked > 1 and attention_mask is None and groups == 1:
        key, value = (part.expand(-1, heads, -1, -1) for part in (key, value))
    else:
        query = query.reshape(rows, groups, heads // groups * asked, width)
    if softcap is None:
        out = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
    else:
        scores = torch.tanh(query @ key.transpose(2, 3) * scaling / softcap) * softcap
        if attention_mask is not None:
            scores = scores + attention_mask
        out = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype) @ value
    return out.reshape(rows, heads, asked, width).transpose(1, 2).contiguous(), None


def additive(visible: Tensor, *, heads: int, dtype: torch.dtype) -> Tensor:
    """The mask of a decoding step, once for all layers: bool[B, M, N] to float[B, 1, heads * M, N], added to scores.

    `heads` is how many heads share one head of keys. Rows lie a multiple of 16 numbers apart, as fused kernels want
    them; otherwise every layer would copy the mask.
    """
    rows, asked, slots = visible.shape
    hidden = ~visible.unsqueeze(1).expand(-1, heads, -1, -1).reshape(rows, 1, heads * asked, slots)
    mask = torch.zeros(rows, 1, heads * asked, -(-slots // 16) * 16, dtype=dtype, device=visible.device)
    return mask[..., :slots].masked_fill_(hidden, torch.finfo(dtype).min)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The dimensions of a model's attention layer."""

    heads: int
    groups: int
    """Heads of keys and values."""
    width: int
    scaling: float
    softcap: float | None
    dtype: torch.dtype

    @classmethod
    def of(cls, layer: Any, config: Any, dtype: torch.dtype) -> Shape:
        """The shape of an attention layer, with products in `dtype`."""
        return cls(
            heads=config.num_attention_heads,
            groups=config.num_key_value_heads,
            width=layer.head_dim,
            scaling=layer.scaling,
            softcap=getattr(layer, "attn_logit_softcapping", None),
            dtype=dtype,
        )


def flex_differs(shape: Shape, device: torch.device, *, causal: bool = False, checkpointed: bool) -> str | None:
    """Compare FlexAttention with plain attention on this device: None if they agree, else what is wrong.

    One row and two, of two lengths, all tokens and a few of them as queries, with and without a window, under autocast
    as in training; outputs and gradients, and with recomputed activations where training recomputes them: there torch
    2.13, uncompiled, silently has wrong gradients of capped scores.
    """
    generator = torch.Generator().manual_seed(0)
    autocast = torch.autocast(device.type, dtype=shape.dtype, enabled=shape.dtype != torch.float32)
    try:
        for rows, suffixes in ((2, (9, 14, 11)), (1, (13, 8))):
            tokens = _packed(prefix=260, suffixes=suffixes, rows=rows, device=device)
            length = tokens.column.shape[1]
            last = torch.arange(259, length, device=device).expand(rows, -1)
            for query, window in ((tokens, None), (tokens, 40), (tokens.at(last), None)):
                with autocast:
                    apart = _apart(
                        shape,
                        query,
                        tokens,
                        window=window,
                        causal=causal,
                        generator=generator,
                        checkpointed=checkpointed,
                    )
                if not apart <= _TOLERANCE[shape.dtype]:
                    return f"its outputs or gradients differ by {apart:.1e} of their norm"
    except Exception as error:  # a compiler or a driver can fail in any way, and plain attention always works
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return None


def _packed(*, prefix: int, suffixes: Sequence[int], rows: int, device: torch.device) -> Tokens:
    """Equal rows: a prefix and its branches."""
    branch = [0] * prefix + [k for k, length in enumerate(suffixes, start=1) for _ in range(length)]
    positions = [*range(1, prefix + 1), *(prefix + 1 + place for length in suffixes for place in range(length))]
    return Tokens.of(torch.tensor([branch] * rows, device=device), torch.tensor([positions] * rows, device=device))


def _apart(
    shape: Shape,
    query: Tokens,
    key: Tokens,
    *,
    window: int | None,
    causal: bool,
    generator: torch.Generator,
    checkpointed: bool,
) -> float:
    """Largest relative distance between the two ways, over outputs and the gradients of queries, keys and values."""
    sizes = [(shape.heads, query), (shape.groups, key), (shape.groups, key)]
    inputs = [
        torch.randn(len(key.column), heads, tokens.column.shape[1], shape.width, generator=generator)
        .to(key.column.device, shape.dtype)
        .requires_grad_(True)
        for heads, tokens in sizes
    ]
    upstream = torch.randn(len(key.column), query.column.shape[1], shape.heads, shape.width, generator=generator)
    results = []
    fused = blocks(query, key, window=window, causal=causal)
    for mask in (fused, pairs(query, key, window=window, causal=causal).unsqueeze(1)):
        layer = partial(attend, nn.Module(), attention_mask=mask, scaling=shape.scaling, softcap=shape.softcap)
        out, _ = checkpoint(layer, *inputs, use_reentrant=False) if checkpointed else layer(*inputs)
        results.append([out.detach(), *torch.autograd.grad(out, inputs, upstream.to(out))])
    distances = [((a - b).float().norm() / b.float().norm()).item() for a, b in zip(*results, strict=True)]
    return max(distances, key=lambda distance: math.inf if math.isnan(distance) else distance)


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, scaling: float, softcap: float | None) -> Tensor:
    """Attention with all scores in memory; the softmax in float32, as transformers' eager attention has it."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(repeats, dim=1) for part in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype) @ value


@cache
def _capped(softcap: float) -> Callable[..., Tensor]:
    """Soft-capping as FlexAttention's `score_mod`; one function a cap, so that it is compiled once."""

    def cap(score: Tensor, *_: Tensor) -> Tensor:
        return torch.tanh(score / softcap) * softcap

    return cap


@cache
def _compiled() -> Callable[..., Tensor]:
    """FlexAttention as a fused kernel, for rows of any length."""
    return torch.compile(flex_attention, dynamic=True)


AttentionInterface.register(FLEX, attend)
AttentionInterface.register(CACHED, attend_cached)
