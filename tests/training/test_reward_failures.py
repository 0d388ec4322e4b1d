"""A learning rate that is too high for a reward, and images known by heart, in real runs: the doctor names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes import small_recipe
from rscap.doctor import diagnose
from rscap.training.session import train

WHOLE = {"vision_tower": "frozen", "projector": "frozen", "language_model": "trained"}
FAILURES = {"captions-break-off", "captions-alike", "reward-falls"}


@pytest.mark.slow  # each finding from a log: tests/doctor/test_doctor_plants.py
@pytest.mark.parametrize(("rate", "named"), [(1e-5, set()), (3e-3, FAILURES)])
def test_a_rate_that_is_too_high_is_named_by_what_it_does(rate: float, named: set[str], tmp_path: Path) -> None:
    """The pretrained nano on scenes like those it knows, all weights of its language model: at 1e-5 nothing is found;
    far above, captions break off and become alike, and the reward falls."""
    made = small_recipe(
        {
            "data": {"train_limit": 32},
            "towers": WHOLE,
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


@pytest.mark.slow  # the finding from a log: tests/doctor/test_doctor_plants.py
def test_images_that_are_known_by_heart_are_named(tmp_path: Path) -> None:
    """Eight images learned by likelihood until their captions are known, then a reward on the same eight: the run says
    it, and the doctor names it. A reward on these images alone, without the likelihood before, is not named."""
    shared = {"data": {"train_limit": 8}, "towers": WHOLE, "adapter": None, "generate": {"max_new_tokens": 24}}
    steps = {"max_steps": 60, "epochs": 60, "micro_batch": 8, "learning_rate": 1e-3}
    learned = train(small_recipe(shared, {"train": steps}), tmp_path / "learned", say=lambda _: None)

    def rewarded(name: str, start: str | None) -> tuple[set[str], str]:
        steps = {"max_steps": 2, "micro_batch": 8, "learning_rate": 1e-6}
        watched = {"evaluate_every": 2, "evaluate_images": 32}
        made = small_recipe(
            shared, {"model": {"start": start}, "objective": {"samples": 3}, "train": {**steps, **watched}}
        )
        said = list[str]()
        run = train(made, tmp_path / name, say=said.append)
        return {finding.code for finding in diagnose(run.path, live=False).findings}, "\n".join(said)

    codes, said = rewarded("by-heart", str(learned.path))
    assert "images-by-heart" in codes
    assert "known by heart" in said
    codes, said = rewarded("new", None)
    assert "images-by-heart" not in codes
    assert "known by heart" not in said
