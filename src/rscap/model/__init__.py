"""Base models, adapters, and PaliGemma as the packed batch sees it."""

from rscap.model.load import ImageSpec

__all__ = ["ImageSpec"]
