"""What is asked of `rscap scene`, with everything filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rscap.errors import SceneError
from rscap.scene.stretch import StretchRule

USUAL_GSD_M = (0.2, 5.0)
"""Metres a pixel of the images that published captions describe; outside of it a model is asked what it never saw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRequest:
    """How scenes are read, cut and captioned; what decides over captions and records, and nothing else."""

    window: int = 224
    """Pixels on a side of what the model sees."""
    stride: int | None = None
    """Pixels from one window to the next; by default the window, so that windows do not overlap."""
    gsd: float | None = None
    """Metres that one pixel covers in what the model sees; by default the scene's own."""
    bands: tuple[str, ...] = ()
    """Numbers from 1, or descriptions: red, green, blue, or one for grey."""
    stretch: StretchRule = field(default_factory=StretchRule)
    min_valid: float = 0.5
    """A window with a smaller share of valid pixels is skipped."""
    aoi: str | None = None
    """A GeoJSON file, or `WEST,SOUTH,EAST,NORTH`."""
    crs: str | None = None
    """The CRS of scenes that name none."""
    low_confidence: float = -1.0
    """A caption whose mean log-probability per token is below this is flagged."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_valid <= 1:
            raise SceneError(f"--min-valid {self.min_valid:g} is a share of pixels", hint="from 0 to 1")
        if self.window < 1 or self.step < 1 or self.step > self.window:
            raise SceneError(
                f"a window of {self.window} and a stride of {self.step} pixels would leave ground uncovered",
                hint="both are at least 1, and the stride is at most the window",
            )

    @property
    def step(self) -> int:
        """The stride."""
        return self.window if self.stride is None else self.stride

    def asked(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """What the ledger holds: two calls with the same may share it."""
        return {"model": dict(model), **asdict(self), "stride": self.step}
