"""Warnings of PEFT that say nothing to the user."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_COPIES = r"('[^']*\.randlora_[AB]\.default'(, )?)+"


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide three warnings of PEFT 0.21.

    It asks transformers for an attribute by its old name; it misses copies of RandLoRA's bases, which all layers share
    and the folder holds once; and it takes the masks of an AdaLoRA for the rank pattern of a LoRA. A missing key of any
    other kind is still told.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", rf"Found missing adapter keys while loading the checkpoint: \[{_COPIES}\]\.$")
        warnings.filterwarnings("ignore", r"The following rank_pattern keys did not match any targeted .*\.lora_E'\]")
        yield
