"""The model card: README.md of an export, from what the run folder holds and what the comparison found."""

from rscap.exporting.card.page import card
from rscap.exporting.card.subject import CardSubject

__all__ = ["CardSubject", "card"]
