"""Every error rscap raises on purpose.

    RscapError
    ├── RecipeError          a recipe that cannot be run as written
    ├── DataError            a data set, an image or a caption that cannot be used
    │   └── ImageError       one image that cannot be decoded
    ├── ModelError           a base model that cannot be loaded
    │   └── AdapterError     a method or a target that was asked for and would not be applied
    ├── TrainingError        a run that must not go on
    │   ├── BrokenTargets    the first loss says that the targets are wrong
    │   ├── TrainingDiverged a loss or a gradient is not finite
    │   ├── OutOfMemory      one image alone does not fit
    │   └── Interrupted      asked to stop; the state is saved
    ├── ScoreError           candidates and references that cannot be scored together
    ├── StoreError           a run folder that is missing, taken or damaged
    └── ExportError          an export that is not the model it was made from, or cannot be handed on

The message says what happened and with which values; `hint` says what to do about it.
"""

from __future__ import annotations


class RscapError(Exception):
    """Base of all errors of this package: a message and, where there is one, the way out."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class RecipeError(RscapError):
    """A recipe that cannot be run as written."""


class DataError(RscapError):
    """A data set, an image or a caption that cannot be used."""


class ImageError(DataError):
    """One image that cannot be decoded."""


class ModelError(RscapError):
    """A base model that cannot be loaded."""


class AdapterError(ModelError):
    """A method or a target that was asked for and would not be applied as asked."""


class TrainingError(RscapError):
    """A run that must not go on."""


class BrokenTargets(TrainingError):
    """The first loss says that the model is being taught the wrong thing."""


class TrainingDiverged(TrainingError):
    """A loss or a gradient is not finite."""


class OutOfMemory(TrainingError):
    """One image alone does not fit in memory."""


class Interrupted(TrainingError):
    """Asked to stop by a signal; the state is saved and the run can be resumed."""


class ScoreError(RscapError):
    """Candidates and references that cannot be scored together."""


class StoreError(RscapError):
    """A run folder that is missing, taken or damaged."""


class ExportError(RscapError):
    """An export that is not the model it was made from, or cannot be handed on."""
