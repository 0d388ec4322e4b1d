"""A decoding step of fixed shapes as a CUDA graph, beside the step that grows."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from on_gpu.timing import repeated
from rscap.captioner.batch import Batch
from rscap.model.decoding import prefill, step
from rscap.model.packed import PackedModel
from rscap.model.replay import Still

STEPS = 12


@torch.inference_mode()
def graphed(packed: PackedModel, batch: Batch) -> dict[str, Any]:
    """Seconds of a replayed step, and the share of tokens that are those of `rscap.model.decoding.step`."""
    try:
        wanted = _tokens(packed, batch)
        length = batch.tokens.shape[1]
        still = Still(packed, rows=len(batch.tokens), slots=-(-(length + STEPS) // 16) * 16, dtype=packed.stream)
        began = time.perf_counter()
        still.capture()
        capture = time.perf_counter() - began
        logits, state = prefill(packed, batch, room=STEPS)
        for kept, given in zip((*still.keys, *still.values), (*state.cache.keys, *state.cache.values), strict=True):
            kept[:, :, :length] = given[:, :, :length]
        still.begin(length)
        chosen, found = logits.argmax(dim=-1, keepdim=True), []
        for _ in range(STEPS):
            chosen = still.step(chosen).argmax(dim=-1)
            found.append(chosen)
        still.begin(length)
        times = repeated(lambda: still.step(chosen), packed.device, warm=1, timed=STEPS - 2, enough_s=1.0)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:500]}
    return {
        "step_s": sorted(times)[len(times) // 2],
        "same_tokens": (torch.cat(found, dim=1) == wanted).float().mean().item(),
        "same_first_tokens": (found[0] == wanted[:, :1]).float().mean().item(),
        "capture_s": capture,
    }


def _tokens(packed: PackedModel, batch: Batch) -> Tensor:
    """int[B, STEPS]: greedy choices after the first, by the ordinary step."""
    logits, state = prefill(packed, batch, room=STEPS)
    chosen = logits.argmax(dim=-1, keepdim=True)
    found = []
    for _ in range(STEPS):
        chosen = step(packed, chosen, state).argmax(dim=-1)
        found.append(chosen)
    return torch.cat(found, dim=1)
