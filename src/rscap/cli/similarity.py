"""`rscap similarity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def similarity(
    captions: Annotated[
        Path, typer.Argument(metavar="RUN|FILE", help="A run folder, or a file of captions as `rscap score` takes it.")
    ],
    clip: Annotated[str, typer.Option(help="A CLIP: a local folder, or a name on the Hub with --revision.")],
    revision: Annotated[str | None, typer.Option(help="The commit of a CLIP on the Hub; the score names it.")] = None,
    source: Annotated[str | None, typer.Option(help="The data set of the images; by default that of the run.")] = None,
    split: Annotated[str, typer.Option(help="Which captions of a run.")] = "test",
    images: Annotated[
        Path | None, typer.Option(help="The folder that ids start from; with neither data nor folder they are paths.")
    ] = None,
    trained_on: Annotated[
        str | None,
        typer.Option(
            help="The data set that the CLIP was trained on (its training split): images it has seen are marked."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu; by default the best there is.")] = None,
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of the images; 0 for no interval.")] = 10_000,
    out: Annotated[Path | None, typer.Option(help="Write the score sheet here; `rscap compare` takes it.")] = None,
    items: Annotated[
        Path | None, typer.Option(help="Write one score an image, CSV or JSON Lines; `rscap score --foreign` takes it.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the score sheet as JSON.")] = False,
) -> None:
    """How well captions fit their images by a CLIP, without references; CLIPScore is 2.5 times this."""
    from rscap import scoring
    from rscap.cli.screen import print_prose, print_text, progress, say
    from rscap.evaluation.clip import METRIC, clip_similarity, images_of, load_clip

    given, source = _of_run(captions, source, split) if captions.is_dir() else (captions, source)
    said = scoring.load_candidates(given)
    pictures = images_of(said, source=None if images else source, folder=images)
    loaded = load_clip(clip, revision=revision, device=device)
    with progress("similarity") as bar:
        sheet = clip_similarity(loaded, said, pictures, trained_on=trained_on, draws=draws, progress=bar)
    if out:
        scoring.write_sheet(out, sheet)
    if items:
        scoring.write_items(items, sheet)
    if json:
        print_text(scoring.sheet_text(sheet), end="")
        return
    print_prose(scoring.score_line(sheet, METRIC))
    if sheet.extra["shuffled"] is not None:
        print_text(f"with the caption of another image: {sheet.extra['shuffled']:.3f}")
    if cut := sheet.extra["cut"]:
        say(
            f"warning: {len(cut):,} captions are longer than the {loaded.tokens} tokens that it reads, and were cut off"
        )
    for sentence in scoring.seen_sentences(sheet.extra.get(scoring.SEEN)):
        say(f"warning: {loaded.name} {sentence}")


def _of_run(folder: Path, source: str | None, split: str) -> tuple[Path, str]:
    """The predictions of a run, and the data that it was evaluated on."""
    from rscap.errors import StoreError
    from rscap.recipe import read_recipe
    from rscap.store import EvaluationSettings, RunFolder

    run = RunFolder.open(folder)
    if not run.predictions(split).is_file():
        raise StoreError(f"{folder} has no captions of the {split} split", hint="`rscap evaluate` makes them")
    if source is None and run.evaluation_file.is_file():
        source = str(EvaluationSettings.read(run.evaluation_file).data["source"])
    elif source is None:
        source = read_recipe(run.recipe_file).data.source
    return run.predictions(split), source
