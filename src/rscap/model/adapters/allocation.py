"""AdaLoRA's ranks during training: how many singular values each layer keeps (arXiv:2303.10512)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rscap.errors import AdapterError
from rscap.recipe import AdapterSection

_MOMENTS = ("exp_avg_ipt", "exp_avg_unc")


@dataclass(frozen=True, slots=True)
class Allocation:
    """The budget of ranks over the steps: full at first, falling in the middle, fixed at the end.

    One update of the loop:

        backward …                       # of all micro batches
        allocation.regularise(scale=…)   # before gradients are clipped
        clip, optimiser.step()
        allocation.after_step(step)      # step counts from 1; before gradients are cleared
        optimiser.zero_grad()
    """

    net: Any
    """The `PeftModel`."""

    @classmethod
    def of(cls, net: Any, adapter: AdapterSection | None, total_steps: int) -> Allocation | None:
        """The allocation of a prepared model; None where the method has none.

        The first tenth of the steps keeps every rank and the last half keeps the final ones, about as in the authors'
        own runs (12 % and 44 % on SST-2).

        Raises:
            AdapterError: too few steps to allocate anything.
        """
        if adapter is None or adapter.method != "adalora":
            return None
        if total_steps < 2:
            raise AdapterError(f"AdaLoRA allocates ranks during training; {total_steps} step leaves no room for it")
        config = net.peft_config["default"]
        config.total_step = total_steps
        config.tinit, config.tfinal = total_steps // 10, min(total_steps // 2, total_steps - 2)
        config.deltaT = max(1, total_steps // 1000)
        return cls(net)

    def regularise(self, *, scale: float = 1.0) -> None:
        """Add the gradient of the orthogonality penalty, times `scale`, to the gradients there are.

        `scale` is the loss scale where gradients are still scaled (float16). The gradient is added outside autograd's
        graph, so that it counts once per update and once per process whatever wraps the model.
        """
        named = self._model.named_parameters()
        matrices = [(name, p) for name, p in named if p.requires_grad and (".lora_A." in name or ".lora_B." in name)]
        weight = scale * self._config.orth_reg_weight / len(matrices)
        for name, matrix in matrices:
            part = matrix.detach().requires_grad_(True)
            product = part @ part.T if ".lora_A." in name else part.T @ part
            penalty = torch.linalg.norm(product - torch.eye(len(product), device=part.device))
            (gradient,) = torch.autograd.grad(weight * penalty, part)
            matrix.grad = gradient if matrix.grad is None else matrix.grad.add_(gradient)

    def after_step(self, step: int) -> None:
        """Update importances by the gradients of update `step` (from 1), and zero singular values beyond the budget.

        Raises:
            AdapterError: gradients were cleared before.
        """
        singular = [p for name, p in self._model.named_parameters() if ".lora_E." in name]
        if any(parameter.grad is None for parameter in singular):
            raise AdapterError("AdaLoRA's importances need the gradients of the step: call after_step before zero_grad")
        self.net.base_model.update_and_allocate(step)

    def cut_short(self, step: int) -> str | None:
        """A warning if training ended at `step`, before the ranks came down to the budget; else None."""
        config = self._config
        if step >= config.total_step - config.tfinal:
            return None
        kept = sum(self.ranks().values())
        return (
            f"AdaLoRA ended at step {step} of {config.total_step}, before its ranks came down: it keeps {kept:,} "
            f"singular values, {self._allocator.target_bgt:,} were planned; with a train.max_steps that is reached "
            "they come down"
        )

    def ranks(self) -> dict[str, int]:
        """Singular values that are not zero, per layer."""
        return {
            name.split(".lora_E.")[0]: int((parameter != 0).sum())
            for name, parameter in self._model.named_parameters()
            if ".lora_E." in name
        }

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint stores besides weights and optimiser states, as tensors."""
        allocator = self._allocator
        kept = {f"{kind}|{name}": value for kind in _MOMENTS for name, value in getattr(allocator, kind).items()}
        pattern = self._config.rank_pattern or {}
        return kept | {f"kept|{name}": torch.tensor(mask, dtype=torch.bool) for name, mask in pattern.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state()` returned.

        Raises:
            AdapterError: it belongs to another model; names the first key that does not fit.
        """
        parameters, allocator = dict(self._model.named_parameters()), self._allocator
        allocator.reset_ipt()
        pattern: dict[str, list[bool]] = {}
        for key, value in state.items():
            kind, _, name = key.partition("|")
            if name not in parameters or kind not in (*_MOMENTS, "kept"):
                raise AdapterError(f"AdaLoRA's stored state does not fit the model: {key}")
            if kind == "kept":
                pattern[name] = value.tolist()
            else:
                getattr(allocator, kind)[name] = value.clone().to(parameters[name].device)
                allocator.ipt.setdefault(name, torch.zeros_like(parameters[name]))
        self._config.rank_pattern = pattern or None

    @property
    def _model(self) -> nn.Module:
        return self.net.base_model.model

    @property
    def _config(self) -> Any:
        return self.net.peft_config["default"]

    @property
    def _allocator(self) -> Any:
        return self.net.base_model.rankallocator
