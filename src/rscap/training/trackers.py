"""Experiment trackers by name: TensorBoard, Weights & Biases and all others that accelerate supports.

A tracker that fails is reported once, and the run continues without it. The run's own log is always written.
"""

from __future__ import annotations

import hashlib
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

from rscap.errors import RecipeError
from rscap.progress import Say, to_stderr
from rscap.recipe import Recipe, TrackSection
from rscap.records import Example, Prediction
from rscap.store import RunFolder
from rscap.tables import flatten


@dataclass(slots=True)
class Trackers:
    """The trackers of a run; none if the recipe names none."""

    running: list[GeneralTracker] = field(default_factory=list)
    images: int = 0
    say: Say = to_stderr

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, *, say: Say) -> Trackers:
        """Start the trackers that a recipe names; they write below `folder`/trackers.

        Raises:
            RecipeError: a tracker is unknown, or its package is not installed.
        """
        section = recipe.track
        check_trackers(section)
        running = []
        for name in section.trackers:
            with _Guest(name, say):
                tracker = _start(name, section, folder, say)
                tracker.store_init_configuration(_plain(recipe))
                running.append(tracker)
        return cls(running, section.captions, say)

    def log(self, groups: Mapping[str, Mapping[str, Any]], *, step: int) -> None:
        """Log the numbers of one step as `<group>/<name>`."""
        numbers = {
            f"{group}/{name}": value
            for group, values in groups.items()
            for name, value in values.items()
            if isinstance(value, int | float) and name != "step"
        }
        self._each(lambda tracker: tracker.log(numbers, step=step))

    def captions(self, step: int, examples: Sequence[Example], predictions: Sequence[Prediction]) -> None:
        """Log images with their generated captions and their references."""
        captions = {prediction.example_id: prediction.caption for prediction in predictions}
        shown = [example for example in examples if example.id in captions][: self.images]
        if self.running and shown:
            self._each(lambda tracker: _SHOW.get(tracker.name, _nothing)(tracker, step, shown, captions))

    def close(self) -> None:
        """Let every tracker finish writing."""
        self._each(lambda tracker: tracker.finish())

    def _each(self, act: Callable[[GeneralTracker], None]) -> None:
        for tracker in list(self.running):
            with _Guest(tracker.name, self.say) as guest:
                act(tracker)
            if guest.failed:
                self.running.remove(tracker)


def check_trackers(section: TrackSection) -> None:
    """Check that the trackers can run, before anything is loaded.

    Raises:
        RecipeError: a tracker is unknown, or its package is not installed.
    """
    for name in section.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
            raise RecipeError(f"track.trackers: unknown tracker {name!r}", hint=f"known: {known}")
        if name not in {str(found) for found in get_available_trackers()}:
            raise RecipeError(f"track.trackers: {name} is not installed", hint=f"pip install {name}")


class _Guest:
    """Reports the error of a tracker, and keeps it from ending the run."""

    def __init__(self, name: str, say: Say) -> None:
        self.name, self.say, self.failed = name, say, False

    def __enter__(self) -> _Guest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        if not isinstance(error, Exception):
            return False
        self.failed = True
        self.say(f"the tracker {self.name} failed and is not used any more: {type(error).__name__}: {error}")
        return True


def _start(name: str, section: TrackSection, folder: Path, say: Say) -> GeneralTracker:
    place = RunFolder(folder).trackers
    place.mkdir(exist_ok=True)
    if name == "tensorboard":
        return _made(LOGGER_TYPE_TO_CLASS[name](run_name=name, logging_dir=place))
    if name == "wandb":
        from wandb import Settings

        online = _wandb_key()
        if not online:
            say(f"not logged in, so wandb runs offline; upload later with `wandb sync {place}/wandb/offline-run-*`")
        return _made(
            LOGGER_TYPE_TO_CLASS[name](
                run_name=section.project,
                name=folder.resolve().name,
                id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12],  # a resumed run continues its own
                resume="allow",
                dir=str(place),
                mode=None if online else "offline",
                settings=Settings(console="off", silent=True, disable_code=True, disable_git=True),
            )
        )
    kind = LOGGER_TYPE_TO_CLASS[name]
    if kind.requires_logging_directory:
        return _made(kind(run_name=section.project, logging_dir=place))
    return _made(kind(section.project))


def _made(tracker: GeneralTracker) -> GeneralTracker:
    if hasattr(tracker, "start"):
        tracker.start()
    return tracker


def _wandb_key() -> bool:
    """Whether the user has logged in; the key itself is not read."""
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"] == "online"
    if os.environ.get("WANDB_API_KEY"):
        return True
    from wandb import Settings

    host = urlsplit(str(Settings().base_url)).hostname  # wandb's default, or WANDB_BASE_URL
    try:
        return host in netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def _plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a flat table of numbers and strings, which every tracker can show."""
    flat = flatten(recipe.model_dump(mode="json", exclude_none=True))
    return {path: value if isinstance(value, int | float | str | bool) else str(value) for path, value in flat.items()}


def _pixels(example: Example) -> np.ndarray:
    return np.asarray(example.image.load())


def _to_wandb(tracker: GeneralTracker, step: int, examples: Sequence[Example], captions: Mapping[str, str]) -> None:
    import wandb

    rows = [[one.id, wandb.Image(_pixels(one)), captions[one.id], " | ".join(one.captions)] for one in examples]
    table = wandb.Table(columns=["id", "image", "caption", "references"], data=rows)
    tracker.tracker.log({"val/captions": table}, step=step)


def _to_tensorboard(
    tracker: GeneralTracker, step: int, examples: Sequence[Example], captions: Mapping[str, str]
) -> None:
    for number, one in enumerate(examples):
        tracker.writer.add_image(f"val/{number:02}", _pixels(one), step, dataformats="HWC")
        references = "\n".join(f"- {caption}" for caption in one.captions)
        tracker.writer.add_text(f"val/{number:02}", f"**{captions[one.id]}**\n\n{one.id}\n\n{references}", step)


def _nothing(*_: Any) -> None:
    """For trackers that only take numbers."""


_SHOW = {"wandb": _to_wandb, "tensorboard": _to_tensorboard}
