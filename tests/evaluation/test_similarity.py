"""CLIP similarity: the numbers of transformers' CLIPModel, a signature that names the weights, and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel
from typer.testing import CliRunner

from rscap import scoring
from rscap.cli import app
from rscap.errors import DataError, ModelError
from rscap.evaluation.clip import METRIC, clip_similarity, images_of, load_clip
from rscap.records import Example
from rscap.sample import sample_examples
from rscap.store import SEEN, Seen, SeenImage, write_seen
from tiny_clip import write_tiny_clip

EXAMPLES = [example for example in sample_examples() if example.split == "test"][:5]
CAPTIONS = {example.id: example.captions[0].replace(" .", "") for example in EXAMPLES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP."""
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


def by_transformers(folder: Path, example: Example, caption: str) -> float:
    """The cosine of one pair by CLIPModel's own logits, which are the cosine times a learned scale."""
    model = CLIPModel.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)([caption], return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=[example.image.load()], return_tensors="pt")
    with torch.inference_mode():
        logits = model(**words, pixel_values=pixels["pixel_values"]).logits_per_image
        return float(logits[0, 0] / model.logit_scale.exp())


def test_scores_are_those_of_the_model_itself(folder: Path) -> None:
    """Together, padded to one length, every pair has the cosine that CLIPModel gives it alone; the mean has an
    interval, and the captions of other images fit otherwise."""
    sheet = clip_similarity(load_clip(folder, device="cpu"), CAPTIONS, EXAMPLES, draws=200)
    for example in EXAMPLES:
        expected = by_transformers(folder, example, CAPTIONS[example.id])
        assert sheet.items[example.id][METRIC] == pytest.approx(expected, abs=1e-5)
    values = [row[METRIC] for row in sheet.items.values()]
    assert sheet.corpus[METRIC] == pytest.approx(sum(values) / 5)
    low, high = sheet.intervals[METRIC]
    assert low <= sheet.corpus[METRIC] <= high
    assert len({round(value, 6) for value in values}) == 5
    assert sheet.extra["shuffled"] != pytest.approx(sheet.corpus[METRIC], abs=1e-6)


def test_the_signature_names_the_weights(folder: Path, tmp_path: Path) -> None:
    """Name, digest, resolution and tokens are in it; other weights have another, and the order of captions none."""
    clip = load_clip(folder, device="cpu")
    sheet = clip_similarity(clip, CAPTIONS, EXAMPLES, draws=0)
    for part in ("clip:tiny", f"rev:{clip.version}", "px:32", "tokens:77,cut:0", "n:5", "seen:unknown"):
        assert part in sheet.signature.split("|")
    backwards = clip_similarity(clip, dict(reversed(CAPTIONS.items())), EXAMPLES[::-1], draws=0)
    assert backwards == sheet
    other = write_tiny_clip(tmp_path / "tiny")
    model = CLIPModel.from_pretrained(other)
    with torch.no_grad():
        model.visual_projection.weight.mul_(1.5)
    model.save_pretrained(other)
    assert load_clip(other, device="cpu").version != clip.version


def test_a_caption_that_is_cut_off_is_told(tmp_path: Path, folder: Path) -> None:
    """What a CLIP does not read is counted and named: these captions have more letters than it has positions."""
    short = load_clip(write_tiny_clip(tmp_path / "short", tokens=8), device="cpu")
    captions = {**CAPTIONS, EXAMPLES[0].id: "a lake"}
    sheet = clip_similarity(short, captions, EXAMPLES, draws=0)
    assert sheet.extra["cut"] == sorted(example.id for example in EXAMPLES[1:])
    assert "tokens:8,cut:4" in sheet.signature.split("|")


def test_images_that_it_was_trained_on_are_marked(folder: Path, tmp_path: Path) -> None:
    """With the data of its training, or a table of them in its folder, the score says how many images it has seen; with
    another table nothing is said."""
    clip = load_clip(folder, device="cpu")
    train = [example for example in sample_examples() if example.split == "train"][:2]
    mixed = [*EXAMPLES, *train]
    captions = {example.id: example.captions[0] for example in mixed}
    marked = clip_similarity(clip, captions, mixed, trained_on="sample", draws=0)
    assert "seen:2/7" in marked.signature.split("|")
    assert marked.extra["seen"]["trained"] == 2
    own = write_tiny_clip(tmp_path / "tiny")
    write_seen(own / SEEN, Seen.of([SeenImage(EXAMPLES[0].id, None, None, True, False)]))
    found = clip_similarity(load_clip(own, device="cpu"), CAPTIONS, EXAMPLES, draws=0)
    assert "seen:1/5" in found.signature.split("|")
    write_seen(own / SEEN, Seen.of([SeenImage("another", None, None, True, False)]))
    assert "seen" not in clip_similarity(load_clip(own, device="cpu"), CAPTIONS, EXAMPLES, draws=0).signature


def test_what_is_no_clip_is_refused(folder: Path, tmp_path: Path) -> None:
    """A Hub name needs a commit and a folder has none; another model, and weights that are pickled, are refused."""
    with pytest.raises(ModelError, match="no revision of openai/clip-vit-base-patch32 is named"):
        load_clip("openai/clip-vit-base-patch32")
    with pytest.raises(ModelError, match="is a folder and has no revision"):
        load_clip(folder, revision="0" * 40)
    other = write_tiny_clip(tmp_path / "other")
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "model_type": "siglip"}), encoding="utf-8")
    with pytest.raises(ModelError, match="'siglip', not a CLIP"):
        load_clip(other)
    pickled = write_tiny_clip(tmp_path / "pickled")
    torch.save(CLIPModel.from_pretrained(pickled).state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="could not be loaded"):
        load_clip(pickled)


def test_ids_must_meet(folder: Path, tmp_path: Path) -> None:
    """A caption without an image and an image without a caption are named."""
    clip = load_clip(folder, device="cpu")
    with pytest.raises(DataError, match="1 ids have no image, such as 'elsewhere'"):
        clip_similarity(clip, {**CAPTIONS, "elsewhere": "a lake"}, EXAMPLES)
    with pytest.raises(DataError, match="1 ids have no caption"):
        clip_similarity(clip, {name: CAPTIONS[name] for name in list(CAPTIONS)[1:]}, EXAMPLES)
    with pytest.raises(DataError, match=r"1 captions have no image, such as .*lake.png"):
        images_of({"lake.png": "a lake"}, folder=tmp_path)


def test_the_command_scores_files_without_references(folder: Path, tmp_path: Path) -> None:
    """Captions of image files get scores, which `rscap compare` and `rscap score --foreign` take."""
    (tmp_path / "photos").mkdir()
    for example in EXAMPLES:
        example.image.load().save(tmp_path / "photos" / f"{example.id}.png")
    for name, shift in (("a", 0), ("b", 1)):
        texts = list(CAPTIONS.values())
        rows = [
            {"id": f"{example.id}.png", "caption": texts[(place + shift) % 5]} for place, example in enumerate(EXAMPLES)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        options = ["--clip", str(folder), "--images", str(tmp_path / "photos"), "--device", "cpu", "--draws", "200"]
        files = ["--out", str(tmp_path / f"{name}.json"), "--items", str(tmp_path / f"{name}.csv")]
        done = CliRunner().invoke(app, ["similarity", str(tmp_path / f"{name}.jsonl"), *options, *files])
        assert done.exit_code == 0, done.output
        assert f"{METRIC} " in done.output
        assert "with the caption of another image: " in done.output
    sheets = {name: scoring.read_sheet(tmp_path / f"{name}.json") for name in ("a", "b")}
    found = scoring.compare(sheets, METRIC, draws=200)
    assert found.differences[0].difference == pytest.approx(sheets["a"].corpus[METRIC] - sheets["b"].corpus[METRIC])
    (foreign,) = scoring.load_foreign(tmp_path / "a.csv")
    assert foreign.name == METRIC
    assert foreign.source.startswith("tiny ")
