"""Every error rscap raises on purpose.

    RscapError
    ├── Refusal              input that rscap refuses before it trains anything
    │   ├── RecipeError      a recipe that cannot be run as written
    │   ├── DataError        a data set, an image or a caption that cannot be used
    │   │   ├── ImageError   one image that cannot be decoded
    │   │   └── SceneError   one raster that cannot be captioned
    │   ├── ModelError       a base model that cannot be loaded
    │   │   ├── AdapterError a method or a target that was asked for and would not be applied
    │   │   └── NotFinite    captions would be chosen from numbers that overflowed
    │   ├── ScoreError       candidates and references that cannot be scored together
    │   └── BrokenTargets    the first loss shows that the targets are wrong (also a TrainingError)
    ├── TrainingError        a run that must not continue
    │   ├── TrainingDiverged a loss or a gradient is not finite
    │   ├── WorkerLost       a process that makes batches was killed
    │   ├── OutOfMemory      a single image does not fit in memory
    │   └── Interrupted      asked to stop; the state is saved
    ├── StoreError           a run folder that is missing, taken or damaged
    │   └── WrittenByNewer   a file in a format that only a newer rscap knows: it is not damaged
    └── ExportError          an export that differs from its model, or cannot be published

The message says what happened and with which values; `hint` says what to do about it.
"""

from __future__ import annotations


class RscapError(Exception):
    """Base of all errors of this package: a message and, where there is one, a hint on what to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    @property
    def in_one_line(self) -> str:
        """Message and hint for a list or a table, where an error is one row of many."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Refusal(RscapError):
    """Input that rscap refuses before it trains anything: the same input will be refused again."""


class RecipeError(Refusal):
    """A recipe that cannot be run as written."""


class DataError(Refusal):
    """A data set, an image or a caption that cannot be used."""


class ImageError(DataError):
    """One image that cannot be decoded."""


class SceneError(DataError):
    """One raster that cannot be captioned."""


class ModelError(Refusal):
    """A base model that cannot be loaded."""


class AdapterError(ModelError):
    """A method or a target that was asked for and would not be applied as asked."""


class NotFinite(ModelError):
    """Captions would be chosen from numbers that overflowed."""


class TrainingError(RscapError):
    """A run that must not continue."""


class BrokenTargets(TrainingError, Refusal):
    """The first loss shows that the model is being taught the wrong thing."""


class TrainingDiverged(TrainingError):
    """A loss or a gradient is not finite."""


class WorkerLost(TrainingError):
    """A process that makes batches was killed, or the system gave it no more memory or files."""


class OutOfMemory(TrainingError):
    """A single image does not fit in memory."""


class Interrupted(TrainingError):
    """Asked to stop by a signal; the state is saved and the run can be resumed."""


class ScoreError(Refusal):
    """Candidates and references that cannot be scored together."""


class StoreError(RscapError):
    """A run folder that is missing, taken or damaged."""


class WrittenByNewer(StoreError):
    """A file in a format that only a newer rscap knows: it is not damaged, and nothing renames or removes it."""


class ExportError(RscapError):
    """An export that differs from the model it was made from, or cannot be published."""
