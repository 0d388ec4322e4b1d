"""Bytes that autograd keeps of one block for its backward pass, per image, counted tensor by tensor.

Each formula names its tensors in the order in which the block computes them. H is the width of the stream, I that of
the MLP; N tokens give keys and values, M of them queries and MLP: in the last layer only supervised ones do.
`benchmarks/plan.py` compares the sums with what `torch.autograd.graph.saved_tensors_hooks` sees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rscap.planning.parameters import Setting
from rscap.planning.shapes import Linear, TextShape, VisionShape
from rscap.recipe import Tower

SCORE = 4
"""Softmax and norms are computed in float32."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """A tensor that several linear layers read: its precision, and whether something else keeps it anyway."""

    given: int
    """Bytes of one number."""
    held: bool = False


def inputs_kept(setting: Setting, tower: Tower, linears: Iterable[Linear], source: Inputs) -> int:
    """Bytes per token that linear layers keep of their common input.

    A trainable layer keeps it in the precision of products: one copy per layer if autocast casts it, else one for all.
    An adapter keeps what its `Footprint` says, and dropout's mask. A frozen layer keeps nothing; for 8-bit ones see
    `eight_bit_inputs`.
    """
    maps = list(linears)
    width, product = maps[0].inputs, setting.product
    targets = setting.targets(tower)
    adapted = [one for one in maps if one.name in targets]
    if setting.state(tower) == "trained":
        return width * product * _copies(len(maps), source, shared=source.given == product)
    kept = sum(setting.footprint(one).token * product for one in adapted)
    readers = sum(setting.footprint(one).reads for one in adapted)
    if readers:
        kept += width * product * _copies(readers, source, shared=_shared(setting, source))
    if setting.dropout:
        kept += width * setting.mask(source.given) * len(adapted)
    return kept


def _shared(setting: Setting, source: Inputs) -> bool:
    """True if adapters keep their common input as it is, without copies of their own."""
    return source.given == setting.product and not setting.dropout


def _copies(count: int, source: Inputs, *, shared: bool) -> int:
    if shared:
        return 0 if source.held else 1
    return count


def text_layer(shape: TextShape, setting: Setting, *, queries: int, keys: int, fed: bool = True) -> int:
    """Bytes per image that a block of Gemma keeps. `fed` says that its input needs a gradient."""
    tower: Tower = "language_model"
    maps, product, stream = shape.linears, setting.product, Inputs(setting.residual)
    whole = queries == keys
    read = ("q_proj", "k_proj", "v_proj") if whole else ("k_proj", "v_proj")
    norms = shape.norms if fed or not whole else shape.norms - 1
    kept = keys * inputs_kept(setting, tower, (maps[name] for name in read), stream)
    kept += queries * norms * norm(shape.width, setting)
    if not whole:  # the last layer: its first norm twice, its queries apart, and the stream they are gathered from
        kept += keys * norm(shape.width, setting)
        kept += queries * inputs_kept(setting, tower, [maps["q_proj"]], stream)
        kept += keys * shape.width * setting.residual if setting.residual < SCORE else 0
    kept += attention(shape, setting, queries=queries, keys=keys)
    fused = not shape.capped or setting.flex
    kept += queries * inputs_kept(setting, tower, [maps["o_proj"]], Inputs(product, held=fused))
    kept += queries * inputs_kept(setting, tower, (maps["gate_proj"], maps["up_proj"]), stream)
    kept += queries * mlp_kept(shape, setting)
    return kept


def eight_bit_inputs(shape: TextShape, setting: Setting, *, queries: int, keys: int, again: bool) -> int:
    """Bytes per image that the 8-bit layers of a block hold: all their inputs (bitsandbytes, `MatMul8bitLt`).

    They are held outside autograd's hooks, through which checkpointing works, so checkpointing does not free them.
    `again` counts all of them; otherwise what attention or adapters keep anyway is left out.
    """
    tower: Tower = "language_model"
    if not setting.eight_bit(tower):
        return 0
    stream, product, wide = Inputs(setting.residual), Inputs(setting.product), Inputs(setting.inner)
    targets = setting.targets(tower)

    def held(source: Inputs, width: int, *names: str) -> int:
        kept_anyway = not again and targets.intersection(names) and _shared(setting, source)
        return 0 if kept_anyway else source.given * width

    inner = shape.heads * shape.head_width
    fused = not shape.capped or setting.flex
    kept = keys * held(stream, shape.width, "q_proj", "k_proj", "v_proj")
    kept += 0 if queries == keys else queries * held(stream, shape.width, "q_proj")
    kept += 0 if fused and not again else queries * held(product, inner, "o_proj")
    kept += queries * held(stream, shape.width, "gate_proj", "up_proj")
    return kept + queries * held(wide, shape.mlp, "down_proj")


def mlp_kept(shape: TextShape, setting: Setting) -> int:
    """Bytes per token: outputs of the gate, its GELU and `up`, and their product if `down` keeps it."""
    down = inputs_kept(setting, "language_model", [shape.linears["down_proj"]], Inputs(setting.inner))
    return 3 * shape.mlp * setting.inner + down


def norm(width: int, setting: Setting) -> int:
    """Bytes per token of an RMSNorm: its input in float32, one scale, and the normed input if the norm is trainable."""
    return width * SCORE * (2 if setting.state("language_model") == "trained" else 1) + SCORE


def attention(shape: TextShape, setting: Setting, *, queries: int, keys: int) -> int:
    """Bytes per image of attention between its projections.

    Fused: queries, keys, values, output, one sum a query and head, and the mask in the precision of products. One head
    of keys is read in place by all heads of queries; several are repeated, as is one that autocast has to cast.
    FlexAttention repeats none and keeps no mask.
    Plain with soft-capping (Gemma 2): queries, keys, values and, of all scores, tanh, softmax and its cast.
    """
    inner, product = shape.heads * shape.head_width, setting.product
    shared = shape.groups * shape.head_width
    flex = setting.flex
    if shape.capped and not flex:
        scores = shape.heads * (product + SCORE + (product if product < SCORE else 0))
        return queries * inner * product + 2 * keys * inner * product + queries * keys * scores
    repeated = inner if shape.groups > 1 and not flex else shared
    keys_wide = repeated if setting.residual == product or flex else inner
    values_wide = repeated if setting.inner == product or flex else inner
    mask = 0 if flex else queries * keys * product
    return product * (2 * queries * inner + keys * (keys_wide + values_wide)) + queries * shape.heads * SCORE + mask


def vision_layer(shape: VisionShape, setting: Setting) -> int:
    """Bytes per image that a block of a trainable SigLIP keeps."""
    tower: Tower = "vision_tower"
    maps, product, stream = shape.linears, setting.product, Inputs(setting.vision_norm)
    per_token = 2 * (shape.width * setting.vision_norm + 2 * SCORE)
    per_token += inputs_kept(setting, tower, (maps[name] for name in ("q_proj", "k_proj", "v_proj")), stream)
    per_token += 4 * shape.width * product + shape.heads * SCORE
    per_token += inputs_kept(setting, tower, [maps["out_proj"]], Inputs(product, held=True))
    per_token += inputs_kept(setting, tower, [maps["fc1"]], stream)
    return shape.tokens * (per_token + vision_mlp_kept(shape, setting))


def vision_mlp_kept(shape: VisionShape, setting: Setting) -> int:
    """Bytes per token: GELU's input, and its output if `fc2` keeps it."""
    return shape.mlp * setting.product + inputs_kept(
        setting, "vision_tower", [shape.linears["fc2"]], Inputs(setting.product)
    )
