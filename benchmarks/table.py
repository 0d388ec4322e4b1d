"""The performance table of docs/benchmarks.md, made from the records in `benchmarks/results/`.

    python benchmarks/table.py            # writes it between the two markers in docs/benchmarks.md
    python benchmarks/table.py --check    # exits 1 if the page does not say what the records say

A record that is not there has no rows. Rows of a record that was taken on a busy machine say so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS
from rscap.store import read_json, write_text

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- performance: made by benchmarks/table.py -->", "<!-- /performance -->"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what was measured, ours, theirs, how many times better, and the target."""

    what: str
    ours: str
    theirs: str
    times: str
    target: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.ours} | {self.theirs} | {self.times} | {self.target} |"


def steps(record: dict[str, Any]) -> Iterator[Row]:
    """`train_step.json`"""
    targets = record["targets"]["times_better_than_the_trainer"]
    for geometry, result in record["geometries"].items():
        wanted = targets[geometry]
        for way, words in (("rscap", "training step"), ("cached", "… from cached vision features")):
            yield Row(
                f"{words}, {geometry}",
                f"{result[way]['captions_per_s']:.1f} captions/s",
                f"transformers' Trainer {result['trainer']['captions_per_s']:.1f}",
                f"**{result['ratios'][way]['captions_per_s']:.1f}**",
                f"≥ {wanted[way]['captions_per_s']:g}",
            )
        yield Row(
            f"… against prior work B's settings, {geometry}",
            f"{result['rscap']['captions_per_s']:.1f} captions/s",
            f"{result['notebook']['captions_per_s']:.1f}",
            f"{result['against_notebook']['rscap']['captions_per_s']:.1f}",
        )
        yield Row(
            f"… bytes kept for the backward pass, {geometry}",
            f"{result['rscap']['bytes_kept'] / 2**20:.0f} MiB",
            f"Trainer {result['trainer']['bytes_kept'] / 2**20:.0f} MiB",
            f"**{result['ratios']['rscap']['bytes_kept']:.1f}**",
            f"≥ {wanted['rscap']['bytes_kept']:g}" if "bytes_kept" in wanted["rscap"] else "",
        )


def captions(record: dict[str, Any]) -> Iterator[Row]:
    """`generate.json`: the cases with random weights, which the target is for."""
    for name, result in record["cases"].items():
        if not name.startswith("nano,"):
            yield Row(
                f"captioning, {name}",
                f"{result['rscap']['images_per_s']:.2f} images/s",
                f"`generate`, one at a time {result['one']['images_per_s']:.2f}",
                f"**{result['ratios']['one']:.1f}**",
                f"≥ {record['targets']['images_per_s']:g}",
            )


def scores(record: dict[str, Any]) -> Iterator[Row]:
    """`score.json`"""
    for way, rival, words in (
        ("rscap, two processes", "pycocoevalcap", "all metrics, with intervals, two cores"),
        ("rscap, two processes, no intervals", "pycocoevalcap", "all metrics, two cores"),
        ("rscap, no intervals", "pycocoevalcap", "all metrics, one core"),
        ("rscap, no METEOR, no intervals", "pycocoevalcap, no METEOR", "without METEOR"),
    ):
        yield Row(
            f"scoring {record['images']:,} images, {words}",
            f"{record['seconds'][way]:.1f} s",
            f"pycocoevalcap {record['seconds'][rival]:.1f} s",
            f"**{record['times_faster'][way]:.1f}**",
        )


def linear(record: dict[str, Any]) -> Iterator[Row]:
    """`linear.json`"""
    one, ten, ratios, targets = record["one"], record["ten"], record["ratios"], record["targets"]
    yield Row(
        "ten times the images: time of a whole training",
        f"{ten['seconds']:.1f} s ({ten['images']:,})",
        f"{one['seconds']:.1f} s ({one['images']:,})",
        f"**{ratios['seconds']:.1f}**",
        f"≤ {targets['seconds']:g}",
    )
    yield Row(
        "… most memory held",
        f"{ten['peak_bytes'] / 2**20:.0f} MiB",
        f"{one['peak_bytes'] / 2**20:.0f} MiB",
        f"**{ratios['peak_bytes']:.2f}**",
        f"≤ {targets['peak_bytes']:g}",
    )


def loading(record: dict[str, Any]) -> Iterator[Row]:
    """`loading.json`: what one process loads, against what the faster of the two steps takes."""
    for way, words in (("live", "loading images"), ("cached", "loading cached features")):
        taken = max(record["steps_images_per_s"].items(), key=lambda item: item[1][way])
        rates = record["loading"][way]
        yield Row(
            f"{words}, one process",
            f"{next(iter(rates.values()))['images_per_s']:,.0f} images/s",
            f"the step takes {taken[1][way]:.1f} ({taken[0]})",
            f"**{record['times_faster'][taken[0]][way]:.0f}**",
            f"≥ {record['targets']['times_faster']:g}",
        )


def gpu_steps(record: dict[str, Any]) -> Iterator[Row]:
    """`first_gpu.json`: the fastest case of each base and precision, of those that `rscap train` can run."""
    found = [one for one in record["cases"].values() if one["kind"] == "training" and "failed" not in one]
    found = [one for one in found if not one["cached"] and not one["case"]["variations"]]
    for geometry, precision in sorted({(one["geometry"], one["precision"]) for one in found}):
        same = [one for one in found if (one["geometry"], one["precision"]) == (geometry, precision)]
        best = max(same, key=lambda one: one["captions_per_s"])
        target = record["targets"]["captions_per_s"].get(precision) if geometry == "paligemma-3b" else None
        yield Row(
            f"training step, {geometry}, {precision.replace('nf4', 'NF4')}, {record['device']['name']}",
            f"{best['captions_per_s']:.0f} captions/s, {best['allocated_bytes'] / 2**30:.1f} GiB",
            f"{best['tflops']:.0f} of {record['device']['peak_tflops']:.0f} TFLOP/s",
            f"{100 * best['share_of_peak']:.0f} %",
            f"≥ {target:g} captions/s" if target else "",
        )


RECORDS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "train_step": steps,
    "generate": captions,
    "loading": loading,
    "linear": linear,
    "score": scores,
    "first_gpu": gpu_steps,
}


def table(folder: Path) -> str:
    """The table of all records in `folder`, and where they were taken."""
    rows = [Row("", "rscap", "against", "times", "target"), "|---|---:|---:|---:|---:|"]
    places: dict[str, list[str]] = {}
    for name, read in RECORDS.items():
        path = folder / f"{name}.json"
        if path.is_file():
            record = read_json(path)
            rows += read(record)
            places.setdefault(_place(record), []).append(name)
    told = "; ".join(f"{', '.join(f'`{name}`' for name in names)}: {place}" for place, names in places.items())
    return "\n".join([*map(str, rows), "", f"Medians; {told}."])


def _place(record: dict[str, Any]) -> str:
    """Where and when a record was taken, and whether the machine was busy."""
    environment = record.get("environment", record)
    threads = environment.get("threads", environment["cores"])
    threads = threads if isinstance(threads, int) else environment["cores"]
    words = [f"{environment.get('cpu', 'a CPU')}, {threads} thread{'s' * (threads != 1)}"]
    words += [environment["date"][:10]] if "date" in environment else []
    words += ["**on a busy machine**"] if record.get("load", {}).get("busy") else []
    return ", ".join(words)


def with_table(text: str, folder: Path) -> str:
    """A page with its table made anew.

    Raises:
        SystemExit: the markers are not there, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise SystemExit(f"the page wants {BEGIN!r} and {END!r}, once each")
    return f"{before}{BEGIN}\n{table(folder)}\n{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is not up to date")
    parser.add_argument("--page", type=Path, default=PAGE, help="%(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="%(default)s")
    given = parser.parse_args(arguments)
    now = given.page.read_text(encoding="utf-8")
    wanted = with_table(now, given.results)
    if given.check and wanted != now:
        sys.exit("the page's table is not what the records say: run python benchmarks/table.py")
    if wanted != now:
        write_text(given.page, wanted)


if __name__ == "__main__":
    main()
