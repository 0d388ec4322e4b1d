"""`rscap evaluate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rscap.errors import Interrupted, RscapError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rscap.records import Picture, Prediction, Rejected

_Prefix = Annotated[str | None, typer.Option(help="The words before the caption; by default as in training.")]
_Decoding = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="GENERATE.B=C", help="Decode differently: generate.beams=3; may be repeated."),
]
_Base = Annotated[str | None, typer.Option(help="The base model of an adapter; by default the one that it names.")]
_Quantisation = Annotated[
    Literal["none", "nf4", "int8"] | None,
    typer.Option(help="Hold a base model in 4 or 8 bits, alone or below an adapter; a run keeps its own way."),
]
_Server = Annotated[
    str | None, typer.Option(help="Ask a model behind this OpenAI-compatible server, in place of one loaded here.")
]
_ServedModel = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which of the server's models; may be left out where it has one.")
]
_Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Requests to a server at the same time.")]
_PerMinute = Annotated[float | None, typer.Option(min=0.1, help="At most this many requests to a server a minute.")]


def _one_of(model: str | None, server: str | None, place: str) -> None:
    """Raises: RscapError: neither a model nor a server is named, or both are."""
    if (model is None) == (server is None):
        said = f"{place} and --server both name a model" if model else "no model is named"
        hint = (
            f"give {place} (a run folder, or `nano`, which ships with rscap), or --server URL with --served-model NAME"
        )
        raise RscapError(said, hint=hint)


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|ADAPTER|BASE",
            help="A run folder, an adapter of another program (a folder or a Hub name), or a base model, zero-shot.",
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Data to evaluate on; by default the run's own.")] = None,
    splits: Annotated[str | None, typer.Option(help="How the source is split; by default as in the run.")] = None,
    split: Annotated[str, typer.Option(help="Which split.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many images; a hash chooses them.")] = None,
    prefix: _Prefix = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of a base model, by default what the card computes best; a run keeps its own."),
    ] = None,
    set_: _Decoding = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the result; by default the run folder for the run's own data, else a new one in runs/."
        ),
    ] = None,
    max_rejected_share: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of images that may be unreadable; by default as in the run."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Also score the constant caption and the nearest training image.")
    ] = True,
    base: _Base = None,
    quantisation: _Quantisation = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Add the adapter to the weights of its base; the signature says so.")
    ] = False,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Also score images that the run was trained on; the score is marked.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Show the scores of the same evaluation if it is finished; resume it otherwise."),
    ] = False,
    server: _Server = None,
    served_model: _ServedModel = None,
    concurrency: _Concurrency = 8,
    per_minute: _PerMinute = None,
) -> None:
    """Caption a split, write the predictions and score them, and two baselines that need no model."""
    from rscap.cli.screen import print_sheets, progress, say

    _one_of(model, server, "RUN|BASE")
    if server is not None:
        from rscap.captioner.remote import RemoteCaptioner
        from rscap.evaluation.remote import RemoteRequest, evaluate_remote

        if source is None or any((dtype, base, quantisation, merged)):
            raise RscapError("a served model is evaluated on --source, and its server decides how it is held")
        if resume:
            raise RscapError("an evaluation of a served model resumes with the same command", hint="leave --resume out")
        asked = RemoteRequest(
            source=source,
            splits=splits,
            split=split,
            limit=limit,
            out=out,
            max_rejected_share=max_rejected_share,
            baselines=baselines,
        )
        options: dict[str, Any] = {
            "prompt": prefix,
            "changes": set_ or (),
            "concurrency": concurrency,
            "per_minute": per_minute,
        }
        with (
            RemoteCaptioner.connect(server, served_model, **options) as remote,
            progress(f"captions ({split})") as bar,
        ):
            run, sheets = evaluate_remote(remote, asked, progress=bar, say=say)
        print_sheets(sheets)
        say(f"written: {run.scores(split)}\nnext:    rscap report {run.path}")
        return
    from rscap.evaluation.request import Request, prepare
    from rscap.evaluation.request import evaluate as carry_out

    assert model is not None
    request = Request(
        model=model,
        source=source,
        splits=splits,
        split=split,
        limit=limit,
        prefix=prefix,
        dtype=dtype,
        base=base,
        quantisation=quantisation,
        merged=merged,
        out=out,
        max_rejected_share=max_rejected_share,
        baselines=baselines,
        allow_seen=allow_seen,
        changes=tuple(set_ or ()),
        resume=resume,
    )
    task = prepare(request)
    with progress(f"captions ({split})") as bar:
        run, sheets = carry_out(task, progress=bar, say=say)
    print_sheets(sheets)
    say(f"written: {run.scores(split)}\nnext:    rscap report {run.path}")


# `rscap caption`.


def caption(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|GLOB|LIST",
            help="Image files, folders of them, patterns in quotes, or a .txt file with one file a line.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="A run folder, an adapter of another program, or a base model; `nano` ships with rscap."),
    ] = None,
    prefix: _Prefix = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of products; by default a run's own, and what the card computes best for a base."),
    ] = None,
    set_: _Decoding = None,
    base: _Base = None,
    quantisation: _Quantisation = None,
    merged: Annotated[bool, typer.Option("--merged", help="Add the adapter to the weights of its base.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders of folders too.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write a table: .csv, .jsonl or .parquet. The same command resumes where it was stopped.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON Lines, one object per image.")] = False,
    server: _Server = None,
    served_model: _ServedModel = None,
    concurrency: _Concurrency = 8,
    per_minute: _PerMinute = None,
) -> None:
    """Caption image files; captions go to standard output, one line per image, or with --out into a table.

    An image that cannot be used is reported, and the others are captioned; exit code 1 if there was any.
    """
    from rscap.cli.screen import say
    from rscap.data.images import FileImage, TellingImage
    from rscap.data.listing import image_files
    from rscap.records import Picture, Rejected

    _one_of(model, server, "--model")
    if out is not None:
        from rscap.captioner.table import check_ending
        from rscap.store import check_outputs

        check_ending(out)
        check_outputs(out, inputs=images)
    files = image_files(images, recursive=recursive)
    pictures = [Picture(id=str(path), image=TellingImage(FileImage(path), say)) for path in files]
    with ExitStack() as open_until_done:
        captioner: Any
        if server is not None:
            from rscap.captioner.remote import RemoteCaptioner

            pace: dict[str, Any] = {"concurrency": concurrency, "per_minute": per_minute}
            captioner = RemoteCaptioner.connect(server, served_model, prompt=prefix, changes=set_ or (), **pace)
            open_until_done.enter_context(captioner)
            asked = {"server": server, "model": captioner.name}
        else:
            from rscap.captioner import ModelRef

            assert model is not None
            held: dict[str, Any] = {"base": base, "dtype": dtype, "quantisation": quantisation, "merged": merged}
            captioner = ModelRef.of(model, prefix=prefix, changes=set_ or (), **held).load()
            asked = {"model": model, **held, "base": captioner.base.describe()}
        if out is not None:
            failed = _write_table(out, captioner, pictures, asked)
        else:
            failed = False
            for item in captioner.predictions(pictures, say=say):
                failed |= isinstance(item, Rejected)
                _print_item(item, json=json)
    if failed:
        raise typer.Exit(1)


def _print_item(item: Prediction | Rejected, *, json: bool) -> None:
    import json as encode

    from rscap.cli.screen import print_text, say
    from rscap.escape import for_json, visible
    from rscap.records import Rejected
    from rscap.store import prediction_row

    if isinstance(item, Rejected):
        say(visible(f"error: {item.reason}", one_line=True))
    elif json:
        print(for_json(encode.dumps(prediction_row(item), ensure_ascii=False)), flush=True)
    else:
        print_text(f"{visible(item.example_id, one_line=True)}\t{' '.join(item.caption.split())}")


def _write_table(out: Path, captioner: Any, pictures: Sequence[Picture], asked: Mapping[str, Any]) -> bool:
    """Caption what is not captioned yet, with progress, and write the table; whether an image failed."""
    from rscap import __version__
    from rscap.captioner.table import CaptionTable
    from rscap.cli.screen import progress, say
    from rscap.escape import visible
    from rscap.records import Rejected
    from rscap.stopping import stopping

    settings = captioner.settings.model_dump(mode="json")
    table = CaptionTable(out, {"rscap": __version__, **asked, "prefix": captioner.prefix, "generate": settings})
    left = table.begin(pictures)
    if table.set_aside:
        say(f"captions of an interrupted command are made again: {table.set_aside}")
    if table.done:
        say(f"resuming after {len(table.done):,} of {len(pictures):,} captions")
    try:
        with stopping(), progress("captions") as bar:
            for item in captioner.predictions(left, say=say):
                table.add(item)
                if isinstance(item, Rejected):
                    say(visible(f"error: {item.reason}", one_line=True))
                bar(len(table.done) + len(table.failed), len(pictures))
    except Interrupted as error:
        error.hint = f"the same command continues after {len(table.done):,} captions"
        raise
    for path in table.end():
        say(f"written: {path}")
    return bool(table.failed)
