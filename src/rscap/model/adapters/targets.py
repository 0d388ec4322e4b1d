"""The adapted layers, by full path.

A bare list of module names (`q_proj`, …) also matches the vision tower's attention, so that a "frozen" tower becomes
trainable; here every tower has its own expression and its own expected count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from rscap.errors import AdapterError
from rscap.recipe import AdapterSection, Tower

_PATHS: dict[Tower, str] = {
    "vision_tower": r"model\.vision_tower\.(?:vision_model\.)?encoder\.layers\.\d+\.(?:self_attn|mlp)\.",
    "language_model": r"model\.language_model\.layers\.\d+\.(?:self_attn|mlp)\.",
}


def target_expression(net: nn.Module, tower: Tower, targets: Sequence[str]) -> str:
    """A regular expression that matches, by full path, `targets` in every layer of `tower` and nothing else.

    Raises:
        AdapterError: a target is missing in some layer; says which names there are.
    """
    if tower not in _PATHS:
        raise AdapterError(f"the {tower} cannot be adapted")
    linears = {name for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    inside = {name for name in linears if re.match(_PATHS[tower], name)}
    layers = {name.split(".layers.")[1].split(".")[0] for name in inside}
    known = sorted({name.rsplit(".", 1)[1] for name in inside})
    for target in targets:
        found = [name for name in inside if name.endswith(f".{target}")]
        if len(found) != len(layers):
            raise AdapterError(
                f"target {target!r} matches {len(found)} modules of the {tower}, expected {len(layers)} (one a layer)",
                hint=f"targets of the {tower} are {', '.join(known)}",
            )
    return _PATHS[tower] + f"(?:{'|'.join(re.escape(target) for target in targets)})"


@dataclass(frozen=True, slots=True)
class TargetLayers:
    """The adapted layers of a bare PaliGemma."""

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
