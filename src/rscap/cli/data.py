"""`rscap data …`: look at data sets, find what is wrong with them, convert them, freeze splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rscap.data.audit import Audit
    from rscap.data.inspection import Inspection
    from rscap.data.source import Source

app = typer.Typer(name="data", help="Look at data sets, audit and convert them, freeze splits.", no_args_is_help=True)

_WHOLE_TABLE = 120
"""Columns of a screen that take the table of captions in one piece."""

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="sample, a file or folder (captions.csv, parquet, Karpathy or COCO JSON, PaliGemma JSON Lines, an image "
        "folder with metadata.jsonl), or a data set on the Hub.",
    ),
]
SplitsOption = Annotated[str, typer.Option("--splits", help="Split scheme, or a frozen FILE.json.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write everything as JSON here.", show_default=False)]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write a page here.", show_default=False)]
ImagesOption = Annotated[bool, typer.Option("--images/--no-images", help="Decode the images, where there are any.")]


@app.command()
def inspect(
    src: SourceArgument,
    splits: SplitsOption = "official",
    json: JsonOption = False,
    out: OutOption = None,
    html: HtmlOption = None,
    images: ImagesOption = True,
) -> None:
    """Show what is in a data set: captions, words, repetitions, image sizes and brightness, per source and split."""
    from dataclasses import asdict

    from rscap.cli.screen import print_json
    from rscap.data.inspection import inspect as look
    from rscap.reports.dataset import inspect_page
    from rscap.store import check_outputs, write_json, write_text

    check_outputs(out, html, inputs=[src])
    source = _open(src, splits)
    with _progress("decoding", source, shown=images) as advance:
        found = look(source, with_images=images, progress=advance)
    rows = {"rejected_rows": [*map(asdict, source.rejected)], "noted_rows": [*map(asdict, source.notes)]}
    if json:
        print_json({**asdict(found), **rows})
    else:
        _print_inspection(source, found)
    if out is not None:
        write_json(out, {**asdict(found), **rows})
    if html is not None:
        write_text(html, inspect_page(source, found))


@app.command()
def audit(
    src: SourceArgument,
    splits: SplitsOption = "official",
    json: JsonOption = False,
    out: OutOption = None,
    html: HtmlOption = None,
    images: ImagesOption = True,
    fail_on: Annotated[
        str,
        typer.Option(
            "--fail-on", help="Exit with code 1 on findings of this severity or worse: error, warning, never."
        ),
    ] = "error",
) -> None:
    """Find duplicates, leaks between splits, noise and disagreement; exit code 1 where there are errors, else 0."""
    from dataclasses import asdict

    from rscap.cli.screen import print_json
    from rscap.data.audit import audit as look
    from rscap.errors import DataError
    from rscap.quality import disagreements
    from rscap.reports.dataset import audit_page
    from rscap.store import check_outputs, write_json, write_text

    failing = {"error": {"error"}, "warning": {"error", "warning"}, "never": set()}.get(fail_on)
    if failing is None:
        raise DataError(f"--fail-on {fail_on!r}", hint="error, warning or never")
    check_outputs(out, html, inputs=[src])
    source = _open(src, splits)
    with _progress("decoding", source, shown=images) as advance:
        found = look(source, with_images=images, more=disagreements(source), progress=advance)
    if json:
        print_json({**asdict(found), "counts": found.counts})
    else:
        _print_audit(found)
        _print_notes(source, rejected=False)
    if out is not None:
        write_json(out, {**asdict(found), "counts": found.counts})
    if html is not None:
        write_text(html, audit_page(source, found))
    if found.worst in failing:
        raise typer.Exit(1)


@app.command()
def convert(
    src: SourceArgument,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="A folder that does not exist yet.")],
    to: Annotated[str, typer.Option("--to", help="csv, parquet, karpathy, coco, jsonl or imagefolder.")] = "csv",
    splits: SplitsOption = "official",
) -> None:
    """Write a data set in another format, loss-free: the copy is opened again and compared before it gets its name."""
    from rscap.cli.screen import say
    from rscap.data import MissingImage
    from rscap.data.convert import convert as write

    source = _open(src, splits, max_rejected_share=0.0)
    write(source, dst, to=to)
    _print_notes(source)
    missing = sum(isinstance(example.image, MissingImage) for example in source.examples)
    without = f", {missing:,} of them without their image" if missing else ""
    count = len(source.examples)
    say(f"{count:,} examples written to {dst} as {to}, compared with {source.name}: the same{without}")


@app.command()
def split(
    src: SourceArgument,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    splits: SplitsOption = "official",
    ratio: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIN/VAL/TEST",
            help="Draw a new split in these shares, such as 80/10/10; duplicates stay together, and images of the "
            "source's own test split stay in test.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws another split of the same ratio.")] = 0,
) -> None:
    """Freeze a split as id lists with a digest; `--splits FILE.json` and a recipe's `data.splits` then take it.

    The schemes are official (what the source names), grouped (80/10/10, duplicates together), seed42 and its parts.
    """
    from rscap.annotations import UNSPLIT
    from rscap.cli.screen import say
    from rscap.data.splits import freeze, read_ratio, split_by_ratio
    from rscap.errors import DataError
    from rscap.store import check_outputs

    check_outputs(out, inputs=[src])
    shares = read_ratio(ratio) if ratio else None
    source = _open(src, splits)
    if shares is not None:
        source = split_by_ratio(source, shares, seed=seed)
    elif set(source.splits) == {UNSPLIT}:
        raise DataError(
            f"{source.name} names no splits, so there is nothing to freeze",
            hint="give --ratio 80/10/10, or --splits grouped",
        )
    freeze(source, out)
    _print_notes(source)
    say(f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in source.splits.items()))


def _open(src: str, splits: str, max_rejected_share: float = 1.0) -> Source:
    """Broken images are findings here, not reasons to stop: they are looked at later."""
    from rscap.data import open_source

    return open_source(src, split_scheme=splits, check="none", max_rejected_share=max_rejected_share)


def _progress(title: str, source: Source, *, shown: bool):  # type: ignore[no-untyped-def]
    """A context that yields a function to call after each image, or None."""
    from contextlib import contextmanager

    from rscap.cli.screen import progress
    from rscap.data import MissingImage

    total = sum(not isinstance(example.image, MissingImage) for example in source.examples)

    @contextmanager
    def bar():  # type: ignore[no-untyped-def]
        if not shown or not total:
            yield None
            return
        with progress(title) as update:
            done = iter(range(1, total + 1))
            yield lambda: update(next(done, total), total)

    return bar()


def _print_inspection(source: Source, found: Inspection) -> None:
    from rich.table import Table

    from rscap.cli.screen import print_prose, print_table, screen_columns
    from rscap.reports.dataset.inspection import COLUMNS, cells, unusable

    print_prose(f"{found.name}: {sum(found.splits.values()):,} images, digest {found.digest[:12]}")
    names = COLUMNS[:2]
    for columns in (COLUMNS,) if screen_columns() >= _WHOLE_TABLE else (COLUMNS[:6], (*names, *COLUMNS[6:])):
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            of_names = column in names
            table.add_column(column, justify="left" if of_names else "right", no_wrap=not of_names, overflow="fold")
        for row in found.tables:
            told = dict(zip(COLUMNS, cells(row), strict=True))
            table.add_row(*(told[column] for column in columns))
        print_table(table)
    for name, items in (("words", found.top_words), ("pairs", found.top_bigrams), ("triples", found.top_trigrams)):
        print_prose(f"{name}: " + ", ".join(f"{word} {count:,}" for word, count in items[:8]))
    if found.images is not None:
        sizes = ", ".join(f"{size} ({count:,})" for size, count in found.images.sizes[:5])
        facts = f"images: {sizes}; brightness {found.images.brightness_mean:.1f} of 255{unusable(found.images)}"
        print_prose(facts)
    _print_notes(source)


def _print_audit(found: Audit) -> None:
    from rich.table import Table

    from rscap.cli.screen import print_prose, print_table
    from rscap.data.audit import KINDS

    table = Table(box=None, header_style="bold")
    for column in ("kind", "findings", "errors", "what"):
        table.add_column(column, justify="right" if column in {"findings", "errors"} else "left")
    for kind, count in found.counts.items():
        errors = sum(one.kind == kind and one.severity == "error" for one in found.findings)
        table.add_row(kind, f"{count:,}", f"{errors:,}" if errors else "–", KINDS[kind])
    print_prose(f"{found.name}: {found.examples:,} images, {len(found.findings):,} findings")
    print_table(table)
    if not found.images:
        print_prose("no image was looked at: these are findings about captions alone")
    for name, count in found.leaks.items():
        print_prose(f"{name}: {count:,} images have a duplicate or the very same captions there")


def _print_notes(source: Source, *, rejected: bool = True) -> None:
    """Notes, and rejected rows where no finding tells them, on standard error: the first ten of each."""
    from rscap.cli.screen import say
    from rscap.escape import visible

    for what, lines in (
        ("rejected", [f"{bad.row}: {bad.reason}" for bad in source.rejected] if rejected else []),
        ("note", [f"{note.row}: {note.text}" for note in source.notes]),
    ):
        for line in lines[:10]:
            say(visible(f"{what}: {line}", one_line=True))
        if len(lines) > 10:
            say(f"{what}: … and {len(lines) - 10:,} more")
