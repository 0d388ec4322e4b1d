"""The `sentence` protocol against NLTK and rouge_score, which prior work used."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rscap import scoring
from rscap.scoring import porter, sentence
from rscap.scoring.corpus import Corpus

words = st.sampled_from(["a", "plane", "planes", "running", "Runway", ".", "two", "café", "42nd"])
texts = st.lists(words, max_size=9).map(" ".join)


@settings(deadline=None)
@given(texts, texts)
def test_sentence_bleu_is_nltks(candidate: str, reference: str) -> None:
    """BLEU-4 with method-1 smoothing equals NLTK's on any pair, short and empty candidates included."""
    module = pytest.importorskip("nltk.translate.bleu_score")
    expected = module.sentence_bleu(
        [reference.split()], candidate.split(), smoothing_function=module.SmoothingFunction().method1
    )
    ours = sentence.sentence_bleu(Corpus.build([candidate], [[reference]]))[0]
    assert ours == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(texts, texts)
def test_rouge_l_is_rouge_scores(candidate: str, reference: str) -> None:
    """ROUGE-L F1 with stemming equals rouge_score's."""
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=True)
    expected = scorer.score(reference, candidate)["rougeL"].fmeasure
    assert sentence.rouge_l_f1([candidate], [reference])[0] == pytest.approx(expected, abs=1e-12)


def test_the_stemmer_is_nltks() -> None:
    """20,000 generated words, every suffix of the algorithm among them, have NLTK's stem."""
    oracle = pytest.importorskip("nltk.stem.porter").PorterStemmer()
    rng = random.Random(1980)
    endings = ["logi", "ed", "ing", "ies", "ied", "eed", "s", "y", "e", "ll", "sses", ""]
    suffixes = [*porter._STEP_2, *porter._STEP_3, *porter._STEP_4, *endings]
    made = {
        "".join(rng.choices("aeiouybcdlstzwx", k=rng.randrange(6))) + rng.choice(suffixes) + rng.choice(suffixes)
        for _ in range(20_000)
    }
    made |= {*porter._IRREGULAR, "".join(string.ascii_lowercase)}
    assert [word for word in sorted(made) if porter.stem(word) != oracle.stem(word)] == []


def test_real_captions(real_data: Path) -> None:
    """Scores of 200 real predictions equal the means that NLTK and rouge_score give on the first reference."""
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=True)
    content = json.loads((real_data / "metrics-golden" / "nwpu_1500.json").read_text(encoding="utf-8"))
    ids = list(content["candidates"])[:200]
    candidates = {i: content["candidates"][i] for i in ids}
    references = {i: content["references"][i] for i in ids}
    sheet = scoring.score_captions(candidates, references, protocol="sentence", draws=0)
    method1 = bleu.SmoothingFunction().method1
    for i in ids:
        first = references[i][0]
        expected = bleu.sentence_bleu([first.split()], candidates[i].split(), smoothing_function=method1)
        assert sheet.items[i]["BLEU-4"] == pytest.approx(expected, abs=1e-12)
        assert sheet.items[i]["ROUGE-L"] == pytest.approx(
            scorer.score(first, candidates[i])["rougeL"].fmeasure, abs=1e-12
        )
    assert sheet.corpus["BLEU-4"] == pytest.approx(sum(item["BLEU-4"] for item in sheet.items.values()) / len(ids))
    assert set(sheet.corpus) == {"BLEU-4", "ROUGE-L"}
