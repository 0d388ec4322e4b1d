"""What `rscap plan` predicts against what a step takes: bytes kept for the backward pass, and the peak.

    python benchmarks/plan.py [--geometry bench-7M …] [--micro-batch 1 4 8] [--only single]
    python benchmarks/plan.py --device cuda --geometry paligemma-3b --cap 6 --cap 16

On a CPU every allocation is counted (see `peaks.py`), in float32 and bfloat16, with and without checkpointing, with a
vision tower that is frozen, adapted or trained; then single cases of what else a recipe can say; then three layers of
PaliGemma's true width. With `--device cuda` PaliGemma-3B's geometry with random weights runs under a cap on the
allocator, in the settings that `rscap plan` proposes for a card of that size and on rows as long as the longest that
it reckons with: they must fit, and the peak is compared. No time is measured, so a busy machine does no harm. Exits 1
if a peak is off by more than 10 %.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from common import RESULTS, count, environment
from peaks import Measured, measure, random_base
from rscap.planning.cards import find_card
from rscap.planning.memory import MicroBatch, kept_bytes, training_memory
from rscap.planning.parameters import Setting
from rscap.planning.request import plan_recipe
from rscap.planning.sequence import Lengths
from rscap.planning.shapes import shapes_of_base
from rscap.recipe import Recipe, parse_recipe, read_recipe
from rscap.store import write_json

TOLERANCE = 0.10
SETS = ("grid", "single", "thin")
GEOMETRIES = ("bench-7M", "bench-49M", "nano")
RECIPES = Path(__file__).resolve().parents[1] / "recipes"
CAPPED = {6: ("risc-qlora.toml", ()), 16: ("risc-fast.toml", ("model.dtype=float16",))}
"""What must fit which card, in GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One setting of a training step."""

    geometry: str
    dtype: str = "float32"
    vision: str = "frozen"
    """State of the vision tower; `trained` trains everything, the others adapt the language model."""
    checkpointing: bool = False
    micro_batch: int = 1
    accumulation: int = 1
    quantisation: str = "none"
    dropout: float = 0.0
    decomposed: bool = False

    def recipe(self, base: str) -> Recipe:
        whole = self.vision == "trained"
        table: dict[str, Any] = {
            "data": {"source": "sample"},
            "model": {"base": base, "dtype": self.dtype, "quantisation": self.quantisation},
            "towers": {
                "vision_tower": self.vision,
                "projector": "trained" if whole else "frozen",
                "language_model": "trained" if whole else "adapted",
            },
            "train": {
                "micro_batch": self.micro_batch,
                "accumulation": self.accumulation,
                "gradient_checkpointing": self.checkpointing,
            },
        }
        if not whole:
            table["adapter"] = {"rank": 16, "dropout": self.dropout, "weight_decomposed": self.decomposed}
        return parse_recipe(table)


def grid(geometries: list[str], micro_batches: list[int]) -> list[Case]:
    """Every geometry, precision, tower and size, with and without checkpointing."""
    return [
        Case(geometry=geometry, dtype=dtype, vision=vision, checkpointing=again, micro_batch=size)
        for geometry, dtype, vision, again, size in itertools.product(
            geometries, ("float32", "bfloat16"), ("frozen", "adapted", "trained"), (False, True), micro_batches
        )
    ]


def thin() -> list[Case]:
    """Layers of the true width of PaliGemma-3B and PaliGemma 2, few enough for a CPU, with the whole vocabulary."""
    one = Case(geometry="paligemma-3b-thin", dtype="bfloat16")
    ways = [one, replace(one, quantisation="nf4"), replace(one, vision="adapted")]
    ways.append(replace(one, geometry="paligemma2-3b-thin"))
    return [replace(way, checkpointing=again) for way in ways for again in (False, True)]


def others(geometry: str) -> list[Case]:
    """What else a recipe can say, one at a time, with and without checkpointing."""
    one = Case(geometry=geometry, dtype="bfloat16", micro_batch=4)
    ways = [
        replace(one, dtype="float16"),
        replace(one, quantisation="nf4"),
        replace(one, quantisation="int8"),
        replace(one, dropout=0.1),
        replace(one, dropout=0.1, vision="adapted", dtype="float32"),
        replace(one, decomposed=True),
        replace(one, vision="trained", accumulation=2),
        replace(one, geometry="nano2"),
        replace(one, geometry="nano2", dtype="float32"),
        replace(one, geometry="nano2", vision="trained"),
    ]
    return [replace(way, checkpointing=again) for way in ways for again in (False, True)]


def compare(case: Case, base: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Measure one case and predict it."""
    recipe = case.recipe(str(base))
    measured, size = measure(recipe, device=device)
    return {**asdict(case), **ratios(recipe, measured, size, device=device)}


def ratios(recipe: Recipe, measured: Measured, size: MicroBatch, *, device: str) -> dict[str, Any]:
    """Predicted and measured bytes, and predicted over measured."""
    setting = Setting(recipe, "cuda" if device == "cuda" else "cpu")
    shapes = shapes_of_base(recipe.model.base)
    memory = training_memory(shapes, setting, size)
    predicted = {"fixed": memory.fixed, "kept": kept_bytes(shapes, setting, size), "peak": memory.total}
    found = asdict(measured)
    return {
        "size": asdict(size),
        "predicted": {**predicted, "when": memory.moment.when},
        "measured": found,
        "ratio": {name: value / found[name] for name, value in predicted.items()}
        | {"moving": memory.moving / (measured.peak - measured.fixed)},
    }


def line(result: dict[str, Any]) -> str:
    ratio, measured = result["ratio"], result["measured"]
    traits = [result["dtype"], f"vision {result['vision']}", "again" if result["checkpointing"] else ""]
    traits += [result["quantisation"] if result["quantisation"] != "none" else ""]
    traits += [f"dropout {result['dropout']}" if result["dropout"] else "", "DoRA" if result["decomposed"] else ""]
    what = ", ".join(trait for trait in traits if trait)
    return (
        f"{result['geometry']:10}{what:38}{result['micro_batch']:>3} x{result['accumulation']:2}"
        f"{measured['kept'] / 2**20:9.1f}{ratio['kept']:7.3f}{measured['peak'] / 2**20:10.1f}{ratio['peak']:7.3f}"
        f"{ratio['moving']:8.3f}   {result['predicted']['when']}"
    )


HEADING = f"{'':51}{'batch':>6}{'kept':>9}{'ratio':>7}{'peak':>10}{'ratio':>7}{'moving':>8}   predicted peak at"


def capped(geometry: str, gigabytes: int, folder: Path) -> dict[str, Any]:
    """The proposal for a card of that size, run with random weights under a cap on the allocator."""
    name, overrides = CAPPED[gigabytes]
    written = read_recipe(RECIPES / name, [*overrides, f"model.base={folder}"])
    card = find_card(f"{gigabytes}GB")
    plan = plan_recipe(written, card)
    if plan.proposed is None:
        raise SystemExit(f"{name} has no proposal for {gigabytes} GB")
    recipe = plan.proposed.recipe
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((card.bytes - card.overhead) / total)
    measured, size = measure(recipe, device="cuda", suffixes=longest(plan.rows))
    changes = {key: str(value) for key, value in plan.changes.items()}
    compared = ratios(recipe, measured, size, device="cuda")
    return {"recipe": name, "geometry": geometry, "gigabytes": gigabytes, "changes": changes, **compared}


def longest(rows: Lengths) -> list[int]:
    """Tokens of the captions of the longest row, about equal."""
    captions = round(rows.captions)
    whole, rest = divmod(rows.longest_supervised, captions)
    return [whole + (index < rest) for index in range(captions)]


def run_capped(geometry: str, sizes: list[int]) -> list[dict[str, Any]]:
    found = []
    with random_base(geometry) as folder:
        for size in sizes:
            gc.collect()
            torch.cuda.empty_cache()
            result = capped(geometry, size, folder)
            peak = result["measured"]["peak"] / 2**30
            print(
                f"{result['recipe']} in {size} GB: peak {peak:.2f} GiB, ratio {result['ratio']['peak']:.3f}", flush=True
            )
            found.append(result)
    return found


def run_grid(cases: list[Case]) -> list[dict[str, Any]]:
    print(HEADING)
    found = []
    for geometry in dict.fromkeys(case.geometry for case in cases):
        with random_base(geometry) as folder:
            for case in (one for one in cases if one.geometry == geometry):
                found.append(compare(case, folder))
                print(line(found[-1]), flush=True)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--geometry", action="append", help="one or several; all of the CPU's when left out")
    parser.add_argument("--micro-batch", type=count, nargs="+", default=[1, 4, 8], help="images (%(default)s)")
    parser.add_argument("--only", choices=SETS, help="one of the three sets of cases; all when left out")
    parser.add_argument("--cap", type=int, choices=CAPPED, action="append", help="GB of the card, on cuda")
    parser.add_argument("--out", type=Path, default=RESULTS / "plan.json", help="the JSON record")
    given = parser.parse_args(arguments)
    geometries = given.geometry or (["paligemma-3b"] if given.device == "cuda" else list(GEOMETRIES))
    if given.device == "cuda":
        found = [one for geometry in geometries for one in run_capped(geometry, given.cap or list(CAPPED))]
    else:
        sets = {"grid": grid(geometries, given.micro_batch), "single": others(geometries[0]), "thin": thin()}
        found = run_grid([case for name in SETS if given.only in (None, name) for case in sets[name]])
    worst = max(abs(one["ratio"]["peak"] - 1) for one in found)
    met = worst <= TOLERANCE
    write_json(
        given.out,
        {
            "environment": environment(threads=torch.get_num_threads()),
            "tolerance": TOLERANCE,
            "worst": worst,
            "met": met,
            "cases": found,
        },
    )
    print(f"{len(found)} cases; the worst peak is off by {worst:.1%}: {'' if met else 'not '}within {TOLERANCE:.0%}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
