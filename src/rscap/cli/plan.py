"""`rscap plan`: what a recipe needs, and settings that fit a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rscap.planning import Plan
    from rscap.planning.search import Candidate

_GIB = 2**30


def plan(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE|ADAPTER",
            help="A recipe: a file in TOML, or one that ships with rscap, by name; or an adapter of another program.",
        ),
    ],
    gpu: Annotated[
        str | None, typer.Option(help="A size (6GB, 16GB) or a card (T4, A100); this machine when left out.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a key of the recipe; may be repeated.")
    ] = None,
    tflops: Annotated[
        float | None, typer.Option(min=1e-3, help="TFLOP/s that one of your runs achieved; replaces the assumptions.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write everything as JSON here.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also print memory by component, and the largest micro batches.")
    ] = False,
) -> None:
    """Predict memory and time of a recipe, and propose settings that fit; exit code 1 if nothing does."""
    from rscap.recipe import read_recipe
    from rscap.store import check_outputs

    check_outputs(out, inputs=[recipe])
    table = _of_adapter(recipe)
    checked = read_recipe(recipe if table is None else table, set_ or [])
    from rscap.planning import find_card, plan_recipe

    if gpu is None:
        from rscap.planning.cards import this_machine

        card = this_machine(checked.model.dtype)
    else:
        card = find_card(gpu)
    found = plan_recipe(checked, card, achieved_tflops=tflops)
    from rscap.cli.screen import print_json
    from rscap.planning.request import record
    from rscap.store import write_json

    if out is not None:
        write_json(out, record(found))
    if json:
        print_json(record(found))
    else:
        _show(found, recipe, set_ or [], verbose=verbose, is_adapter=table is not None)
    if found.proposed is None:
        raise typer.Exit(1)


def _of_adapter(place: Path) -> dict[str, Any] | None:
    """The recipe of an adapter of another program, a folder or a name on the Hub; None for whatever is none."""
    if place.suffix == ".toml" or not (place.is_dir() or "/" in str(place)):
        return None  # before torch is imported: a typo should not cost seconds
    from rscap.model.adapters import find_adapter, recipe_of_adapter

    adapter = find_adapter(str(place))
    return None if adapter is None else recipe_of_adapter(adapter)


def _show(plan: Plan, recipe: Path, overrides: list[str], *, verbose: bool, is_adapter: bool) -> None:
    """The answer first: the command, then what it takes; the rest with `--verbose`. A long command has line breaks."""
    from rscap.cli.screen import fold_command, screen

    console = screen()
    card = plan.card
    if plan.proposed is None:
        console.print(f"does not fit: short by {plan.closest.shortfall / _GIB:.2f} GiB", style="bold red")
    elif is_adapter:
        console.print("to train an adapter of this shape on RISC:", style="bold")
    else:
        sets = [*overrides, *(f"{key}={_toml(value)}" for key, value in plan.changes.items())]
        words = ["rscap train", str(recipe), *(f"--set {_quoted(one)}" for one in sets)]
        console.print(fold_command(words), style="bold", soft_wrap=True)
    console.print(f"{recipe} on {card.name}: {card.bytes / _GIB:.2f} GiB available")
    _say_settings(console, "as written", plan.written)
    if plan.proposed is None:
        _say_settings(console, "smallest configuration", plan.closest)
    elif plan.changes:
        _say_settings(console, "proposed", plan.closest)
    console.print(_trainable(plan.closest), markup=False)
    for note in plan.notes:
        console.print(f"note: {note}", style="dim", markup=False)
    if verbose:
        _details(console, plan)
    else:
        console.print("--verbose: memory by component, and the largest batches", style="dim")


def _details(console: Console, plan: Plan) -> None:
    from rscap.planning.cards import RESERVE

    rows, logits = plan.rows, plan.closest.memory.logits / _GIB
    console.print(
        f"rows average {rows.mean_tokens:.0f} tokens, longest {rows.longest_tokens}, "
        f"{rows.mean_supervised:.0f} of them supervised ({rows.origin})",
    )
    _components(console, plan.closest)
    console.print(f"reserve: {RESERVE:.0%} of a step's temporary memory; logits: {logits:.3f} GiB at their peak")
    _limits(console, plan)


def _say_settings(console: Console, title: str, one: Candidate) -> None:
    from rscap.planning.request import describe_quantisation

    train, time = one.recipe.train, one.duration
    verdict = f"{-one.shortfall / _GIB:.2f} GiB free" if one.fits else f"short by {one.shortfall / _GIB:.2f} GiB"
    again = "with" if train.gradient_checkpointing else "without"
    console.print(
        f"{title}: {describe_quantisation(one.recipe)}, micro batch {train.micro_batch} x {train.accumulation}, "
        f"{again} checkpointing: {one.needed / _GIB:.2f} GiB, {verdict}",
        style="bold",
    )
    length = "" if time.seconds is None else f", {_clock(time.seconds)} for {time.updates:,} updates"
    console.print(
        f"  {_rate(time.captions_per_s)} captions/s, {_rate(time.images_per_s)} images/s{length}; "
        f"{time.operations_per_image / 1e12:.3g} TFLOP per image; {time.basis}",
    )


def _rate(value: float) -> str:
    """Three digits of a number below a hundred, else whole: 5.94, 1,560."""
    return f"{value:.3g}" if value < 100 else f"{float(f'{value:.3g}'):,.0f}"


def _components(console: Console, one: Candidate) -> None:
    """The table of memory: one row per component, then what belongs to none."""
    from rich.table import Table

    from rscap.planning.parameters import COMPONENTS

    kinds = ("weights", "optimiser", "gradients", "activations", "short-lived")
    table = Table(
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold",
        title=f"GiB at the peak ({one.memory.moment.when})",
        title_justify="left",
    )
    for name in ("", *kinds, "total"):
        table.add_column(name, justify="right" if name else "left")
    rows = {component: one.memory.row(component) for component in COMPONENTS}
    for component, row in rows.items():
        table.add_row(component, *(_gib(row[kind]) for kind in kinds), _gib(sum(row.values())))
    for name, size in (
        ("generation", one.moving - one.memory.moving),
        ("reserve", one.reserve),
        ("CUDA context", one.situation.card.overhead),
    ):
        if size:
            table.add_row(name, *([""] * len(kinds)), _gib(size))
    sums = [sum(row[kind] for row in rows.values()) for kind in kinds]
    table.add_row("total", *(_gib(size) for size in sums), _gib(one.needed), style="bold")
    console.print(table)


def _trainable(one: Candidate) -> str:
    """How many parameters learn, and where."""
    parts = {name: resident.trainable for name, resident in one.memory.residents.items() if resident.trainable}
    listed = ", ".join(f"{name} {count:,}" for name, count in parts.items())
    return f"{sum(parts.values()):,} trainable parameters: {listed}"


def _limits(console: Console, plan: Plan) -> None:
    for limit in plan.limits:
        way = f"{limit.quantisation}, {'with' if limit.checkpointing else 'without'} checkpointing"
        fits = "no micro batch fits" if limit.largest is None else f"largest micro batch {limit.largest}"
        short = ""
        if limit.shortfall is not None:
            short = f"; {limit.next} is short by {limit.shortfall / _GIB:.2f} GiB"
        console.print(f"{way}: {fits}{short}")


def _gib(size: int) -> str:
    return f"{size / _GIB:.3f}" if size else "–"


def _clock(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(f'"{one}"' for one in value) + "]" if isinstance(value, tuple) else str(value)


def _quoted(text: str) -> str:
    from shlex import quote

    return quote(text)
