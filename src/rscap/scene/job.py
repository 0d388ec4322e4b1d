"""`rscap scene`: scenes in, one ledger, final files out; a failed scene is reported, the others are captioned."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pyproj
import rasterio
import shapely
from filelock import FileLock, Timeout

from rscap import provenance
from rscap.errors import SceneError, StoreError
from rscap.progress import Progress, Say, no_progress
from rscap.scene.aoi import Area
from rscap.scene.features import features
from rscap.scene.identity import digest_of
from rscap.scene.opening import gdal_options, is_remote, opened
from rscap.scene.request import USUAL_GSD_M, SceneRequest
from rscap.scene.sources import scenes_of
from rscap.scene.stac import write_items
from rscap.scene.windows import Grid
from rscap.scene.work import Ask, asking, caption_scene_into
from rscap.scene.writing import caption_files, write_skipped
from rscap.stopping import stopping
from rscap.store import write_json
from rscap.store.archive import CaptionPlace, EndRow, Ledger, SkippedRow, skipped_lines

Engine = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The model that is asked, before it is loaded."""

    name: str
    """As records name it: name and digest."""
    described: Mapping[str, Any]
    """Whatever decides over its captions."""
    prefix: str | None
    batch_size: int
    load: Callable[[], Any]
    """Gives a `Captioner`, or anything that `rscap.scene.work.asking` takes."""

    @classmethod
    def of(cls, captioner: Any) -> Asked:
        """A captioner that is loaded already."""
        settings = getattr(captioner, "settings", None)
        described: dict[str, Any] = {
            "name": str(getattr(captioner, "name", type(captioner).__name__)),
            "prefix": getattr(captioner, "prefix", None),
            "generate": None if settings is None else _without_batch(settings.model_dump(mode="json")),
        }
        return cls(
            name=cls.named(described),
            described=described,
            prefix=described["prefix"],
            batch_size=windows_together(getattr(settings, "batch_size", "auto")),
            load=lambda: captioner,
        )

    @staticmethod
    def named(described: Mapping[str, Any]) -> str:
        """The name of a model with the first digits of a digest over all that decides over its captions."""
        content = json.dumps(described, sort_keys=True, default=str)
        return f"{described['name']}@{hashlib.sha256(content.encode()).hexdigest()[:12]}"


WINDOWS_TOGETHER = 64
"""Windows that are read, asked and noted together, where the decode settings leave the size of a batch open."""


def windows_together(batch_size: int | Literal["auto"]) -> int:
    """How many windows are read, asked and noted together."""
    return WINDOWS_TOGETHER if batch_size == "auto" else batch_size


def _without_batch(generate: Mapping[str, Any]) -> dict[str, Any]:
    """Decode settings without the size of a batch, which changes no caption."""
    return {name: value for name, value in generate.items() if name != "batch_size"}


@dataclass(slots=True)
class SceneResult:
    """What became of a call."""

    out: Path
    files: tuple[Path, ...] = ()
    captioned: int = 0
    skipped: int = 0
    merged: int = 0
    ends: dict[str, EndRow] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> dict[str, str]:
        """Scenes that were not captioned whole, with the reason."""
        return {name: end.reason for name, end in self.ends.items() if end.state != "done"}


def caption_scenes(
    scenes: str | PathLike[str] | Iterable[str | PathLike[str]],
    asked: Asked,
    out: Path,
    request: SceneRequest,
    *,
    engine: Engine = "local",
    workers: int | None = None,
    partition: int | None = None,
    retry: bool = False,
    say: Say,
    progress: Progress = no_progress,
) -> SceneResult:
    """Caption scenes, going on where an earlier call with the same request and place was cut off.

    Args:
        scenes: what `rscap.scene.sources.scenes_of` takes.
        asked: the model.
        out: the file or folder of the result.
        request: how scenes are read and cut.
        engine: `local`, or `ray`: workers of a cluster, or of this machine.
        workers: with `ray`, how many; by default one for each GPU, else one for each core.
        partition: features in each file of GeoParquet, which is a folder of files then; by default one file.
        retry: try scenes again that failed or were damaged in an earlier call.
        say: receives messages.
        progress: receives how many windows are done, and how many there are.

    Raises:
        SceneError: no scene is named, or options contradict each other.
        StoreError: the place is taken, in use, or holds what was asked otherwise; no room is left.
        Interrupted: SIGTERM or Ctrl-C; the same call goes on.
    """
    names = scenes_of(scenes)
    place = CaptionPlace(out)
    place.check_free()
    area = Area.of(request.aoi) if request.aoi else None
    place.state.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        with (
            FileLock(place.state / ".lock", timeout=0),
            stopping(),
            Ledger(place.ledger, _heading(asked, request, area)) as ledger,
        ):
            result = SceneResult(out, place.files)
            todo, tally = _begun(ledger, names, request, result, retry=retry, say=say, progress=progress)

            def finished(end: EndRow) -> None:
                result.ends[end.scene] = end
                tell(ledger, end, request, result, say)

            if engine == "ray":
                from rscap.scene.ray_engine import caption_on_ray

                options = {"area": area, "batch_size": asked.batch_size, "workers": workers, "say": say}
                caption_on_ray(
                    ledger,
                    todo,
                    asked.load,
                    request,
                    each=tally.add,
                    finished=finished,
                    **options,  # type: ignore[arg-type]
                )
            else:
                _captioned(ledger, todo, asked, request, area, each=tally.add, finished=finished)
            _finish(place, ledger, names, asked, request, result, partition)
            seconds = time.monotonic() - started
            write_json(place.provenance, _provenance(ledger, names, asked, request, result, seconds))
            return result
    except Timeout:
        raise StoreError(
            f"{out} is being written by another process", hint="wait for it, or choose another --out"
        ) from None


def _heading(asked: Asked, request: SceneRequest, area: Area | None) -> dict[str, Any]:
    heading = request.asked(asked.described)
    if area is not None:
        heading["aoi"] = hashlib.sha256(area.geometry.wkb).hexdigest()
    return heading


def _begun(
    ledger: Ledger,
    names: Sequence[str],
    request: SceneRequest,
    result: SceneResult,
    *,
    retry: bool,
    say: Say,
    progress: Progress,
) -> tuple[list[str], _Tally]:
    """The scenes that are still to be captioned, and the tally of windows; what ended before is reported again."""
    for name in names:
        if ledger.end(name) is not None and has_changed(ledger, name):
            say(f"note: {name}: the file was changed since it was captioned, and is captioned again")
            ledger.forget(name)
        elif retry and (end := ledger.end(name)) is not None and end.state in ("failed", "damaged"):
            ledger.forget(name)
    tally = _Tally(ledger, names, request, progress)
    todo = []
    for name in names:
        if (end := ledger.end(name)) is None:
            todo.append(name)
            continue
        tally.add(ledger.done(name))
        result.ends[name] = end
        tell(ledger, end, request, result, say)
    return todo, tally


def _captioned(
    ledger: Ledger,
    names: Sequence[str],
    asked: Asked,
    request: SceneRequest,
    area: Area | None,
    *,
    each: Callable[[int], None],
    finished: Callable[[EndRow], None],
) -> None:
    """Caption scenes one after the other, in this process."""
    loaded: list[Ask] = []

    def ask() -> Ask:
        if not loaded:
            loaded.append(asking(asked.load()))
        return loaded[0]

    for name in names:
        finished(caption_scene_into(ledger, name, request, ask, area=area, batch_size=asked.batch_size, each=each))


def tell(ledger: Ledger, end: EndRow, request: SceneRequest, result: SceneResult, say: Say) -> None:
    """Say what is to be said of a scene that ended."""
    facts = ledger.scene(end.scene)
    notes = [f"{end.scene}: {note}" for note in facts.notes] if facts and end.state != "failed" else []
    if facts and facts.gsd and end.state in ("done", "damaged"):
        low, high = USUAL_GSD_M
        if not (low * 0.99 <= min(facts.gsd) and max(facts.gsd) <= high * 1.01):
            notes.append(
                f"{end.scene}: a pixel covers {_metres(max(facts.gsd))} m, and models learn from {low:g} to "
                f"{high:g} m: captions may be wrong; --gsd resamples"
            )
    for note in notes:
        say(f"note: {note}")
    result.notes += notes
    if end.state != "done":
        reason = end.reason.removeprefix(f"{end.scene}: ")
        say(f"{'note' if end.state == 'empty' else 'error'}: {end.scene}: {reason}")


def _metres(length: float) -> str:
    return f"{length:,.0f}" if length >= 100 else f"{length:.3g}"


def has_changed(ledger: Ledger, name: str) -> bool:
    """Whether a local file is another than the one that the ledger knows; one that is gone is not."""
    facts = ledger.scene(name)
    return facts is not None and (found := digest_of(name)) is not None and found != facts.digest


class _Tally:
    """Windows done, of all there are, which are counted when the first is done."""

    def __init__(self, ledger: Ledger, names: Sequence[str], request: SceneRequest, progress: Progress) -> None:
        self._progress, self._done, self._request = progress, 0, request
        self._known = sum(ledger.done(name) for name in names if ledger.end(name))
        # A remote scene counts as it is opened.
        self._uncounted = [name for name in names if not ledger.end(name) and not is_remote(name)]

    def add(self, count: int) -> None:
        """So many more windows are done."""
        self._done += count
        self._progress(self._done, max(self._total, self._done))

    @cached_property
    def _total(self) -> int:
        return self._known + sum(windows_of(name, self._request) for name in self._uncounted)


def windows_of(name: str, request: SceneRequest) -> int:
    """How many windows a scene has; 0 where it cannot be opened, which is reported when its turn comes."""
    try:
        with opened(name, crs=request.crs, gsd=request.gsd) as raster:
            return len(Grid.of(raster.width, raster.height, window=request.window, stride=request.step))
    except SceneError:
        return 0


def _finish(
    place: CaptionPlace,
    ledger: Ledger,
    names: Sequence[str],
    asked: Asked,
    request: SceneRequest,
    result: SceneResult,
    partition: int | None,
) -> None:
    """Write the final files from the ledger, by scene, row and column."""
    used = [name for name in names if result.ends[name].state in ("done", "damaged")]
    facts = [ledger.scene(name) for name in used]
    with caption_files(place, [one for one in facts if one is not None], partition) as files:
        for name in used:
            overlaps = request.step < request.window
            found = features(
                ledger,
                name,
                run=asked.name,
                prefix=asked.prefix,
                low_confidence=request.low_confidence,
                overlaps=overlaps,
            )
            for feature in found:
                result.captioned += 1 + len(feature.merged)
                result.merged += len(feature.merged)
                for file in files:
                    file.add(feature)

    def skipped() -> Iterable[SkippedRow]:
        for name in names:
            if ledger.scene(name) is not None and result.ends[name].state != "failed":
                for line in ledger.windows(name):
                    if isinstance(line, SkippedRow):
                        result.skipped += 1
                        yield line

    write_skipped(place.skipped, skipped_lines(skipped()))
    if place.items is not None:
        write_items(place, ledger, used, run=asked.name)


_PRIVATE = re.compile("AUTH|BEARER|USERPWD|HEADER|COOKIE|PROXY|KEY|TOKEN|SECRET|PASS|SIGN|CREDENTIAL")


def _gdal_environment() -> dict[str, str]:
    """What the environment tells GDAL; that something secret is set, but not what."""
    found = {name: value for name, value in os.environ.items() if name.startswith(("GDAL_", "CPL_", "VSI_"))}
    return {name: "***" if _PRIVATE.search(name) else value for name, value in found.items()}


def _provenance(
    ledger: Ledger,
    names: Sequence[str],
    asked: Asked,
    request: SceneRequest,
    result: SceneResult,
    seconds: float,
) -> dict[str, Any]:
    scenes = {}
    for name in names:
        facts, end = ledger.scene(name), result.ends[name]
        known = {} if facts is None else facts.model_dump(exclude={"kind", "scene"})
        ended = end.model_dump(exclude={"kind", "scene"}, exclude_none=True)
        scenes[name] = {**ended, **known}
    return provenance.collect(
        asked=request.asked(asked.described),
        run=asked.name,
        gdal={
            "version": rasterio.__gdal_version__,
            "options": gdal_options("") | _gdal_environment(),
            "rasterio": rasterio.__version__,
            "proj": pyproj.proj_version_str,
            "geos": shapely.geos_version_string,
        },
        captioned=result.captioned,
        skipped=result.skipped,
        merged=result.merged,
        failed=result.complaints,
        scenes=scenes,
        seconds=round(seconds, 3),
    )
