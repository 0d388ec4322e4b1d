"""Base models, adapters, and PaliGemma as the packed batch sees it."""

from rscap.model.spec import ImageSpec

__all__ = ["ImageSpec"]
