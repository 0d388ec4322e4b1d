"""A learning rate that is too high for a reward, planted in a real run: the doctor names what it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes import small_recipe
from rscap.doctor import diagnose
from rscap.training.session import train

FAILURES = {"captions-break-off", "captions-alike", "reward-falls"}


@pytest.mark.slow  # each finding from a log: tests/doctor/test_doctor_plants.py
@pytest.mark.parametrize(("rate", "named"), [(1e-5, set()), (3e-3, FAILURES)])
def test_a_rate_that_is_too_high_is_named_by_what_it_does(rate: float, named: set[str], tmp_path: Path) -> None:
    """The pretrained nano on scenes like those it knows, all weights of its language model: at 1e-5 nothing is found;
    far above, captions break off and become alike, and the reward falls."""
    made = small_recipe(
        {
            "data": {"train_limit": 32},
            "towers": {"vision_tower": "frozen", "projector": "frozen", "language_model": "trained"},
            "adapter": None,
            "objective": {"samples": 4},
            "train": {
                "max_steps": 12,
                "micro_batch": 8,
                "learning_rate": rate,
                "warmup_share": 0.0,
                "evaluate_every": 4,
                "evaluate_images": 32,
            },
            "generate": {"max_new_tokens": 24},
        }
    )
    run = train(made, tmp_path / "run", say=lambda _: None)
    found = {finding.code for finding in diagnose(run.path, live=False).findings}
    assert found & FAILURES == named
