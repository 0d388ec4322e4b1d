"""`rscap score`: captions in one file against references in another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rscap.records import ScoreSheet
    from rscap.scoring import ForeignMetric, IdfPool, References

_CIDER = "CIDEr"


def score(
    run: Annotated[
        Path | None,
        typer.Argument(help="A run folder or a score sheet that exists already: adds the scores of --foreign to it."),
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(
            help='JSON Lines or CSV with "id" and "caption", a JSON object {id: caption}, or COCO results.',
        ),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="The data set: a file or folder in any format that rscap trains on, `sample`, or the "
            "references that a run keeps.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only the references of this split.")] = None,
    protocol: Annotated[
        Literal["coco", "raw", "sentence", "all"],
        typer.Option(
            help="coco: PTB-tokenised (the published one); raw: strings as they are; sentence: NLTK and rouge_score."
        ),
    ] = "coco",
    duplicates: Annotated[
        Literal["keep", "distinct"],
        typer.Option(help="Whether to keep references that an image has twice, as published."),
    ] = "keep",
    pool: Annotated[
        Path | None, typer.Option(help="Saved IDF pool for CIDEr; by default the references themselves.")
    ] = None,
    save_pool: Annotated[
        Path | None,
        typer.Option(
            help="Write the IDF pool of these references (of `coco`, unless the protocol is raw); without --candidates "
            "nothing is scored: --references captions.csv --split train --save-pool train.npz."
        ),
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="Training references: counts the captions that repeat one of them.")
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="The prompt, to find captions that repeat it.")] = None,
    decode: Annotated[
        str | None, typer.Option(help="How the captions were generated, for the signature: greedy-64.")
    ] = None,
    foreign: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Scores per image that another program computed, CSV or JSON Lines (docs/scoring.md); may be given "
            "several times.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the score sheet as JSON; with `all`, an object of sheets by protocol.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the score sheet here; with `all`, one per protocol (OUT.coco.json …).")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Write the scores of each image as CSV or, for FILE.jsonl, JSON Lines.")
    ] = None,
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of the images; 0 for no intervals.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    meteor: Annotated[
        bool, typer.Option("--meteor/--no-meteor", help="Compute METEOR; it needs the extra `meteor`.")
    ] = True,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=2, help="Processes for METEOR; by default 2 where a core is idle. Scores stay the same."
        ),
    ] = None,
    content: Annotated[
        bool,
        typer.Option("--content", help="Also count things, counts, colours and directions that no reference has."),
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out references without a candidate, and count them.")
    ] = False,
) -> None:
    """Score captions: BLEU, METEOR, ROUGE-L and CIDEr with 95 % intervals and a signature."""
    from rscap import scoring
    from rscap.cli.screen import say
    from rscap.errors import ScoreError
    from rscap.escape import for_json
    from rscap.metrics import defined
    from rscap.store import check_outputs

    written = [_of(path, name, protocol) for path in (out, items) if path for name in _protocols(protocol)]
    check_outputs(*written, save_pool, inputs=(candidates, references, pool, training, *(foreign or ())))
    others = [metric for path in foreign or () for metric in scoring.load_foreign(path)]
    if run is not None:
        if candidates or references or not others:
            hint = "to score captions, name --candidates and --references; `RUN --foreign FILE` adds other scores"
            raise ScoreError(f"nothing to add to {run}", hint=hint)
        _add_to(run, split or "test", others)
        return
    if references is None:
        raise ScoreError("there are no references to score against", hint="name a file with --references")
    if candidates is None:
        if save_pool is None:
            raise ScoreError("there are no candidates to score", hint="name a file with --candidates")
        _pool_of(scoring.load_references(references, split), protocol).save(save_pool)
        return
    given, own = scoring.load_pair(candidates, references, split)
    for note in own.notes:
        say(f"note: {note.row}: {note.text}")
    idf = scoring.IdfPool.load(pool) if pool else None
    learnt = (
        [text for captions in scoring.load_references(training).values() for text in captions] if training else None
    )
    sheets = {
        name: scoring.score_captions(
            given,
            own,
            protocol=name,
            reference_duplicates=duplicates,
            decode=decode,
            pool=_fitting(idf, name, only=protocol != "all"),
            draws=draws,
            seed=seed,
            sources=own.sources,
            scene_classes=own.scene_classes,
            training_captions=learnt,
            prefix=prefix or given.prefix,
            metrics=[*(metric for metric in defined(name) if meteor or metric != "METEOR"), *others],
            allow_missing=allow_missing,
            processes=processes or _idle_processes(),
            content=content,
        )
        for name in _protocols(protocol)
    }
    if save_pool:
        _pool_of(own, protocol).save(save_pool)
    for name, sheet in sheets.items():
        if out:
            scoring.write_sheet(_of(out, name, protocol), sheet)
        if items:
            scoring.write_items(_of(items, name, protocol), sheet)
    if json:
        texts = {name: scoring.sheet_text(sheet) for name, sheet in sheets.items()}
        print(for_json(texts[protocol] if protocol != "all" else sheets_text(texts)), end="")
    else:
        show(sheets)


def _protocols(protocol: str) -> tuple[str, ...]:
    from rscap.scoring import PROTOCOLS

    return tuple(PROTOCOLS) if protocol == "all" else (protocol,)


def _of(path: Path, name: str, protocol: str) -> Path:
    """The file of one protocol: OUT.coco.json where all are asked for."""
    return path.with_suffix(f".{name}{path.suffix or '.json'}") if protocol == "all" else path


def _pool_of(references: References, protocol: str) -> IdfPool:
    from rscap.scoring import IdfPool

    return IdfPool.build(references, protocol="raw" if protocol == "raw" else "coco")


def _idle_processes() -> int:
    """2 where this process may use several cores and one of the machine's is idle."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return 2 if cores > 1 and load < (os.cpu_count() or 1) - 0.5 else 1


def _add_to(run: Path, split: str, metrics: Sequence[ForeignMetric]) -> None:
    """Write a sheet, or that of a run folder, again with foreign metrics in it, and show it."""
    from rscap import scoring
    from rscap.store import RunFolder

    path = RunFolder(run).scores(split) if run.is_dir() else run
    sheet = scoring.add_foreign(scoring.read_sheet(path), metrics)
    scoring.write_sheet(path, sheet)
    show({path.stem: sheet})


def sheets_text(texts: Mapping[str, str]) -> str:
    """A JSON object of score sheets by protocol."""
    return "{\n" + ",\n".join(f'"{name}": {text.rstrip()}' for name, text in texts.items()) + "\n}\n"


def _fitting(pool: IdfPool | None, protocol: str, *, only: bool) -> IdfPool | None:
    """The saved pool; under `--protocol all` it serves the protocol that it was built under."""
    return pool if pool and (only or pool.protocol == protocol) else None


def show(sheets: Mapping[str, ScoreSheet]) -> None:
    """Print the scores of one or more sheets side by side, their signatures and what else is worth knowing."""
    from rich.table import Table

    from rscap.cli.screen import print_prose, print_table
    from rscap.metrics import in_order

    table = Table("metric", *sheets, title=f"{next(iter(sheets.values())).n:,} images")
    there = dict.fromkeys(metric for sheet in sheets.values() for metric in sheet.corpus)
    for metric in in_order(there):
        table.add_row(metric, *(_cell(sheet, metric) for sheet in sheets.values()))
    print_table(table)
    for name, sheet in sheets.items():
        print_prose(_lines(name, sheet))


def content_lines(sheet: ScoreSheet) -> list[str]:
    """A line on the content errors of a sheet, if they were counted."""
    rates = sheet.extra.get("content", {}).get("rates", {})
    found = [
        f"{name.removesuffix('-errors')}s {one['rate']:.1%} ({one['wrong']:,} of {one['claims']:,})"
        for name, one in rates.items()
    ]
    return [f"claims that no reference bears out: {', '.join(found)}"] if found else []


def _cell(sheet: ScoreSheet, metric: str) -> str:
    from rscap.cli.screen import interval_text
    from rscap.metrics import known

    if metric not in sheet.corpus:
        return "–"
    line = known(metric)
    digits = 1 + (line.digits if line else 3)
    bounds = sheet.intervals.get(metric)
    interval = f" {interval_text(bounds, digits)}" if bounds else ""
    return f"{sheet.corpus[metric]:.{digits}f}{interval}"


def _lines(name: str, sheet: ScoreSheet) -> str:
    from rscap.scoring import score_line

    lines = [score_line(sheet, _CIDER) if _CIDER in sheet.corpus else sheet.signature]
    lines += [f"note ({name}): {note}" for note in (*sheet.extra["notes"], *sheet.extra.get("cautions", {}).values())]
    found = sheet.extra["diagnostics"]
    flagged = ", ".join(f"{kind} {entry['count']}" for kind, entry in found["degenerate"].items() if entry["count"])
    lines.append(
        f"{name}: {found['distinct_captions']:,} distinct captions, {found['vocabulary']:,} words"
        + (f", length ratio {found['length_ratio']:.2f}" if found["length_ratio"] else "")
        + f"; degenerate: {flagged or 'none'}"
        + (f"; unscored: {sheet.unscored:,}" if sheet.unscored else "")
    )
    if "verbatim_training" in found:
        lines.append(
            f"{name}: {found['verbatim_training']['share']:.1%} of captions are training captions word for word"
        )
    lines += [f"{name}: {line}" for line in content_lines(sheet)]
    shuffled = found["shuffled"].get(_CIDER)
    if shuffled is not None:
        lines.append(f"{name}: CIDEr {shuffled:.3f} where every image gets the caption of another, for comparison")
    return "\n".join(lines)
