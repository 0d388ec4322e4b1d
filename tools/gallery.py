"""Published captions rescored: one model's own output files under every protocol, for docs/gallery.md.

    python tools/gallery.py FOLDER                 print the tables
    python tools/gallery.py FOLDER --into PAGE     put each table into a page, between its two marks
    python tools/gallery.py FOLDER --only UCM      one data set

FOLDER holds the files `earthdial_<data set>.jsonl`: each line has the model's caption under `answer` and the references
under `caption0` to `caption4`, and names no image. Only figures go into the page, no caption.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rscap.records import ScoreSheet
from rscap.scoring import score_captions

FILES = {
    "NWPU-Captions": "earthdial_NWPU_RESISC45_Captions.jsonl",
    "RSICD": "earthdial_RSICD_Captions.jsonl",
    "RSITMD": "earthdial_RSITMD_Captions.jsonl",
    "UCM-Captions": "earthdial_UCM_captions.jsonl",
    "Sydney-Captions": "earthdial_sydney_Captions.jsonl",
}
SHOWN = ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr")


@dataclass(frozen=True, slots=True)
class Way:
    """One way of scoring the same captions."""

    words: str
    protocol: str = "coco"
    duplicates: str = "keep"
    references: int = 5
    """Of each image, the first ones."""


WAYS = (
    Way("`coco`, as published"),
    Way("`coco`, a repeated reference once", duplicates="distinct"),
    Way("`coco`, one reference", references=1),
    Way("`raw`", protocol="raw"),
    Way("`raw`, a repeated reference once", protocol="raw", duplicates="distinct"),
    Way("`raw`, one reference", protocol="raw", references=1),
    Way("`sentence`, one reference by definition", protocol="sentence"),
)


@dataclass(frozen=True, slots=True)
class Published:
    """The lines of a file: a caption each with its references, by line number."""

    captions: Mapping[str, str]
    references: Mapping[str, tuple[str, ...]]
    repeated: int
    """Lines that an earlier one equals, word for word."""
    distinct: float
    """Different references of an image, on average."""


def read(path: Path) -> Published:
    """The lines of a file; a line that lacks a caption ends the program."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    references = {
        f"line {number}": tuple(row[f"caption{k}"] for k in range(5)) for number, row in enumerate(rows, start=1)
    }
    whole = [tuple(row.items()) for row in rows]
    return Published(
        captions={f"line {number}": row["answer"] for number, row in enumerate(rows, start=1)},
        references=references,
        repeated=len(whole) - len(set(whole)),
        distinct=sum(len(set(own)) for own in references.values()) / len(rows),
    )


def sheet(found: Published, way: Way) -> ScoreSheet:
    """The scores of one way."""
    return score_captions(
        found.captions,
        {image: own[: way.references] for image, own in found.references.items()},
        protocol=way.protocol,
        reference_duplicates=way.duplicates,
    )


def cell(scores: ScoreSheet, metric: str) -> str:
    """`0.994 [0.951, 1.040]` of CIDEr, the number alone of the others; a dash for a metric that is not defined."""
    if metric not in scores.corpus:
        return "–"
    low, high = scores.intervals[metric]
    return f"{scores.corpus[metric]:.3f}" + (f" [{low:.3f}, {high:.3f}]" if metric == "CIDEr" else "")


def table(found: Published) -> Iterator[str]:
    """The lines of a data set's table, of Markdown, with the signature of each row behind it."""
    sheets = {way: sheet(found, way) for way in WAYS}
    n = len(found.captions)
    repeats = f"; {found.repeated} lines equal an earlier one" if found.repeated else ""
    yield f"n = {n:,}, {found.distinct:.2f} of 5 references differ{repeats}."
    yield ""
    yield "| scored as | " + " | ".join(SHOWN) + " |"
    yield "|---|" + "---:|" * len(SHOWN)
    for way, scores in sheets.items():
        yield f"| {way.words} | " + " | ".join(cell(scores, metric) for metric in SHOWN) + " |"
    yield ""
    yield "```"
    for scores in sheets.values():
        yield re.sub(r"\|decode:unstated|\|rscap:.*", "", scores.signature)
    yield "```"


def marks(name: str) -> tuple[str, str]:
    """Between these lines a page has the table of a data set."""
    return f"<!-- {name}: tools/gallery.py -->", f"<!-- end of {name} -->"


def put(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with another table of this data set."""
    first, last = marks(name)
    before, there, rest = page.partition(first)
    _, closed, after = rest.partition(last)
    if not (there and closed):
        raise SystemExit(f"the page has no lines {first} and {last}")
    return "\n".join([before + first, "", *lines, "", last]) + after


def main() -> None:
    """Print the tables, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--only", choices=FILES, action="append")
    asked = parser.parse_args()
    for name in asked.only or FILES:
        lines = list(table(read(asked.folder / FILES[name])))
        print(f"## {name}\n", *lines, "", sep="\n")
        sys.stdout.flush()
        if asked.into:
            asked.into.write_text(put(asked.into.read_text(encoding="utf-8"), name, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
