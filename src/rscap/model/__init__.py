"""Base models by family, adapters, and a model as the packed batch sees it."""

from rscap.model.families import ImageSpec

__all__ = ["ImageSpec"]
