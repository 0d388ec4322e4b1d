"""Captioning one scene: windows read, asked in batches, and written to the ledger as they are done."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol, cast

from rscap.errors import SceneError
from rscap.records import Answer, Picture, Prediction, Rejected
from rscap.scene.aoi import Area
from rscap.scene.opening import is_remote, opened
from rscap.scene.reading import Chip, Scene, numbers
from rscap.scene.request import SceneRequest
from rscap.scene.traffic import Downloads, Needed, Traffic, counted
from rscap.scene.windows import Tile
from rscap.store.archive import EndRow, Ledger, SceneRow, SkippedRow, WindowRow

CONFIDENCE_DECIMALS = 2
"""Further digits of a mean log-probability depend on which windows were asked together."""
SHARE_DECIMALS = 6


class Captions(Protocol):
    """Whatever captions pictures, in their order: a `Captioner`, or anything with its `answers` or `predictions`."""

    def predictions(self, pictures: Sequence[Picture]) -> Iterable[Prediction | Rejected]:
        """One prediction a picture; a `Rejected` for one that cannot be captioned."""


Ask = Callable[[Sequence[Picture]], Iterable[Any]]


def asking(captions: Any) -> Ask:
    """How a captioner is asked: with confidences, where it has them."""
    found: Ask = captions.answers if hasattr(captions, "answers") else captions.predictions
    return found


def caption_scene_into(
    ledger: Ledger,
    name: str,
    request: SceneRequest,
    ask: Callable[[], Ask],
    *,
    area: Area | None,
    batch_size: int,
    each: Callable[[int], None],
) -> EndRow:
    """Caption the windows of one scene that are not in the ledger yet, and note how the scene ended.

    Args:
        ledger: where windows are noted, a batch at a time.
        name: the scene, as the caller named it.
        request: how it is cut and read.
        ask: gives what captions; called only if there is something to caption.
        area: the part of the Earth that is wanted.
        batch_size: windows that are asked and noted together.
        each: called with the number of windows that were noted just now.

    Raises:
        StoreError: no room is left for the ledger.
    """
    try:
        with counted(name) as traffic, opened(name, crs=request.crs, gsd=request.gsd) as raster:
            end = _windows(ledger, Scene.of(name, raster, request), request, ask, area, batch_size, each, traffic)
    except SceneError as error:
        end = EndRow(scene=name, state="failed", reason=error.in_one_line)
    ledger.add([end])
    return end


def _windows(
    ledger: Ledger,
    scene: Scene,
    request: SceneRequest,
    ask: Callable[[], Ask],
    area: Area | None,
    batch_size: int,
    each: Callable[[int], None],
    traffic: Traffic,
) -> EndRow:
    begin(ledger, scene.row)
    needed = Needed(scene.raster, scene.bands.indexes) if is_remote(scene.name) else None
    each(ledger.done(scene.name))
    missing = (tile for tile in scene.tiles(area) if not ledger.has(scene.name, tile.row, tile.column))

    def read(tile: Tile) -> Chip | SkippedRow:
        if needed is not None:  # here, since no other thread may ask the dataset meanwhile
            needed.add(tile.window)
        return scene.read(tile, request.min_valid)

    with closing(_read_ahead(batches(map(read, missing), batch_size), is_remote(scene.name), ask)) as coming:
        for chips, skipped in coming:
            found = rows_of(scene.name, chips, list(ask()([chip.picture for chip in chips]))) if chips else []
            scene.identity.check_unchanged()
            ledger.add([*found, *skipped])
            each(len(chips) + len(skipped))
    end = ended(ledger, scene.name)
    return end if needed is None else with_bytes(end, Downloads(traffic.read, needed.blocks))


def with_bytes(end: EndRow, downloads: Downloads) -> EndRow:
    """The end of a remote scene, with the bytes that were read of it and those that its windows need."""
    return end.model_copy(update={"bytes_read": downloads.read, "bytes_needed": downloads.needed})


Reading = Generator[tuple[list[Chip], list[SkippedRow]], None, None]
"""Up to a batch of chips at a time, with what was skipped between them."""


def _read_ahead(coming: Reading, remote: bool, ask: Callable[[], Ask]) -> Reading:
    """The same batches; a thread reads the next while the last is captioned, where something else than this processor
    is waited for: a server, or a GPU that captions.
    """
    first = next(coming, None)
    if first is None:
        return
    yield first
    if remote or (first[0] and _on_gpu(ask())):
        from rscap.captioner.loader import ahead

        coming = cast(Reading, ahead(coming))
    with closing(coming):  # so that the thread ends before the file is closed
        yield from coming


def _on_gpu(ask: Ask) -> bool:
    packed = getattr(getattr(ask, "__self__", None), "packed", None)
    return packed is not None and packed.device.type != "cpu"


def begin(ledger: Ledger, row: SceneRow) -> None:
    """Note a scene, unless it was begun as it is now and has not failed."""
    known, end = ledger.scene(row.scene), ledger.end(row.scene)
    if known is None or known.digest != row.digest or (end is not None and end.state == "failed"):
        ledger.add([row])


def batches(read: Iterator[Chip | SkippedRow], size: int) -> Reading:
    """Up to `size` chips at a time, with what was skipped between them."""
    chips: list[Chip] = []
    skipped: list[SkippedRow] = []
    for one in read:
        if isinstance(one, SkippedRow):
            skipped.append(one)
        else:
            chips.append(one)
        if len(chips) == size or len(skipped) >= 64 * size:
            yield chips, skipped
            chips, skipped = [], []
    if chips or skipped:
        yield chips, skipped


def rows_of(scene: str, chips: Sequence[Chip], answers: Sequence[Any]) -> list[WindowRow | SkippedRow]:
    """The lines of the ledger of chips that were asked."""
    return [_row(scene, chip, answer) for chip, answer in zip(chips, answers, strict=True)]


def _row(scene: str, chip: Chip, answer: Any) -> WindowRow | SkippedRow:
    tile, share = chip.tile, round(chip.valid_share, SHARE_DECIMALS)
    place: dict[str, Any] = {
        "scene": scene,
        "row": tile.row,
        "column": tile.column,
        "window": numbers(tile.window),
        "cell": numbers(tile.cell),
    }
    if isinstance(answer, Rejected):
        return SkippedRow(**place, valid_share=share, reason=answer.reason)
    prediction: Prediction = answer.prediction if isinstance(answer, Answer) else answer
    confidence = answer.confidence if isinstance(answer, Answer) and answer.tokens else None
    return WindowRow(
        **place,
        valid_share=share,
        caption=prediction.caption,
        confidence=None if confidence is None else round(confidence, CONFIDENCE_DECIMALS),
        tokens=prediction.tokens,
        stopped=prediction.stopped,
        near_ties=prediction.near_ties,
        digest=chip.digest,
    )


def ended(ledger: Ledger, scene: str) -> EndRow:
    """How a scene ended all of whose windows are in the ledger."""
    facts = ledger.scene(scene)
    assert facts is not None
    count, first = ledger.unreadable(scene)
    if count and not ledger.captioned(scene):
        text = f"none of its windows can be read: {first} (mend the file, then --retry)"
        return EndRow(scene=scene, state="failed", reason=text)
    if count:
        text = f"{count:,} window{'s' if count > 1 else ''} cannot be read: {first}{_MEND}"
        return EndRow(scene=scene, state="damaged", reason=text)
    if not facts.stretch:
        what = "" if facts.nodata is None else f": all are nodata ({facts.nodata})"
        return EndRow(scene=scene, state="empty", reason=f"no pixel is valid{what}")
    return EndRow(scene=scene, state="done")


_MEND = " (mend the file, and caption it again with --retry; its other windows are captioned)"
