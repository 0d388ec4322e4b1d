"""Random text of growing nastiness, and the Java tokenizer's answer to it.

Run as a program, it writes `tests/scoring/ptb_table.json`: strings of this generator with the tokens that the Java
program of pycocoevalcap 1.2 (Stanford CoreNLP 3.4.1, read as UTF-8) printed for them. It needs Java and the
`meteor` extra:

    python tests/scoring/java_oracle/ptb_oracle.py
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import tempfile
from pathlib import Path

TABLE = Path(__file__).parents[1] / "ptb_table.json"
DROPPED = {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
SEPARATOR = "zq"
"""A line that no rule reaches across, so that strings do not disturb each other."""


def _split(separator: str, text: str) -> list[str]:
    return text.split(separator)


PLAIN = _split(
    " ",
    "the a plane planes airport runway are on is many of building buildings green trees river road two "
    "white near with parked in and it's don't cannot gonna can't John's trees' US U.S. etc. Mr. Dr. St. "
    "a.m. No. no. Fig. Inc. Jan. J. K. e.g. vs. The It He There A This However X",
)
ODD = _split(
    " ",
    "I'd we've they'll O'Brien d'Artagnan ma'am y'all 'tis 'em 'cause 'til rock'n'roll '90s '05 "
    "well-known T-shaped 3-D mid-90s and/or n/a w/o C++ C# AT&T R&D ol' somethin' li'l ain't "
    "shouldn't've cont'd. Hawai'i c'mon j'ai l'homme Ph.D. B.C.-era non-U.S. 's n't o'clock cap'n café "
    "naïve Zürich déjà-vu Straße 北京 日本語 русский سلام שלום हिन्दी ไทย 한국어",
)
NUMBERS = _split(
    "|",
    "5|10|1,000|3.14|.5|-3|+7|1/2|1 1/2|2½|50%|$5|$1,000.00|£20|€30|US$5|5¢|10:30|10am|5km/h|5-6|"
    "1990-2000|1990s|20th|555-1234|(555) 555-1234|+1 555 555 1234|1.2.3|3x3|5m²|10°C|5'6\"|#1|No. 5|"
    "fig. 3|1e-5|12/31/1999|1-2/3|16:9",
)
MARKS = _split(
    " ",
    ". . . , , ; : ! ? - -- --- ... .... \" ' ` `` '' ( ) [ ] { } < > / \\ | @ # $ % ^ & * _ + = ~ – — … ‘ "
    "’ “ ” « » • ©",
)
LINKS = _split(
    "|",
    "http://foo.com|https://a.b/c?d=e&f|www.foo.com|www.a.co.uk/x|foo.com|foo.com/bar/|a@b.com|"
    'a.b@c.d.org|<a@b.c>|@user|#tag|foo.jpg|a_1.tif|5.png|<b>|</b>|<a href="x y">|<br/>|<!-- c -->|&amp;|'
    "&lt;|&quot;|&nbsp;|&apos;|&eacute;|&mdash;|&#39;|&copy;|:)|:-)|;)|:D|=)|^_^|(^_^)|-_-|<3|:'(|xD|:/|"
    ":3",
)
INVISIBLE = [
    *"\u00ad\u200b\u200d\ufeff\u00a0\u2003\u3000\u0301\u202e\ufe0f\x00\x01\x7f\x85\x92\x93\x96\ufffd\t",
    "😀",
    "🇺🇸",
]
LEVELS = ("captions", "odd words", "everything", "letter soup", "unicode soup", "ASCII soup")


def random_text(rng: random.Random, level: int) -> str:
    """One line of text, without a line break."""
    text = ""
    for _ in range(rng.randint(1, 12)):
        text += _piece(rng, level)
        if rng.random() < (0.85, 0.6, 0.45, 0.3, 0.1, 0.3)[level]:
            text += " "
    return " ".join(text.replace("\x85", "\x96").splitlines()) if level != 2 else text


def _piece(rng: random.Random, level: int) -> str:
    if level == 3:
        return "".join(rng.choice("aAbnstdlmoI05.,'-’/&:;()\"_@# ") for _ in range(rng.randint(1, 8)))
    if level == 4:
        spans = ((32, 126), (32, 126), (0xA0, 0x17F), (0x2000, 0x2027), (0x202A, 0xD7FF), (0xE000, 0xFFFF))
        spans += ((0x10000, 0x1FFFF),)
        return chr(rng.randint(*rng.choice(spans)))
    if level == 5:
        return "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 10)))
    pools = (PLAIN + (ODD if level else []), NUMBERS, MARKS, LINKS, INVISIBLE)
    weights = ((75, 10, 15, 0, 0), (50, 15, 25, 10, 0), (30, 15, 30, 15, 10))[level]
    return rng.choice(rng.choices(pools, weights)[0])


def java_lines(lines: list[str]) -> list[str]:
    """The lines that the Java program prints for a file of these lines."""
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the Java program is in pycocoevalcap: install the meteor extra")
    jar = Path(package.submodule_search_locations[0]) / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
        command = [
            "java",
            "-cp",
            str(jar),
            "edu.stanford.nlp.process.PTBTokenizer",
            "-preserveLines",
            "-lowerCase",
            str(path),
        ]
        printed = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout
    return printed.decode("utf-8").split("\n")


def observed(texts: list[str]) -> list[str]:
    """coco-caption's string for each text, each on a line of its own that nothing around it influences."""
    printed = java_lines([line for text in texts for line in (text, SEPARATOR)])
    assert printed[1 : 2 * len(texts) : 2] == [SEPARATOR] * len(texts), (
        "a text was printed as more or fewer than one line"
    )
    return [coco_string(line) for line in printed[0 : 2 * len(texts) : 2]]


def coco_string(line: str) -> str:
    """A printed line as coco-caption keeps it: its punctuation tokens left out."""
    return " ".join(word for word in line.rstrip().split(" ") if word not in DROPPED)


def main() -> None:
    rng = random.Random(20)
    texts = sorted({random_text(rng, level) for level in range(len(LEVELS)) for _ in range(200)})
    texts += [*ODD, *NUMBERS, *LINKS, *MARKS]
    rows = "\n,".join(json.dumps([text, string]) for text, string in zip(texts, observed(texts), strict=True))
    made_by = json.dumps("tests/scoring/java_oracle/ptb_oracle.py, from the output of CoreNLP 3.4.1 on Java 17")
    TABLE.write_text(f'{{"made_by": {made_by}, "rows": [\n{rows}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
