"""Export: what is handed on says what the run says, is read by plain libraries, and carries a true card."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from stac_model.schema import MLModelProperties
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor, SmolVLMForConditionalGeneration

from rscap.captioner.loading import ModelRef
from rscap.data import open_source
from rscap.errors import AdapterError, ExportError, NotFinite, StoreError
from rscap.evaluation.outcome import Outcome, score_predictions, write_baselines, write_outcome
from rscap.evaluation.request import Request, evaluate, prepare
from rscap.exporting import request as export_request
from rscap.exporting.agreement import Agreement
from rscap.exporting.card import CardSubject, card, notice_of
from rscap.exporting.evaluation import place_evaluation
from rscap.exporting.hub import push
from rscap.exporting.reading import pictures
from rscap.exporting.request import Exported, ExportRequest, export
from rscap.model.families import FAMILIES
from rscap.model.load import NANO
from rscap.provenance import folder_digest
from rscap.recipe import Recipe, parse_recipe, read_recipe
from rscap.records import Prediction
from rscap.sample import sample_examples
from rscap.scoring import with_seen
from rscap.store import (
    CARRIED,
    MODEL_ITEM,
    BaseOrigin,
    DataOrigin,
    RunFolder,
    read_json,
    read_sheet,
    write_json,
    write_sheet,
)
from rscap.training.session import train
from rscap.verifying import verify
from schemas import problems

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"adapter": {"rank": 4}, "towers": {"projector": "trained"}},
    "dora": {
        "adapter": {"rank": 4, "weight_decomposed": True},
        "generate": {"max_new_tokens": 8, "beams": 3, "no_repeat_ngram": 2, "repetition_penalty": 1.3},
    },
    "whole": {"towers": dict.fromkeys(("vision_tower", "projector", "language_model"), "trained")},
    "nf4": {"adapter": {"rank": 4}, "model": {"base": "nano", "dtype": "bfloat16", "quantisation": "nf4"}},
}

PALIGEMMA = FAMILIES["paligemma"]


def silent(*_: Any) -> None:
    """Neither progress nor messages."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and ten validation images of the sample, as files beside a captions.csv."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    (folder / "images").mkdir(parents=True)
    examples = sample_examples()
    kept = [[example for example in examples if example.split == split][:n] for split, n in (("train", 8), ("val", 10))]
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["split", "image", *(f"caption_{number}" for number in range(1, 6))])
        for example in [*kept[0], *kept[1]]:
            example.image.load().save(folder / "images" / example.id)
            table.writerow([example.split, example.id, *example.captions])
    return folder


def recipe(source: Path | str, **sections: Any) -> Recipe:
    return parse_recipe(
        {
            "data": {"source": str(source)},
            "model": {"base": "nano", "dtype": "float32"},
            "train": {"max_steps": 2, "micro_batch": 4, "learning_rate": 3e-3, "epochs": 9},
            "generate": {"max_new_tokens": 8},
        }
        | sections
    )


def scored(run: RunFolder) -> None:
    """Leave what an evaluation leaves, with one caption for all images: no model is asked."""
    source = open_source(read_recipe(run.recipe_file).data.source)
    test, train_examples = source.split("val"), source.split("train")
    predictions = [
        Prediction(example_id=example.id, caption="a picture .", prefix="caption en", tokens=4, stopped="eos")
        for example in test
    ]
    sheet = score_predictions(predictions, test, train=train_examples, prefix="caption en", decode="greedy-8")
    write_outcome(run, "val", Outcome(predictions=predictions, rejected=[], sheet=sheet), test)
    write_baselines(run, "val", test=test, train=train_examples)


@pytest.fixture(scope="session")
def run_of(data: Path, smolnano: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs of two steps by kind, made when they are first asked for; the LoRA run has scores."""
    place = tmp_path_factory.mktemp("runs")
    second = {"model": {"base": str(smolnano), "dtype": "float32", "pretrained": False}}
    kinds = {**KINDS, "smol": KINDS["lora"] | second, "smol whole": KINDS["whole"] | second}

    def made(kind: str) -> Path:
        folder = place / kind
        if not folder.exists():
            train(recipe(data, **kinds[kind]), folder, say=silent)
            if kind == "lora":
                scored(RunFolder(folder))
        return folder

    return made


@pytest.fixture(scope="session")
def exported(run_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Exports by kind and form, made once."""
    place = tmp_path_factory.mktemp("exports")
    known: dict[tuple[str, Any], Exported] = {}

    def made(kind: str, form: Any = "merged") -> Exported:
        if (kind, form) not in known:
            request = ExportRequest(run=run_of(kind), out=place / f"{kind}-{form}", form=form, images=3)
            known[kind, form] = export(request, say=silent)
        return known[kind, form]

    return made


def front(folder: Path) -> dict[str, Any]:
    """The YAML front matter of a card."""
    _, block, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(block)


@pytest.mark.parametrize("kind", ["lora", "dora", "whole"])
def test_an_export_says_what_the_run_says(kind: str, exported: Callable[..., Exported]) -> None:
    """In float32 every caption is the same, and logits under it differ by rounding alone, far less than by training."""
    agreement = exported(kind).agreement
    assert agreement.count("same") == agreement.n == 3
    assert agreement.logit_difference < 1e-3
    assert (agreement.effect is None) == (kind == "whole")
    assert agreement.effect is None or agreement.effect > 0.1
    assert agreement.origin == "3 validation images of tiny"


@pytest.mark.parametrize("kind", ["lora", "whole", "nf4"])
def test_plain_transformers_reads_an_export(
    kind: str, exported: Callable[..., Exported], run_of: Callable[[str], Path]
) -> None:
    """Without rscap: no adapter key is left, no weight is missing, all are in the recipe's precision."""
    path = exported(kind).path
    model, loading = PaliGemmaForConditionalGeneration.from_pretrained(path, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    dtype = read_recipe(RunFolder(run_of(kind)).recipe_file).model.dtype
    assert {str(parameter.dtype) for parameter in model.parameters()} == {f"torch.{dtype}"}
    assert "quantization_config" not in read_json(path / "config.json")
    assert model.generation_config.max_new_tokens == 8
    assert PaliGemmaProcessor.from_pretrained(path).image_seq_length == 64
    names = {file.name for file in path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not any(name.startswith("adapter") for name in names)


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_an_export_is_asked_as_its_card_says(form: str, exported: Callable[..., Exported], tmp_path: Path) -> None:
    """Its words, precision and decode settings are the run's, an evaluation does not call it zero-shot, and it is not
    known which of the images it was trained on; a base model has none of this."""
    folder = exported("lora", form).path
    ref = ModelRef.of(str(folder))
    assert (ref.prefix, ref.section.dtype) == ("caption en", "float32")
    assert ref.generate == ref.exported
    assert ref.generate.max_new_tokens == 8
    with contextlib.chdir(tmp_path):
        request = Request(model=str(folder), source="sample", limit=2, baselines=False)
        task = prepare(request)
        assert task.out == Path("runs") / f"{folder.name}-test-2"
        _, sheets = evaluate(task, progress=lambda *_: None, say=silent)
    (sheet,) = sheets.values()
    assert "decode:greedy-8|" in sheet.signature
    assert sheet.extra["seen"]["unknown"] == "it is an export, without its run"
    assert ModelRef.of("nano").exported is None


@pytest.mark.parametrize(("kind", "form"), [("smol", "merged"), ("smol", "adapter"), ("smol whole", "merged")])
def test_a_second_family_is_exported_as_the_first(
    kind: str, form: str, exported: Callable[..., Exported], smolnano: Path
) -> None:
    """SmolVLM2: captions of run and export agree; the library's class reads the weights; the checkpoint's processor
    files are kept, but for splitting; the card names the family and asks through its chat template."""
    made = exported(kind, form)
    assert made.agreement.count("same") + made.agreement.count("near-tie") == made.agreement.n == 3
    text = (made.path / "README.md").read_text(encoding="utf-8")
    assert "smolvlm" in front(made.path)["tags"]
    assert "SmolVLMForConditionalGeneration.from_pretrained" in text
    assert "apply_chat_template" in text
    assert "PaliGemma" not in text
    if form == "adapter":
        return
    model, loading = SmolVLMForConditionalGeneration.from_pretrained(made.path, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert model.generation_config.max_new_tokens == 8
    assert read_json(made.path / "preprocessor_config.json")["do_image_splitting"] is False
    for name in ("chat_template.json", "processor_config.json"):
        assert (made.path / name).read_bytes() == (smolnano / name).read_bytes()


def test_merged_weights_are_base_plus_update(exported: Callable[..., Exported], run_of: Callable[[str], Path]) -> None:
    """W + alpha / r * B A, computed here by hand, and untouched where nothing was adapted."""
    run = run_of("lora")
    factors = load_file(run / "adapter" / "adapter_model.safetensors")
    base, found = load_file(NANO / "model.safetensors"), load_file(exported("lora").path / "model.safetensors")
    scale = read_json(run / "adapter" / "adapter_config.json")["lora_alpha"] / 4
    name = "model.language_model.layers.1.mlp.up_proj.weight"
    keys = {key.replace("language_model.model.", "model.language_model."): key for key in base}
    place = "base_model.model." + name.removesuffix(".weight")
    update = scale * factors[f"{place}.lora_B.weight"] @ factors[f"{place}.lora_A.weight"]
    stored = {key.replace("language_model.model.", "model.language_model."): value for key, value in found.items()}
    assert update.abs().max() > 1e-3
    assert torch.allclose(stored[name], base[keys[name]].float() + update, atol=1e-6)
    norm = "model.language_model.norm.weight"
    assert torch.equal(stored[norm], base[keys[norm]].float())


def test_a_quantised_run_is_merged_into_unquantised_weights(
    exported: Callable[..., Exported], run_of: Callable[[str], Path]
) -> None:
    """NF4: the export is the stored base, not rounded to 4 bits, plus the update; the card compares captions."""
    made = exported("nf4")
    found, base = load_file(made.path / "model.safetensors"), load_file(NANO / "model.safetensors")
    factors = load_file(run_of("nf4") / "adapter" / "adapter_model.safetensors")
    place = "model.language_model.layers.0.self_attn.q_proj"
    a, b = (factors[f"base_model.model.{place}.lora_{letter}.weight"] for letter in "AB")
    name = next(key for key in base if key.endswith("layers.0.self_attn.q_proj.weight") and "vision" not in key)
    wanted = (base[name].float() + 8.0 * b @ a).to(torch.bfloat16)
    scale = read_json(run_of("nf4") / "adapter" / "adapter_config.json")["lora_alpha"] / 4
    assert scale == 8.0
    there = next(key for key in found if key.endswith("layers.0.self_attn.q_proj.weight") and "vision" not in key)
    assert (found[there].float() - wanted.float()).abs().max() <= 2**-8 * wanted.abs().max()
    trained = made.agreement.as_trained
    assert trained is not None
    assert trained.quantisation == "nf4"
    assert trained.same is not None
    text = (made.path / "README.md").read_text(encoding="utf-8")
    assert f"The run as it was trained (nf4) gives the captions of the export on {trained.same} of 3" in text


@pytest.mark.parametrize("kind", ["lora", "nf4"])
def test_an_adapter_alone_is_peft_layout(kind: str, exported: Callable[..., Exported]) -> None:
    """The adapter's weights byte for byte, a configuration that names the base and no path of this machine, a card."""
    made = exported(kind, "adapter")
    assert {file.name for file in made.path.iterdir() if file.is_file()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        MODEL_ITEM,
    }
    configuration = (made.path / "adapter_config.json").read_text(encoding="utf-8")
    assert json.loads(configuration)["base_model_name_or_path"] == "nano"
    assert str(NANO) not in configuration
    assert made.agreement.count("different") == 0
    assert front(made.path)["library_name"] == "peft"


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize(("kind", "form"), [("lora", "merged"), ("whole", "merged"), ("lora", "adapter")])
def test_the_code_of_the_card_runs(
    kind: str,
    form: str,
    exported: Callable[..., Exported],
    run_of: Callable[[str], Path],
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Copied from the card, with folder and image filled in, it prints the caption that the run gives."""
    made = exported(kind, form)
    text = (made.path / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    example = open_source(data).subset("val", 3, 0)[0]
    program = code[1].replace("PATH_OR_NAME", str(made.path)).replace("image.jpg", str(data / "images" / example.id))
    from rscap.model.adapters import quiet_peft

    with quiet_peft():
        exec(compile(program, "card", "exec"), {})
    said = {item.example_id: item.before for item in made.agreement.items}
    assert capsys.readouterr().out.strip() == said[example.id]


def test_the_card_tells_scores_recipe_and_data(
    exported: Callable[..., Exported], run_of: Callable[[str], Path]
) -> None:
    """Intervals, n, signature, baselines, the recipe without its path, the digest, the agreement, a licence."""
    text = (exported("lora").path / "README.md").read_text(encoding="utf-8")
    run = RunFolder(run_of("lora"))
    sheet = read_json(run.scores("val"))
    low, high = sheet["intervals"]["CIDEr"]
    assert f"| CIDEr-D | {sheet['corpus']['CIDEr']:.3f} [{low:.3f}, {high:.3f}] |" in text
    assert sheet["signature"] in text
    assert "n = 10 images" in text
    assert "constant caption | nearest training image" in text
    assert "**Its CIDEr-D is not above that of: constant caption, nearest training image.**" in text
    toml = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert toml
    import tomllib

    written = read_recipe(run.recipe_file)
    assert Path(written.data.source).is_absolute()
    told = written.model_copy(update={"data": written.data.model_copy(update={"source": "tiny"})})
    assert parse_recipe(tomllib.loads(toml[1])) == told
    assert "Data: tiny, split scheme `official`" in text
    assert written.data.source not in text
    assert read_json(run.provenance_file)["data"]["digest"] in text
    for sentence in exported("lora").agreement.sentences():
        assert sentence in text
    assert "`caption en`" in text
    assert "greedy, with at most 8 tokens" in text
    assert "## Licence" in text
    assert str(NANO) not in text


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_a_catalogue_finds_the_model(form: str, exported: Callable[..., Exported]) -> None:
    """The STAC Item is valid by the schemas of STAC and of MLM and by stac-model; value scaling, weights and words are
    those of the model; every asset lies in the export."""
    done = exported("lora", form=form)
    item = read_json(done.path / MODEL_ITEM)
    assert problems("stac-mlm", item) == []
    assert problems("stac-item-item", item) == []
    told = MLModelProperties.model_validate(item["properties"])
    assert told.tasks == {"image-captioning"}
    pixels, _ = told.input
    processor = PaliGemmaProcessor.from_pretrained(NANO).image_processor
    assert pixels.input.shape == [-1, 3, processor.size["height"], processor.size["width"]]
    assert [(one["mean"], one["stddev"]) for one in item["properties"]["mlm:input"][0]["value_scaling"]] == [
        (255 * mean, 255 * std) for mean, std in zip(processor.image_mean, processor.image_std, strict=True)
    ]
    assert item["properties"]["mlm:hyperparameters"]["train.learning_rate"] == 3e-3
    assert item["properties"]["mlm:hyperparameters"]["prompt.prefix"] == "caption en"
    files = {Path(asset["href"]).name: asset for asset in item["assets"].values()}
    assert all((done.path / name).is_file() for name in files)
    weights = sum((done.path / name).stat().st_size for name in files if name.endswith(".safetensors"))
    assert item["properties"]["mlm:memory_size"] == weights > 0


def test_the_scores_of_a_card_can_be_computed_again(exported: Callable[..., Exported]) -> None:
    """Captions, references and sheets travel with the export, and the card says so."""
    folder = exported("lora").path
    assert "`rscap verify` on this folder computes them again" in (folder / "README.md").read_text(encoding="utf-8")
    found = verify(folder)
    assert found.holds, found
    assert found.kind == "card"
    assert len(found.checked) == 4  # of the run, of two baselines, and the card


def test_an_adapted_vision_tower_has_names_that_older_libraries_read(data: Path, tmp_path: Path) -> None:
    """The adapter has the key names of transformers 4.5x, captions as the run does, and the card says what it needs."""
    table = recipe(data, adapter={"rank": 2}, towers={"vision_tower": "adapted"})
    train(table, tmp_path / "run", say=silent)
    made = export(ExportRequest(run=tmp_path / "run", out=tmp_path / "out", form="adapter", images=1), say=silent)
    assert made.agreement.count("same") == 1
    keys = load_file(made.path / "adapter_model.safetensors").keys()
    assert any(".vision_tower.vision_model.encoder." in key for key in keys)
    card = (made.path / "README.md").read_text(encoding="utf-8")
    assert "This adapter needs transformers 4.52 or later (tried with 4.57.1 and 5.23) and PEFT 0.21 or later." in card


def test_the_card_of_a_marked_run_warns(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """An export of a run that was scored on images it had seen says so, and that can be verified."""
    run = RunFolder(shutil.copytree(run_of("lora"), tmp_path / "marked"))
    marked = with_seen(read_sheet(run.scores("val")), {"of": 10, "trained": 4, "selected": 0, "alike": 0})
    write_sheet(run.scores("val"), marked)
    made = export(ExportRequest(run=run.path, out=tmp_path / "export", form="adapter", images=1), say=silent)
    card = (made.path / "README.md").read_text(encoding="utf-8")
    assert "**This model was trained on 4 of the 10 images scored" in card
    assert "|seen:4/10`" in card
    assert verify(made.path).holds


@pytest.mark.parametrize(
    ("public", "wanted", "address", "there"),
    [
        (False, None, None, True),
        (True, None, None, False),
        (True, True, None, True),
        (False, None, "https://example.org", False),
    ],
)
def test_references_go_into_a_public_upload_only_if_asked_for(
    public: bool, wanted: bool | None, address: str | None, there: bool, run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """They are others'; a private upload has them, and an address in their place stands on the card."""
    run = RunFolder(run_of("lora"))
    found = place_evaluation(run, tmp_path, wanted=wanted, address=address, public=public, say=silent)
    assert found == (CARRIED if there else address)
    assert (tmp_path / CARRIED).is_dir() is there


def test_the_front_matter_is_what_hubs_read(exported: Callable[..., Exported]) -> None:
    """YAML that huggingface_hub reads back; what is not known (a Hub name of nano) is left out."""
    from huggingface_hub import ModelCard

    data = ModelCard.load(exported("lora").path / "README.md").data
    assert (data.language, data.pipeline_tag, data.library_name) == ("en", "image-to-text", "transformers")
    assert data.license == "apache-2.0"
    assert data.base_model is None
    assert {"remote-sensing", "lora"} <= set(data.tags)


def test_a_card_of_a_gemma_model_names_base_revision_and_terms(
    exported: Callable[..., Exported], run_of: Callable[[str], Path]
) -> None:
    """google/paligemma: licence gemma, base model and revision, relation, the data's Hub page; scores of NF4 say so."""
    run = RunFolder(run_of("lora"))
    known = CardSubject.of(
        run, read_recipe(run.recipe_file), exported("lora").agreement, PALIGEMMA, form="merged", dtype="bfloat16"
    )
    model = {"base": "google/paligemma-3b-pt-224", "quantisation": "nf4", "dtype": "bfloat16"}
    subject = replace(
        known,
        recipe=recipe("caglarmert/full_riscm", model=model, adapter={"rank": 4}),
        provenance=known.provenance.model_copy(
            update={
                "base": BaseOrigin(name=str(model["base"]), revision="35e4f464", digest=None),
                "data": DataOrigin(name="caglarmert/full_riscm", digest="ab" * 32, split_scheme="seed42"),
            }
        ),
    )
    text = card(subject)
    data = yaml.safe_load(text.split("---\n")[1])
    assert data["license"] == "gemma"
    assert data["base_model"] == "google/paligemma-3b-pt-224"
    assert data["base_model_relation"] == "finetune"
    assert data["datasets"] == "caglarmert/full_riscm"
    assert "at revision `35e4f464`" in text
    assert "ai.google.dev/gemma/terms" in text
    assert "quantised to nf4. The weights here are merged into the unquantised base model" in text
    alone = card(replace(subject, form="adapter"))
    assert 'from_pretrained(base, revision="35e4f464", dtype=torch.bfloat16)' in alone
    assert 'base = "google/paligemma-3b-pt-224"' in alone
    notice = notice_of("google/paligemma-3b-pt-224")
    assert notice
    assert notice.startswith("Gemma is provided under and subject to the Gemma Terms of Use")


def test_a_run_without_scores_says_so(exported: Callable[..., Exported]) -> None:
    """A card of a run that was never evaluated claims nothing."""
    text = (exported("dora").path / "README.md").read_text(encoding="utf-8")
    assert "This run was not evaluated" in text
    assert "CIDEr-D |" not in text


def unlearned(net: Any, dtype: torch.dtype) -> Any:
    """A merge that forgets the adapter."""
    return net.unload().to(dtype)


def test_a_merge_that_loses_the_adapter_is_refused(
    run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base alone in place of the merged model: the captions may be the same, logits are not; nothing is left."""
    monkeypatch.setattr(export_request, "merged", unlearned)
    with pytest.raises(
        ExportError, match=r"[0-3] of 3 captions agree.*difference is \d\.\d+, rounding explains 0\.0\d+"
    ) as caught:
        export(ExportRequest(run=run_of("lora"), out=tmp_path / "out", images=3), say=silent)
    assert "--adapter-only" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_the_share_that_must_agree_can_be_lowered(
    run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a share of 0 the same export is written, and its card tells how far it is off."""
    monkeypatch.setattr(export_request, "merged", unlearned)
    made = export(ExportRequest(run=run_of("lora"), out=tmp_path / "out", images=4, agree=0.0), say=silent)
    assert made.agreement.logit_difference > made.agreement.limit
    assert f"logit difference is {made.agreement.logit_difference:.2g}; switching the adapter off" in (
        made.path / "README.md"
    ).read_text(encoding="utf-8")


def test_an_existing_target_is_refused_before_anything_is_loaded(
    run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there stays as it is."""
    monkeypatch.setattr(export_request.ModelRef, "load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "precious").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match="exists and is not an empty folder"):
        export(ExportRequest(run=run_of("lora"), out=tmp_path), say=silent)
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]


def test_only_a_finished_run_is_exported(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """A run that failed, a zero-shot folder and a folder that is no run are named as what they are."""
    failed = Path(shutil.copytree(run_of("lora"), tmp_path / "failed"))
    RunFolder(failed).close("failed")
    with pytest.raises(StoreError, match="is 'failed', not finished"):
        export(ExportRequest(run=failed), say=silent)
    zero = RunFolder.create(tmp_path / "zero")
    zero.close("finished")
    with pytest.raises(StoreError, match="trained no model"):
        export(ExportRequest(run=zero.path), say=silent)
    with pytest.raises(StoreError, match="is not a run folder"):
        export(ExportRequest(run=tmp_path), say=silent)


def test_forms_that_a_run_does_not_have_are_refused(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """No adapter to export alone where towers were trained whole; no other precision for an adapter."""
    with pytest.raises(AdapterError, match="has no adapter"):
        export(ExportRequest(run=run_of("whole"), out=tmp_path / "x", form="adapter"), say=silent)
    with pytest.raises(ExportError, match="--dtype is for merged weights"):
        export(ExportRequest(run=run_of("lora"), out=tmp_path / "x", form="adapter", dtype="float16"), say=silent)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_weight_is_in_the_precision_asked_for(dtype: Any, run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """A float32 run exported in 16 bits: half the bytes, captions the same or parted at a near-tie."""
    made = export(ExportRequest(run=run_of("lora"), out=tmp_path / "out", dtype=dtype, images=3), say=silent)
    assert {value.dtype for value in load_file(made.path / "model.safetensors").values()} == {getattr(torch, dtype)}
    assert made.agreement.precision == getattr(torch, dtype)
    assert made.agreement.count("different") == 0
    assert read_json(made.path / "config.json")["dtype"] == dtype
    assert (made.path / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_damaged_weights_are_not_merged(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """A NaN in an adapter stops the export; nothing is left."""
    run = Path(shutil.copytree(run_of("dora"), tmp_path / "run"))
    file = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    next(value for key, value in weights.items() if "lora_B" in key)[0, 0] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    write_json(run / "status.json", {"state": "finished"})  # as if training had written them
    with pytest.raises(NotFinite, match="lora_B"):
        export(ExportRequest(run=run, out=tmp_path / "out", images=2), say=silent)
    assert not (tmp_path / "out").exists()


def test_pictures_fall_back_to_what_the_run_folder_keeps(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Validation images of the run's data; without the data the panel of its evaluation; without that the sample."""
    run = RunFolder(run_of("lora"))
    made = read_recipe(run.recipe_file)
    shown = pictures(run, made, 5)
    assert shown.origin == "5 validation images of tiny"
    assert {example.split for example in shown.examples} == {"val"}
    gone = recipe(tmp_path / "gone", **KINDS["lora"])
    kept = pictures(run, gone, 5)
    assert kept.origin == "5 val images that the run folder keeps"
    assert [example.image.load().size for example in kept.examples] == [(224, 224)] * 5
    bare = RunFolder.create(tmp_path / "bare")
    assert "built-in sample" in pictures(bare, gone, 3).origin


class StandIn:
    """The Hub, as far as an upload sees it; keeps what it is given."""

    def __init__(self, files: dict[str, list[str]] | None = None, error: Exception | None = None) -> None:
        self.files, self.error = files or {}, error
        self.private: dict[str, bool] = {}
        self.uploaded: dict[str, set[str]] = {}

    def whoami(self) -> dict[str, str]:
        if self.error:
            raise self.error
        return {"name": "me"}

    def repo_exists(self, repo_id: str) -> bool:
        return repo_id in self.files

    def list_repo_files(self, repo_id: str) -> list[str]:
        return self.files[repo_id]

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.private[repo_id] = private

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.uploaded[repo_id] = {file.name for file in Path(folder_path).iterdir()}


def test_an_export_is_pushed_whole_and_private(
    run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file, a Gemma model's NOTICE too, to a repository that is private unless asked otherwise."""
    notice = notice_of("google/paligemma-3b-pt-224")
    monkeypatch.setattr(export_request, "notice_of", lambda _: notice)
    hub = StandIn({"me/planes": [".gitattributes"]})
    before = folder_digest(run_of("lora"))
    request = ExportRequest(run=run_of("lora"), out=tmp_path / "out", form="adapter", images=1, push_to="me/planes")
    made = export(request, say=silent, hub=hub)
    assert made.address == "https://huggingface.co/me/planes"
    assert hub.uploaded["me/planes"] == {file.name for file in made.path.iterdir()}
    assert hub.private["me/planes"] is True
    assert (made.path / "NOTICE").read_text(encoding="utf-8") == notice
    assert folder_digest(run_of("lora")) == before
    push(hub, made.path, "me/open", public=True)
    assert hub.private["me/open"] is False


def test_a_damaged_run_folder_is_named(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """A parameters.json that is something else is an error of the store, not a traceback."""
    run = Path(shutil.copytree(run_of("dora"), tmp_path / "run"))
    (run / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    agreement = Agreement(origin="", precision=torch.float32, items=(), effect=None)
    with pytest.raises(StoreError, match=r"is damaged|is not"):
        CardSubject.of(
            RunFolder(run),
            read_recipe(RunFolder(run).recipe_file),
            agreement,
            PALIGEMMA,
            form="merged",
            dtype="float32",
        )
    write_json(run / "adapter" / "adapter_config.json", {"peft_type": "VERA"})
    subject = CardSubject.of(
        RunFolder(run), read_recipe(RunFolder(run).recipe_file), agreement, PALIGEMMA, form="merged", dtype="float32"
    )
    assert subject.method == "VERA"


def test_the_hub_is_asked_before_the_work(
    run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that cannot succeed costs no minutes: nothing is loaded, nothing is written."""
    monkeypatch.setattr(export_request.ModelRef, "load", lambda *_, **__: pytest.fail("loaded"))
    hub = StandIn({"me/planes": ["model.safetensors"]})
    with pytest.raises(ExportError, match="holds 1 files on the Hub already"):
        export(ExportRequest(run=run_of("lora"), out=tmp_path / "out", push_to="me/planes"), say=silent, hub=hub)
    assert list(tmp_path.iterdir()) == []
