"""How torch divides a card's memory, chosen before torch is imported, which reads it once.

Every training batch has another length, and captions in between have others again. Blocks of fixed size leave gaps that
none of them fits: on an H200, 14.9 GiB of tensors held 21.2 GiB of a card's memory, and 15.1 with segments that grow
(docs/benchmarks.md). torch's own name for them is `expandable_segments`.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

NAME, OLD_NAME = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
GROWING = "expandable_segments:True"


def let_segments_grow() -> None:
    """Ask for growing segments, unless the user chose settings, torch is imported already, or the system has none."""
    if "torch" in sys.modules or sys.platform != "linux" or any(name in os.environ for name in (NAME, OLD_NAME)):
        return
    try:
        major, minor = (int(part) for part in version("torch").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return
    os.environ[NAME if (major, minor) >= (2, 9) else OLD_NAME] = GROWING
