"""Base models are loaded as asked, and the proof is read back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PaliGemmaForConditionalGeneration

import rscap
from recipes import small_recipe
from rscap import hub
from rscap.captioner.loading import recipe_of
from rscap.errors import ModelError
from rscap.model import load
from rscap.model.families import FAMILIES, paligemma
from rscap.model.families.paligemma import paligemma_config
from rscap.model.load import CHECKPOINTS, NANO, check_geometry, load_base, locate
from rscap.model.towers import count_parameters, tower_of
from rscap.planning.shapes import shapes_of_base
from rscap.recipe import ModelSection
from rscap.training import session


def quantised(net: torch.nn.Module) -> list[str]:
    return [name for name, module in net.named_modules() if type(module).__name__ == "Linear4bit"]


def test_the_built_in_model_is_whole_and_small() -> None:
    """Nano's weights are those of the committed digest, at most 15 MB in bfloat16, a genuine PaliGemma."""
    from rscap.provenance import file_digest

    weights = NANO / "model.safetensors"
    assert weights.stat().st_size <= 15_000_000
    assert (NANO / "model.safetensors.sha256").read_text(encoding="utf-8").split()[0] == file_digest(weights)
    base = load_base(ModelSection(base="nano", dtype="bfloat16"))
    assert type(base.model) is PaliGemmaForConditionalGeneration
    assert base.image_tokens == 64
    assert base.describe()["digest"] is not None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_held_in_the_dtype_that_was_asked_for(nano2: Path, dtype: Any) -> None:
    """Every parameter has the recipe's dtype and none learns."""
    base = load_base(ModelSection(base=str(nano2), dtype=dtype))
    assert {parameter.dtype for parameter in base.model.parameters()} == {getattr(torch, dtype)}
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


@pytest.mark.parametrize("base", ["nano", "nano2"])
def test_nf4_quantises_the_language_model_and_nothing_else(nano2: Path, base: str) -> None:
    """Its linear layers are NF4, double quantised, with bfloat16 products; all else stays bfloat16, not inflated."""
    source = "nano" if base == "nano" else str(nano2)
    loaded = load_base(ModelSection(base=source, dtype="bfloat16", quantisation="nf4"))
    names = quantised(loaded.model)
    assert len(names) == 7 * loaded.model.config.text_config.num_hidden_layers
    assert {tower_of(f"{name}.") for name in names} == {"language_model"}
    for name in names:
        module = loaded.model.get_submodule(name)
        assert (module.weight.quant_type, module.compute_dtype) == ("nf4", torch.bfloat16)
        assert module.weight.quant_state.nested
    floating = {p.dtype for p in loaded.model.parameters() if p.is_floating_point()}
    assert floating == {torch.bfloat16}


def test_other_towers_are_quantised_when_asked(nano2: Path) -> None:
    """model.quantise names the towers; the vision tower's layers then are 4-bit too."""
    section = ModelSection(base=str(nano2), quantisation="nf4", quantise=("vision_tower", "language_model"))
    towers = {tower_of(f"{name}.") for name in quantised(load_base(section).model)}
    assert towers == {"vision_tower", "language_model"}


def test_counts_do_not_shrink_when_weights_are_packed(nano2: Path) -> None:
    """Two 4-bit weights share a byte, but the tower still has the parameters it stands for."""
    plain = count_parameters(load_base(ModelSection(base=str(nano2))).model)
    packed = count_parameters(load_base(ModelSection(base=str(nano2), quantisation="nf4")).model)
    for tower, count in plain.items():
        assert (count.total, count.trainable) == (packed[tower].total, packed[tower].trainable)
        assert sum(count.held.values()) == sum(packed[tower].held.values()) == count.total
    assert "nf4" in packed["language_model"].held
    assert packed["vision_tower"].held == plain["vision_tower"].held


def test_a_swallowed_quantisation_option_is_noticed(nano2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt key leaves the library's default compute dtype in place; reading back finds it."""
    from transformers import BitsAndBytesConfig

    def misspelt(section: ModelSection, family: object) -> BitsAndBytesConfig:
        skipped = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, llm_int8_skip_modules=skipped
        )

    monkeypatch.setattr(load, "_quantisation", misspelt)
    with pytest.raises(ModelError, match=r"products in torch\.float32, expected nf4 and bfloat16"):
        load_base(ModelSection(base=str(nano2), quantisation="nf4"))


def test_known_checkpoints_are_pinned() -> None:
    """The two at 224 px that recipes name have a full commit hash; all of them a geometry of their own image size."""
    known = FAMILIES["paligemma"].checkpoints
    pinned = {name for name, checkpoint in known.items() if checkpoint.revision}
    assert pinned == {"google/paligemma-3b-pt-224", "google/paligemma2-3b-pt-224"}
    assert all(len(CHECKPOINTS[name].revision or "") == 40 for name in pinned)
    assert len(known) == 5 + 3 * 5
    for name, checkpoint in known.items():
        config = paligemma_config(checkpoint.geometry)
        assert config.text_config.vocab_size == 257216
        assert config.vision_config.image_size == int(name.rpartition("-")[2])
        assert config.text_config.num_image_tokens == (config.vision_config.image_size // 14) ** 2


PUBLISHED = {
    "google/paligemma-3b-pt-224": 2_923_335_408,
    "google/paligemma-3b-mix-448": 2_924_220_144,
    "google/paligemma-3b-pt-896": 2_927_759_088,
    "google/paligemma2-3b-pt-896": 3_036_518_640,
    "google/paligemma2-10b-pt-224": 9_662_409_456,
    "google/paligemma2-28b-pt-224": 27_650_192_112,
}
"""Parameters as KerasHub's presets of the same checkpoints state them, with 257,152 entries of the vocabulary; the
checkpoints on the Hub hold 64 unused ones more."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_geometries_have_the_parameters_that_were_published(name: str) -> None:
    """Widths, layers and image sizes add up to the published counts, to the parameter."""
    shapes = shapes_of_base(name)
    assert shapes.parameters - 64 * shapes.text.width == PUBLISHED[name]


def test_a_checkpoint_of_another_shape_is_refused(nano2: Path) -> None:
    """Each number that differs from the written geometry is named."""
    model = load_base(ModelSection(base=str(nano2))).model
    with pytest.raises(ModelError, match=r"text_config\.hidden_size is 128, expected 2304"):
        check_geometry(model, "paligemma2-3b")


def test_the_processor_of_the_original_repositories_is_read(tmp_path: Path) -> None:
    """A folder in the Hub's layout (preprocessor_config.json of SiglipImageProcessor) loads without torchvision."""
    folder = tmp_path / "base"
    shutil.copytree(NANO, folder)
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_convert_rgb": None,
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "image_processor_type": "SiglipImageProcessor",
                "image_seq_length": 64,
                "processor_class": "PaliGemmaProcessor",
                "resample": 3,
                "rescale_factor": 0.00392156862745098,
                "size": {"height": 224, "width": 224},
            }
        ),
        encoding="utf-8",
    )
    base = load_base(ModelSection(base=str(folder), dtype="float32"))
    assert base.image.resolution_px == 224


@pytest.mark.parametrize("name", ["no-such-folder", "./no/such", "/nowhere/model", "models/base.toml"])
def test_what_is_neither_folder_nor_hub_name_is_refused(name: str) -> None:
    """The error says which base models there are. A point in a Hub name begins no suffix of a file."""
    assert [locate(known) for known in CHECKPOINTS] == list(CHECKPOINTS)
    with pytest.raises(ModelError, match="neither a folder nor a Hub name") as caught:
        locate(name)
    assert "nano" in str(caught.value.hint)


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    """A folder without a model is named, with what it lacks."""
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_base(ModelSection(base=str(tmp_path)))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("You are trying to access a gated repo.\nAccess is restricted", "is gated and no token"),
        ("401 Client Error", "is gated and no token"),
        ("We couldn't connect to the Hub", "could not be loaded"),
    ],
)
def test_a_hub_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, message: str, expected: str) -> None:
    """Gated repositories ask for a licence and a token, other failures for the network; the name is in the message."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(message)

    monkeypatch.setattr(paligemma.PaliGemmaProcessor, "from_pretrained", refuse)
    with pytest.raises(ModelError, match=f"google/paligemma-3b-pt-224 {expected}") as caught:
        load_base(ModelSection(base="google/paligemma-3b-pt-224"))
    assert caught.value.hint


def test_the_pinned_revision_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known checkpoint is loaded at its pinned commit; a recipe's own revision wins."""
    asked: list[str | None] = []

    def note(*_: Any, revision: str | None = None, **__: Any) -> None:
        asked.append(revision)
        raise OSError("stop here")

    monkeypatch.setattr(paligemma.PaliGemmaProcessor, "from_pretrained", note)
    name = "google/paligemma2-3b-pt-224"
    for revision in (None, "abc"):
        with pytest.raises(ModelError):
            load_base(ModelSection(base=name, revision=revision))
    assert asked == [CHECKPOINTS[name].revision, "abc"]


def test_weights_are_read_onto_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantised or not, transformers is told the device, so no copy of the model lies in host memory; and it adds no
    hooks to the layers for it."""
    asked: list[Any] = []
    read = PaliGemmaForConditionalGeneration.from_pretrained

    def noting(*given: Any, **options: Any) -> Any:
        asked.append(options["device_map"])
        return read(*given, **options)

    monkeypatch.setattr(PaliGemmaForConditionalGeneration, "from_pretrained", noting)
    for way in ("none", "nf4"):
        base = load_base(ModelSection(base="nano", quantisation=way), device="cpu")
        assert not [name for name, module in base.model.named_modules() if hasattr(module, "_hf_hook")]
    assert asked == [{"": "cpu"}] * 2


COMMITS = ("1" * 40, "2" * 40)


@pytest.fixture
def on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """someone/nano in the Hub's cache, without a network; its main branch is at the first of two commits."""
    repository = tmp_path / "hub" / "models--someone--nano"
    for commit in COMMITS:
        shutil.copytree(NANO, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMITS[0], encoding="utf-8")
    (repository / "refs" / "small").write_text(COMMITS[1], encoding="utf-8")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for module in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(f"{module}.HF_HUB_OFFLINE", True)
    return repository / "refs"


def test_the_commit_of_any_base_on_the_hub_is_recorded(on_the_hub: Path) -> None:
    """Of the main branch, of a branch by name, and of a commit itself; a local folder has none."""
    loaded = {name: load_base(ModelSection(base="someone/nano", revision=name)) for name in (None, "small", *COMMITS)}
    assert [one.describe()["revision"] for one in loaded.values()] == [*COMMITS, *COMMITS]
    assert load_base(ModelSection(base="nano")).revision is None


def test_a_copy_that_is_used_for_want_of_the_hub_is_told_once(
    on_the_hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the Hub, the repository and the commit of the copy; with HF_HUB_OFFLINE nothing is said."""
    base = ModelSection(base="someone/nano")
    load_base(base)
    assert "cache" not in capsys.readouterr().err
    for module in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_known", None)
    monkeypatch.setattr(hub, "_told", set())
    monkeypatch.setattr(hub, "_ask", lambda: False)
    load_base(base)
    told = " ".join(capsys.readouterr().err.split())
    line = "someone/nano is loaded from the cache on this machine, commit"
    assert told.endswith(f"note: https://huggingface.co cannot be reached; {line} {COMMITS[0]}")
    load_base(base)
    assert "cannot be reached" not in capsys.readouterr().err


def test_a_run_keeps_the_commit_that_it_began_with(on_the_hub: Path, tmp_path: Path) -> None:
    """The branch moves; whoever loads the run, resumes it or evaluates it gets the commit that was recorded."""
    train = {"max_steps": 1, "micro_batch": 1}
    model = {"base": "someone/nano"}
    made = small_recipe({"data": {"train_limit": 2}, "model": model, "train": train})
    run = session.train(made, tmp_path / "run", say=lambda _: None)
    (on_the_hub / "main").write_text(COMMITS[1], encoding="utf-8")
    assert recipe_of(run).model.revision == COMMITS[0]
    assert rscap.load(run.path).base.revision == COMMITS[0]
    shutil.rmtree(run.adapter)  # so that there is something left to do
    run.close("interrupted")
    session.train(made, run.path, say=lambda _: None, resume=True)
    assert run.adapter.is_dir()
