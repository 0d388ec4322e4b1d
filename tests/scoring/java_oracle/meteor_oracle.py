"""The original METEOR 1.5 as an oracle, driven as pycocoevalcap drives it; makes tests/scoring/meteor_table.json.

python tests/scoring/java_oracle/meteor_oracle.py       (needs Java and pycocoevalcap)
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

TABLE = Path(__file__).parents[1] / "meteor_table.json"


def _split(separator: str, text: str) -> list[str]:
    return text.split(separator)


def jar() -> Path:
    """The jar of the installed pycocoevalcap."""
    spec = importlib.util.find_spec("pycocoevalcap")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "meteor" / "meteor-1.5.jar"


def java_statistics(segments: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[list[int]], list[float], float]:
    """(the 23 counts of every (candidate, references), the score of each, the corpus score)."""
    command = ["java", "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jar()), "-", "-", "-stdio", "-l", "en", "-norm"]
    with subprocess.Popen(
        command,
        cwd=jar().parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as process:
        assert process.stdin
        assert process.stdout
        lines = []
        for candidate, references in segments:
            assert not any("|||" in text or "\n" in text for text in (candidate, *references))
            process.stdin.write(" ||| ".join(("SCORE", *references, candidate)) + "\n")
            process.stdin.flush()
            lines.append(process.stdout.readline().strip())
        process.stdin.write(" ||| ".join(("EVAL", *lines)) + "\n")
        process.stdin.flush()
        scores = [float(process.stdout.readline()) for _ in range(len(segments) + 1)]
        process.stdin.close()
    return [[int(float(number)) for number in line.split()] for line in lines], scores[:-1], scores[-1]


def java_tokens(texts: Sequence[str]) -> list[list[str]]:
    """What `-norm` makes of every text (no line breaks)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8", newline="")
        (folder / "reference").write_text("a\n" * len(texts), encoding="utf-8")
        files = [str(folder / "test"), str(folder / "reference")]
        options = ["-l", "en", "-norm", "-m", "exact", "-writeAlignments", "-f", str(folder / "out")]
        subprocess.run(
            ["java", "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jar()), *files, *options],
            check=True,
            capture_output=True,
        )
        alignments = (folder / "out-align.out").read_bytes().decode("utf-8")
    blocks = alignments.removeprefix("Alignment\t").split("\nAlignment\t")
    found = [[token for token in block.split("\n")[1].split(" ") if token] for block in blocks]
    assert len(found) == len(texts)
    return found


WORDS = _split(
    " ",
    "the a of is are in on with and to two three some many plane planes aircraft airport runway house houses home "
    "building buildings big large larger small road roads street highway river lake sea ocean water tree trees forest "
    "green white grey gray parked standing near beside next park playground field meadow grass lawn car cars vehicle "
    "vehicles there several piece pieces lots lot covered surrounded by around this that it has have one side",
)
SENTENCES = (
    "two large planes are parked next to the terminal of the airport",
    "a couple of big aircraft stand beside the airport building",
    "there are many white houses and some green trees on both sides of the road",
    "several homes and a lot of trees lie along each side of the street",
    "a river runs through the forest and a small bridge is over the river",
    "the stream goes through dense woodland with a bridge across it",
    "this is a piece of farmland with a pond in the middle",
    "a pond is in the center of some pieces of green farmlands",
    "the storage tanks are on the bare land next to the railway station",
    "some oil tanks near a station of the railways",
    "it is a very big stadium surrounded by roads and cars",
    "a lot of vehicles are around the large sports stadium",
    "the of and a in to",
    "is are was were been has have had",
    "Mr. Smith's two-storey house (no. 5) isn't near the U.S. embassy, is it?",
    "a cross-shaped church -- with a \u201cred\u201d roof \u2014 and 3.5 acres of lawn\u2026",
    "caf\u00e9 na\u00efve \u65e5\u672c \U0001f642 50% & $5,000 a/b",
    "it\u2019s snowing; it\u2018s raining \u2013 don't go!",
)
TEXTS = _split(
    "|",
    "Hello, world.|end.|U.S. is big.|Mr. Smith went to St. Louis.|mr. Smith|a.b.c|e.g. this|p.m."
    "|No. 5|No. five|no. 5|3.5.|.5"
    "|1,000,000.5|a,b|5,a|don't|cats'|'cats'|it's|5's|5'a|''x''|``x''|a-b|a--b|a---b|a-b-c|x-ray-5|a.-b|a-.b|a...b|..|U.S..."
    "|$5|50%|AT&T|&amp;|a_b|a@b.com|http://x.y/z?a=b|\u201cq\u201d|don\u2019t|a\u2013b|a\u2014b|\u2026|\u00ab q \u00bb"
    "|\u65e5\u672c\u3002x|5\u00b0C|\u00d7|\u00bd|\u20ac5|\U0001f642x|x\u00b2|a\u00a0b|a\u200bb|a\u3000b|\u0130stanbul"
    "|foo. bar|foo. Bar|foo.bar. baz|abc. def.|A. B. C.|etc. x|i.e. X|p.m. x|a.,b|a. ,|,--,b|'--'|-5|- 5|--|'|\"|.|,",
)


def pairs(seed: int, count: int) -> Iterator[tuple[str, list[str]]]:
    """Segments made to be hard: repeated words, near-synonyms, function words only, odd characters, empty texts."""
    rng = random.Random(seed)

    def text() -> str:
        kind = rng.random()
        if kind < 0.35:
            return rng.choice(SENTENCES)
        if kind < 0.45:
            return " ".join(rng.choice(TEXTS) for _ in range(rng.randint(1, 4)))
        if kind < 0.48:
            return ""
        vocabulary = rng.sample(WORDS, rng.randint(2, 14))
        words = [rng.choice(vocabulary) for _ in range(rng.randint(1, 22))]
        return " ".join(words)

    def changed(original: str) -> str:
        words = original.split()
        for _ in range(rng.randint(0, 4)):
            at = rng.randrange(len(words) + 1)
            words[at : at + rng.randint(0, 2)] = rng.sample(WORDS, rng.randint(0, 2))
        return " ".join(words)

    for _ in range(count):
        candidate = text()
        references = [changed(candidate) if rng.random() < 0.5 else text() for _ in range(rng.randint(1, 4))]
        yield candidate, references


def main() -> None:
    """Write the table."""
    segments = list(pairs(seed=15, count=300))
    counts, scores, corpus = java_statistics(segments)
    table = {
        "tokens": [[text, tokens] for text, tokens in zip(TEXTS, java_tokens(TEXTS), strict=True)],
        "segments": [
            {"candidate": candidate, "references": references, "statistics": own, "score": score}
            for (candidate, references), own, score in zip(segments, counts, scores, strict=True)
        ],
        "corpus": corpus,
    }
    TABLE.write_text(json.dumps(table, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
