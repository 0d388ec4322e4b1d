"""`rscap scene` captions rasters window by window; `rscap search` finds captions by words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rscap.scene import SceneResult, StretchRule


def scene(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE",
            help="Rasters: files, folders, patterns, lists (.txt), https:// or s3:// addresses, /vsi… paths, or "
            "sub-datasets by their names.",
        ),
    ],
    model: Annotated[str, typer.Option(help="A run folder or a base model; `nano` ships with rscap.")],
    out: Annotated[
        Path,
        typer.Option(
            help="A file named .geojson, .geojsonl, .parquet or .csv, or a folder for all of them with STAC Items."
        ),
    ],
    window: Annotated[int, typer.Option(min=1, help="Pixels on a side of what the model sees.")] = 224,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Pixels from one window to the next; by default the window.")
    ] = None,
    gsd: Annotated[
        float | None, typer.Option(metavar="METRES", help="Resample so that one pixel covers this much ground.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Red, green and blue as numbers or descriptions (3,2,1), or one band for grey.")
    ] = None,
    stretch: Annotated[
        str,
        typer.Option(help="How values deeper than 8 bits become 8 bits: percentiles LO,HI of the scene, or minmax."),
    ] = "2,98",
    range_: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", metavar="LO HI", help="The values that become black and white, in place of --stretch."),
    ] = None,
    joint: Annotated[bool, typer.Option("--joint", help="One stretch for all bands, not one for each.")] = False,
    min_valid: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Skip windows with a smaller share of valid pixels.")
    ] = 0.5,
    aoi: Annotated[
        str | None, typer.Option(help="Only windows that touch this area: a GeoJSON file, or WEST,SOUTH,EAST,NORTH.")
    ] = None,
    crs: Annotated[str | None, typer.Option(help="The CRS of scenes that name none, such as EPSG:32633.")] = None,
    low_confidence: Annotated[
        float, typer.Option(help="Flag captions whose mean log-probability per token is below this.")
    ] = -1.0,
    prefix: Annotated[str | None, typer.Option(help="The words before the caption; by default as in training.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of products; by default as the run was trained, and bfloat16 for a base model."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="GENERATE.B=C", help="Decode differently: generate.beams=3; may be repeated."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="Caption in this process, or on the workers of a Ray cluster (RAY_ADDRESS, or this machine)."
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Workers of --engine ray; by default one for each GPU, else one for each core."),
    ] = None,
    partition: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Write GeoParquet as a folder of files with N captions each."),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try scenes again that failed or were damaged in an earlier call.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count windows and estimate the time; write nothing.")
    ] = False,
) -> None:
    """Caption a raster window by window, with the place of each caption; the same command resumes where it was cut off.

    Exit code 1: a scene failed, has no valid pixel, or has windows that cannot be read. The others are captioned.
    """
    from rscap.cli.screen import progress, say
    from rscap.scene import SceneRequest, caption_scenes
    from rscap.scene.model import asked_model
    from rscap.scene.trial import dry_run as try_out

    request = SceneRequest(
        window=window,
        stride=stride,
        gsd=gsd,
        bands=tuple(name.strip() for name in bands.split(",")) if bands else (),
        stretch=_rule(stretch, range_, joint),
        min_valid=min_valid,
        aoi=aoi,
        crs=crs,
        low_confidence=low_confidence,
    )
    asked = asked_model(model, prefix=prefix, dtype=dtype, changes=set_ or ())
    if dry_run:
        if try_out(scenes, asked, request, say=say):
            raise typer.Exit(1)
        return
    with progress("windows") as bar:
        result = caption_scenes(
            scenes,
            asked,
            out,
            request,
            engine=engine,
            workers=workers,
            partition=partition,
            retry=retry,
            say=say,
            progress=bar,
        )
    _tell(result)
    if result.complaints:
        raise typer.Exit(1)


def _rule(stretch: str, limits: tuple[float, float] | None, joint: bool) -> StretchRule:
    from rscap.errors import SceneError
    from rscap.scene import StretchRule

    if limits is not None:
        return StretchRule(kind="range", low=limits[0], high=limits[1], joint=joint)
    if stretch == "minmax":
        return StretchRule(kind="minmax", joint=joint)
    try:
        low, high = map(float, stretch.split(","))
    except ValueError:
        raise SceneError(f"--stretch {stretch}: neither minmax nor two percentiles", hint="such as 2,98") from None
    return StretchRule(low=low, high=high, joint=joint)


def _tell(result: SceneResult) -> None:
    from rscap.cli.screen import say
    from rscap.store.archive import CaptionPlace

    merged = f", {result.merged:,} of them merged with a neighbour" if result.merged else ""
    reasons = f" (reasons: {CaptionPlace(result.out).skipped})" if result.skipped else ""
    say(f"{result.captioned:,} windows captioned{merged}, {result.skipped:,} skipped{reasons}")
    if failed := [name for name, end in result.ends.items() if end.state == "failed"]:
        say(f"{len(failed):,} of {len(result.ends):,} scenes failed; --retry tries them again")
    for path in result.files:
        typer.echo(path)


def search(
    out: Annotated[Path, typer.Argument(help="What `rscap scene` wrote: a file, or a folder of results.")],
    words: Annotated[str, typer.Argument(help='Words that a caption must contain, such as "solar panels".')],
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many.")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Leave out captions with a lower mean log-probability per token.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print GeoJSON features, one a line.")] = False,
) -> None:
    """Find captions by their words, in any order and form: "solar panels" finds "a solar panel"."""
    from json import dumps

    from rscap.cli.screen import say
    from rscap.scene.search import caption_search

    found = 0
    for feature in caption_search(out, words, min_confidence=min_confidence):
        found += 1
        if limit is None or found <= limit:
            typer.echo(dumps(feature.geojson, ensure_ascii=False) if json else feature.line)
    say(f"{found:,} captions" + (f", {limit:,} shown" if limit is not None and found > limit else ""))


def scene_map(
    out: Annotated[Path, typer.Argument(help="What `rscap scene` wrote: a file, or a folder of results.")],
    page: Annotated[Path, typer.Option("--out", help="The page.")] = Path("map.html"),
    pictures: Annotated[
        bool,
        typer.Option(help="Also write the windows as pictures, and overviews; the scenes must be there."),
    ] = True,
) -> None:
    """Write a page with the captions on a map: search, filters, pictures on a click; it needs no network."""
    from rscap.cli.screen import progress, say
    from rscap.scene.map_page import write_map

    with progress("scenes") as bar:
        found = write_map(out, page, pictures=pictures, say=say, progress=bar)
    say(f"{found.windows:,} windows, {found.pictures:,} with a picture")
    typer.echo(found.page)
