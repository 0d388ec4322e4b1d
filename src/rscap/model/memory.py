"""Out of memory: recognise the error, and release what a failed attempt held."""

from __future__ import annotations

import gc

import psutil
import torch

_SAID = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # its handle needs memory of its own
    "CUDNN_STATUS_ALLOC_FAILED",
)
_ON_A_FULL_CARD = "CUDNN_STATUS_INTERNAL_ERROR"
"""The error of cuDNN on a full card (seen on an H200 with 3 MB free); it reports other faults with it too."""

_FULL = 2**29
"""Free bytes below which a card is full: a library's handle or workspace may not fit."""


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    said = str(error)
    return any(words in said for words in _SAID) or (_ON_A_FULL_CARD in said and _is_full())


def _is_full() -> bool:
    return torch.cuda.is_available() and torch.cuda.mem_get_info()[0] < _FULL


def release(device: torch.device) -> None:
    """Release what a failed attempt held, and what the allocator keeps for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def memory_size(device: torch.device) -> int:
    """Bytes of a card's memory, free or not; of the host's elsewhere."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return psutil.virtual_memory().total
