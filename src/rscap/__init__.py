"""Remote-sensing image captioning: fine-tune vision-language models, caption, and score in a way that can be trusted.

    import rscap

    recipe = rscap.read_recipe("risc-mini-nano", "data.source=sample")
    run = rscap.train(recipe, "runs/mine")
    sheet = rscap.evaluate(run)
    model = rscap.load(run)
    model.caption(["a.jpg", "b.jpg"])

Importing this module imports neither torch nor numpy: each name is loaded when it is first used. docs/library.md tells
the rest.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.2.0"

__all__ = [
    "__version__",
    "caption_scene",
    "compare",
    "diagnose",
    "evaluate",
    "export",
    "load",
    "open_data",
    "plan",
    "read_recipe",
    "report",
    "score",
    "train",
    "verify",
]


def __getattr__(name: str) -> object:
    """A function of the library, loaded when it is first asked for (PEP 562)."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module("rscap.library"), name)
    return found


def __dir__() -> list[str]:
    return list(__all__)
