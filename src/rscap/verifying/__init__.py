"""`rscap verify`: recompute every figure from the captions and references that travel with it.

differences.py    what was found to differ, and what could not be checked; comparing values key by key
sheets.py         a score sheet against its predictions and references
pages.py          report pages and the tables beside them, of runs and of studies
cards.py          the card of an export
verification.py   `verify`: what kind of thing it is, and its parts in their order

Needs neither torch nor Java nor a network. It shows that figures follow from the files beside them. It does not show
that a model wrote the captions, or that the references are those of a data set: who changes captions and figures
together, with their digests, is not found.
"""

from rscap.verifying.verification import verify

__all__ = ["verify"]
