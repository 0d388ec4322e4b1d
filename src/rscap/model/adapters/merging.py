"""Add an adapter's update to the weights of its base."""

from __future__ import annotations

from typing import Any

from rscap.errors import AdapterError
from rscap.model.adapters.config import quiet_peft

_QUANTISED = ("Linear4bit", "Linear8bitLt")


def merge(net: Any) -> Any:
    """The `PaliGemmaForConditionalGeneration` inside a PEFT model, with the adapter merged into its weights.

    Works in place: `net` is used up. Sums are rounded to the precision of the base's weights, so captions may differ
    from those of the adapter beside its base; they cost what the base alone costs. A model without an adapter is
    returned as it is.

    Raises:
        AdapterError: the base is quantised, the method has no merged form, or its weights are damaged.
    """
    if not hasattr(net, "peft_config"):
        return net
    from peft.tuners.tuners_utils import BaseTunerLayer

    method = str(net.peft_config["default"].peft_type.value)
    if quantised := [name for name, module in net.named_modules() if type(module).__name__ in _QUANTISED]:
        raise AdapterError(
            f"an adapter cannot be merged into quantised weights ({len(quantised)} layers): sums are not on their grid",
            hint="caption without merging, or load the base with model.quantisation = 'none'",
        )
    try:
        with quiet_peft():
            model = net.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AdapterError(f"an adapter of the method {method} cannot be merged: {reason}") from error
    if left := [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]:
        raise AdapterError(f"an adapter of the method {method} cannot be merged: {left[0]} still carries it")
    return model
