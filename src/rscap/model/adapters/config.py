"""PEFT's configuration of a recipe's [adapter] section, the layers it names, and the optimiser groups that go with it.

A bare list of module names (`q_proj`, …) also matches the vision tower's attention, so that a "frozen" tower becomes
trainable; here every tower has its own expression and its own expected count.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from rscap.errors import AdapterError
from rscap.methods import starting_rank
from rscap.model.families import family_of
from rscap.recipe import AdapterSection, Tower

_COPIES = r"('[^']*\.randlora_[AB]\.default'(, )?)+"


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide three warnings of PEFT 0.21 that do not concern the user.

    It asks transformers for an attribute by its old name; it reports copies of RandLoRA's bases as missing, which all
    layers share and the folder holds once; and it takes AdaLoRA's masks for a LoRA rank pattern. Any other missing key
    is still reported.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", rf"Found missing adapter keys while loading the checkpoint: \[{_COPIES}\]\.$")
        warnings.filterwarnings("ignore", r"The following rank_pattern keys did not match any targeted .*\.lora_E'\]")
        yield


EVA_RHO = 2.0
"""EVA gives a layer up to this many times the mean rank (rho in arXiv:2410.07170, PEFT's default)."""


def scale(adapter: AdapterSection, rank: int | None = None) -> float:
    """The factor of a LoRA product: alpha / r, or alpha / sqrt(r) for rsLoRA."""
    if adapter.alpha is None:
        raise ValueError(f"method {adapter.method!r} has no scale")
    rank = rank or adapter.rank
    return adapter.alpha / (math.sqrt(rank) if adapter.rank_stabilised else rank)


def peft_config(
    adapter: AdapterSection, *, targets: str, whole: list[str] | None, seed: int, ranks: Mapping[str, int]
) -> Any:
    """PEFT's configuration of a method.

    `ranks` holds the layers whose rank differs from the recipe's; their alpha keeps the scale the same.
    `whole` names the modules whose weights are all trained beside the adapter.
    """
    from peft import AdaLoraConfig, HiraConfig, LoraConfig, MissConfig, RandLoraConfig, VeraConfig

    common = {"target_modules": targets, "modules_to_save": whole}
    rank, dropout = adapter.rank, adapter.dropout
    match adapter.method:
        case "hira":
            return HiraConfig(r=rank, hira_dropout=dropout, **common)
        case "randlora":
            return RandLoraConfig(
                r=rank, randlora_alpha=adapter.alpha, randlora_dropout=dropout, projection_prng_key=seed, **common
            )
        case "vera":
            return VeraConfig(r=rank, vera_dropout=dropout, projection_prng_key=seed, **common)
        case "miss":
            return MissConfig(r=rank, miss_dropout=dropout, **common)
        case "adalora":
            # The schedule is set by `Allocation.of`, which knows how many steps there will be.
            return AdaLoraConfig(
                init_r=starting_rank(adapter.method, rank),
                target_r=rank,
                lora_alpha=adapter.alpha,
                lora_dropout=dropout,
                total_step=1,
                **common,
            )
    # init_lora_weights keeps its default for the other starts too: `start.py` sets the matrices, and whoever loads the
    # saved adapter must not initialise it again.
    return LoraConfig(
        r=rank,
        lora_alpha=adapter.alpha,
        lora_dropout=dropout,
        use_rslora=adapter.rank_stabilised,
        use_dora=adapter.weight_decomposed,
        rank_pattern=dict(ranks),
        alpha_pattern={name: _alpha_for(adapter, other) for name, other in ranks.items()},
        bias="none",
        **common,
    )


def _alpha_for(adapter: AdapterSection, rank: int) -> float:
    """The alpha that gives a layer of another rank the recipe's scale."""
    return scale(adapter) * (math.sqrt(rank) if adapter.rank_stabilised else rank)


_B = (".lora_B.", ".hira_B.")
_VECTORS = (".lora_E.",)  # AdaLoRA keeps its singular values as a column


def parameter_groups(
    net: nn.Module, *, learning_rate: float, weight_decay: float, lora_plus_ratio: float
) -> list[dict[str, Any]]:
    """Optimiser groups: weight decay on matrices only; LoRA+ gives the B matrices `lora_plus_ratio` times the rate.

    Raises:
        AdapterError: LoRA+ is asked for and no B matrix is trainable.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim > 1 and not any(part in name for part in _VECTORS)
            groups.setdefault((any(part in name for part in _B), is_matrix), []).append(parameter)
    if lora_plus_ratio != 1.0 and not any(is_b for is_b, _ in groups):
        raise AdapterError(f"LoRA+ with ratio {lora_plus_ratio:g} needs a trainable B matrix, and there is none")
    return [
        {
            "params": parameters,
            "lr": learning_rate * (lora_plus_ratio if is_b else 1.0),
            "weight_decay": weight_decay if is_matrix else 0.0,
        }
        for (is_b, is_matrix), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def trainable_parameters(net: nn.Module) -> Iterator[nn.Parameter]:
    """The trainable parameters."""
    return (parameter for parameter in net.parameters() if parameter.requires_grad)


def target_expression(net: nn.Module, tower: Tower, targets: Sequence[str]) -> str:
    """A regular expression that matches, by full path, `targets` in every layer of `tower` and nothing else.

    Raises:
        AdapterError: a target is missing in some layer; says which names there are.
    """
    paths = family_of(net).adapted
    if tower not in paths:
        raise AdapterError(f"the {tower} cannot be adapted")
    linears = {name for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    inside = {name for name in linears if re.match(paths[tower], name)}
    layers = {name.split(".layers.")[1].split(".")[0] for name in inside}
    known = sorted({name.rsplit(".", 1)[1] for name in inside})
    for target in targets:
        found = [name for name in inside if name.endswith(f".{target}")]
        if len(found) != len(layers):
            raise AdapterError(
                f"target {target!r} matches {len(found)} modules of the {tower}, expected {len(layers)} (one a layer)",
                hint=f"targets of the {tower} are {', '.join(known)}",
            )
    return paths[tower] + f"(?:{'|'.join(re.escape(target) for target in targets)})"


@dataclass(frozen=True, slots=True)
class TargetLayers:
    """The adapted layers of a bare model."""

    layers: dict[str, nn.Linear]
    """By full path, in the model's order."""
    expression: str
    """Matches these paths whole and no others."""

    @classmethod
    def of(cls, net: nn.Module, adapted: Sequence[Tower], adapter: AdapterSection) -> TargetLayers:
        """The targets of every adapted tower.

        Raises:
            AdapterError: a target is missing in some layer, or is named twice.
        """
        wanted = {"language_model": adapter.language_targets, "vision_tower": adapter.vision_targets}
        for tower in adapted:
            if len(set(wanted[tower])) != len(wanted[tower]):
                raise AdapterError(f"the targets of the {tower} name a layer twice: {', '.join(wanted[tower])}")
        expression = "|".join(f"(?:{target_expression(net, tower, wanted[tower])})" for tower in adapted)
        linears = ((name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear))
        return cls({name: module for name, module in linears if re.fullmatch(expression, name)}, expression)

    def without(self, names: Sequence[str]) -> TargetLayers:
        """The same targets without some of the layers."""
        if not names:
            return self
        kept = {name: module for name, module in self.layers.items() if name not in set(names)}
        return TargetLayers(kept, "|".join(map(re.escape, kept)))
