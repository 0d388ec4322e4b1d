"""The tables: found in the installed package, indexed once, safe against damage and against several builders."""

from __future__ import annotations

import gzip
import importlib.util
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from rscap.errors import ScoreError
from rscap.scoring.meteor import Meteor, MeteorUnavailable, index, scorer
from rscap.scoring.meteor.index import MeteorFiles
from rscap.scoring.meteor.lexicon import Lexicon
from rscap.scoring.meteor.matching import Phrases

SYNSETS = {
    "abode": "1 2",
    "home": "1 3",
    "be": "7",
    "exist": "7",
    "goose": "9",
    "anser": "9",
    "lot_of": "4",
    "gee": "5",
}
EXCEPTIONS = {"be": "is are", "goose": "geese", "unknown": "gees"}
PARAPHRASES = [("next to", "beside"), ("next to", "near"), ("beside", "next to"), ("close", "near the café")]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeteorFiles:
    """A small set of tables in the layout of the published ones."""
    monkeypatch.setenv("RSCAP_CACHE", str(tmp_path / "cache"))
    jar, paraphrases = tmp_path / "meteor-1.5.jar", tmp_path / "paraphrase-en.gz"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("function/english.words", "the\na\n’\n")
        archive.writestr("nonbreaking/english.prefixes", "#note\nMr\nNo #NUMERIC_ONLY#\n")
        archive.writestr("synonym/english.synsets", "".join(f"{word}\n{ids}\n" for word, ids in SYNSETS.items()))
        archive.writestr(
            "synonym/english.exceptions", "".join(f"{word}\n{forms}\n" for word, forms in EXCEPTIONS.items())
        )
    with gzip.open(paraphrases, "wt", encoding="utf-8") as stream:
        stream.write("".join(f"0.1\n{phrase}\n{other}\n" for phrase, other in PARAPHRASES))
    return MeteorFiles(jar=jar, paraphrases=paraphrases)


def load(source: MeteorFiles) -> tuple[int, ...]:
    """Build or open, and say what is there."""
    return tuple(index.load(source).paraphrase_targets.tolist())


def test_the_index_holds_what_the_tables_hold(source: MeteorFiles) -> None:
    """Words, base forms, synsets and paraphrases come back from the arrays as they stand in the files."""
    opened = index.load(source)
    assert opened.function_words == {"the", "a", "’"}
    lexicon = Lexicon(opened)
    expected = {"home": {1, 3}, "is": {7}, "geese": {9}, "homes": {1, 3}, "gees": set(), "lot_of": set(), "es": set()}
    assert {word: lexicon.synsets(word) for word in expected} == expected
    phrases = Phrases(opened)
    words = [
        lexicon.phrase_word[lexicon.number(word)] for word in ["close", "next", "to", "near", "the", "café", "beside"]
    ]
    ((places, spans),) = phrases.find([words])
    assert [(start, length) for start, length, _ in spans] == [(0, 1), (1, 2), (6, 1)]
    near, longer, beside = (
        next(node for node in places if places[node] == 1 << start and phrases._lengths[node] == length)
        for start, length in ((3, 1), (3, 3), (6, 1))
    )
    assert [list(phrases._ranks[node]) for _, _, node in spans] == [[longer], [beside, near], [spans[1][2]]]


def test_a_later_start_maps_the_arrays(source: MeteorFiles) -> None:
    """The second load reads the same folder and leaves the arrays on disk; other tables get another folder."""
    index.load(source)
    folder = next(index.cache_folder().glob("meteor-*"))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    opened = index.load(source)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert isinstance(opened.phrase_keys, np.memmap)
    with gzip.open(source.paraphrases, "at", encoding="utf-8") as stream:
        stream.write("0.1\nnear\nclose\n")
    assert len(index.load(source).paraphrase_targets) == len(PARAPHRASES) + 1
    assert len(list(index.cache_folder().glob("meteor-*"))) == 2


@pytest.mark.parametrize("name", ["phrase_keys.npy", "meta.json", "synset_ids.npy"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_index_is_built_anew(source: MeteorFiles, name: str, damage: str) -> None:
    """A file that is missing or too short makes the next start build the index again."""
    whole = load(source)
    path = next(index.cache_folder().glob("meteor-*")) / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    assert load(source) == whole
    assert [folder.name for folder in index.cache_folder().iterdir()] == [path.parent.name]  # nothing is left behind


def test_several_processes_build_at_once(source: MeteorFiles) -> None:
    """Processes that start together end with one whole index and no leftovers."""
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        found = {tuple(opened.paraphrase_targets.tolist()) for opened in pool.map(index.load, [source] * 8)}
    assert found == {load(source)}
    assert len(list(index.cache_folder().iterdir())) == 1


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pycocoevalcap METEOR is unavailable, and the error says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    scorer._tables.cache_clear()
    with pytest.raises(MeteorUnavailable, match=r"pip install 'rscap\[meteor\]'") as caught:
        Meteor()
    assert isinstance(caught.value, ScoreError)


def test_damaged_tables(source: MeteorFiles) -> None:
    """A jar that is no zip file, lacks a table, or a cut paraphrase file is an error that names the file."""
    source.paraphrases.write_bytes(source.paraphrases.read_bytes()[:-9])
    with pytest.raises(MeteorUnavailable, match=r"paraphrase-en\.gz is damaged"):
        index.load(source)
    with zipfile.ZipFile(source.jar, "w") as archive:
        archive.writestr("function/english.words", "the\n")
    with pytest.raises(MeteorUnavailable, match=r"meteor-1\.5\.jar does not hold METEOR 1\.5"):
        index.load(source)
    source.jar.write_bytes(b"no zip")
    with pytest.raises(MeteorUnavailable, match=r"meteor-1\.5\.jar does not hold METEOR 1\.5"):
        index.load(source)
