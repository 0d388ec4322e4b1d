from rscap.library import (
    caption_scene,
    compare,
    diagnose,
    evaluate,
    export,
    load,
    open_data,
    plan,
    read_recipe,
    report,
    score,
    train,
    verify,
)

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

__version__: str
