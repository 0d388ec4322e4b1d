"""Errors: which of them refuse the input."""

import inspect

from rscap import errors


def test_errors_that_refuse_the_input_are_refusals():
    """A bad recipe, bad data, a missing base, overflow or wrong targets are refusals; a diverged run is not."""
    found = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.Refusal)}
    assert found - {"Refusal"} == {
        "AdapterError",
        "BrokenTargets",
        "DataError",
        "ImageError",
        "ModelError",
        "NotFinite",
        "RecipeError",
        "SceneError",
        "ScoreError",
    }


def test_wrong_targets_are_a_training_error_too():
    """Whoever catches training errors also catches the refusal of wrong targets."""
    assert issubclass(errors.BrokenTargets, errors.TrainingError)
