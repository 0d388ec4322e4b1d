"""Adapters of other programs: names of any transformers since 4.4x, loaded whole or refused, and asked like a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

import rscap
from rscap.captioner import Captioner, ModelRef
from rscap.cli import app
from rscap.data import open_source
from rscap.errors import AdapterError, RecipeError
from rscap.model.adapters import (
    find_adapter,
    least_transformers,
    load_foreign,
    make_portable,
    portable_name,
    quiet_peft,
)
from rscap.model.load import NANO, load_base
from rscap.model.packed import PackedModel
from rscap.recipe import ModelSection
from rscap.records import Prediction

SECTION = ModelSection(base="nano", dtype="float32")
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""What prior work B adapted: by name alone, so SigLIP's q, k and v as well."""
WHOLE = 4 * 7 * 2 + 4 * 3 * 2
"""Tensors: four layers of nano's language model and four of its vision tower, A and B each."""


def since_4_4(name: str) -> str:
    """As transformers 4.44 calls it."""
    name = portable_name(name).replace("model.language_model.", "language_model.model.")
    return name.replace("model.vision_tower.", "vision_tower.").replace("model.multi_modal", "multi_modal")


NAMES: dict[str, Callable[[str], str]] = {"4.4x": since_4_4, "4.5x": portable_name, "5.x": str}


def rename(folder: Path, how: Callable[[str], str]) -> None:
    """Write the keys as another version of transformers calls its modules."""
    file, prefix = folder / "adapter_model.safetensors", "base_model.model."
    state = {prefix + how(key.removeprefix(prefix)): value for key, value in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Adapters as plain PEFT saves them around nano, with weights that change captions."""
    place = tmp_path_factory.mktemp("adapters")

    def make(name: str, version: str = "5.x", **config: Any) -> Path:
        folder = place / f"{name}-{version}"
        if not folder.exists():
            torch.manual_seed(3)
            with quiet_peft():
                settings = {"r": 4, "target_modules": SEVEN, "use_rslora": True, "init_lora_weights": False, **config}
                net = get_peft_model(load_base(SECTION).model, LoraConfig(**settings))
                net.save_pretrained(folder)
            rename(folder, NAMES[version])
            configure(folder, base_model_name_or_path="nano")
        return folder

    return make


def weights(net: Any) -> list[Tensor]:
    return [value for name, value in net.named_parameters() if ".lora_" in name]


def captions(captioner: Captioner) -> list[str]:
    images = open_source("sample").split("test")[:6]
    return [item.caption for item in captioner.predictions(images) if isinstance(item, Prediction)]


@pytest.mark.parametrize("version", NAMES)
def test_an_adapter_like_that_of_prior_work_b_loads_whole(version: str, made: Callable[..., Path]) -> None:
    """Seven names, so the vision tower's too: every tensor is where PEFT trained it, whatever it was called."""
    expected = load_file(made("b") / "adapter_model.safetensors")
    adapter = find_adapter(str(made("b", version)))
    assert adapter is not None
    net = load_foreign(load_base(SECTION).model, adapter)
    found = {name.replace(".default", ""): value for name, value in net.named_parameters() if ".lora_" in name}
    assert len(found) == WHOLE
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_it_captions_as_plain_peft_does(made: Callable[..., Path]) -> None:
    """The captioner over 4.4x names gives the captions of PEFT over the same weights, which are not the base's."""
    captioner = rscap.load(made("b", "4.4x"), dtype="float32", device="cpu")
    with quiet_peft():
        net = PeftModel.from_pretrained(load_base(SECTION).model, made("b"))
    packed = PackedModel(net.eval(), compute_dtype=torch.float32)
    plain = Captioner(packed, captioner.encoder, prefix=captioner.prefix)
    said = captions(captioner)
    assert said == captions(plain)
    assert said != captions(rscap.load("nano", dtype="float32", device="cpu"))


def test_merged_captions_are_those_of_the_adapter_in_float32(made: Callable[..., Path]) -> None:
    """`merged=True` puts the adapter into the weights: no layer carries it any more, and it says the same."""
    merged = rscap.load(made("b"), dtype="float32", device="cpu", merged=True)
    assert not hasattr(merged.packed.net, "peft_config")
    assert captions(merged) == captions(rscap.load(made("b"), dtype="float32", device="cpu"))
    with pytest.raises(AdapterError, match="no adapter that could be merged"):
        rscap.load("nano", dtype="float32", device="cpu", merged=True)


@pytest.mark.parametrize("version", NAMES)
def test_a_trained_projector_and_a_regular_expression_of_old_names_are_found(
    version: str, made: Callable[..., Path]
) -> None:
    """`modules_to_save`, layers by an expression or by full path, ranks by layer, under the names of each version."""
    layer, projector = (NAMES[version](name) for name in (LAYER, "model.multi_modal_projector.linear"))
    settings = {
        "target_modules": [LAYER, "model.vision_tower.encoder.layers.0.self_attn.q_proj"],
        "rank_pattern": {LAYER: 2},
        "modules_to_save": ["multi_modal_projector.linear"],
    }
    expected = load_file(made("mixed", **settings) / "adapter_model.safetensors")
    folder = made("mixed", version, **settings)
    configure(
        folder,
        target_modules=re.escape(layer) + r"|.*vision_tower\..*layers\.0\.self_attn\.q_proj",
        rank_pattern={layer: 2},
        modules_to_save=[projector.removeprefix("model.")],
    )
    adapter = find_adapter(str(folder))
    assert adapter is not None
    net = load_foreign(load_base(SECTION).model, adapter)
    assert sorted(len(value) for value in weights(net) if len(value) < 9) == [2, 4]
    saved = [value for name, value in net.named_parameters() if ".modules_to_save." in name]
    assert len(saved) == 2
    assert all(any(torch.equal(one, value) for value in expected.values()) for one in saved)


LAYER = "model.language_model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("drop", "named"),
    [("vision_tower", "missing: \n    base_model.model.model.vision_tower.encoder.layers.0,1,2,3.self_attn"), ("", "")],
)
def test_a_tower_that_would_be_lost_is_an_error(
    drop: str, named: str, made: Callable[..., Path], tmp_path: Path
) -> None:
    """Weights that the configuration wants and the file lacks, or has beside: named, never warned of and gone on."""
    folder = Path(shutil.copytree(made("b"), tmp_path / "broken"))
    file = folder / "adapter_model.safetensors"
    state = load_file(file)
    if drop:
        state = {key: value for key, value in state.items() if drop not in key}
    else:
        state["base_model.model.model.language_model.blocks.0.q_proj.lora_A.weight"] = torch.zeros(4, 4)
        named = "unexpected: \n    base_model.model.model.language_model.blocks.0.q_proj"
    save_file(state, file, metadata={"format": "pt"})
    adapter = find_adapter(str(folder))
    assert adapter is not None
    with pytest.raises(AdapterError) as refused:
        load_foreign(load_base(SECTION).model, adapter)
    assert named in str(refused.value)


def test_what_cannot_be_used_is_refused_before_anything_is_loaded(made: Callable[..., Path], tmp_path: Path) -> None:
    """A pickle, no weights, prompt tuning, layers that the base lacks, a base that is not there."""
    folder = Path(shutil.copytree(made("b"), tmp_path / "one"))
    configure(folder, base_model_name_or_path="/nowhere/paligemma")
    with pytest.raises(AdapterError, match="a folder that is not there"):
        ModelRef.of(str(folder))
    assert ModelRef.of(str(folder), base="nano").section.base == "nano"
    configure(folder, peft_type="PROMPT_TUNING")
    with pytest.raises(AdapterError, match="PROMPT_TUNING, which rscap does not load"):
        ModelRef.of(str(folder))
    configure(folder, peft_type="LORA", target_modules=["wq"], base_model_name_or_path="nano")
    with pytest.raises(AdapterError, match="adapts wq, which the base model"):
        ModelRef.of(str(folder), dtype="float32").load("cpu")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="a pickle") as refused:
        ModelRef.of(str(folder))
    assert "adapter_model.safetensors" in (refused.value.hint or "")
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(AdapterError, match=r"no adapter_model\.safetensors"):
        ModelRef.of(str(folder))
    with pytest.raises(RecipeError, match="is no adapter"):
        ModelRef.of("nano", base=str(NANO))


def test_an_adapter_stands_in_one_table_with_a_base_paired_and_marked(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    """Its training images are not known, which signature, sheet and page say; the comparison is paired all the same."""
    asked: dict[str, Any] = {"data": "sample", "limit": 8, "dtype": "float32", "baselines": False, "progress": False}
    theirs = rscap.evaluate(made("b", "4.4x"), out=tmp_path / "b", max_new_tokens=8, **asked)
    merged = rscap.evaluate(made("b", "4.4x"), out=tmp_path / "m", merged=True, max_new_tokens=8, **asked)
    rscap.evaluate("nano", out=tmp_path / "nano", max_new_tokens=8, **asked)
    assert theirs.signature.endswith("|seen:unknown")
    assert "decode:greedy-8|" in theirs.signature
    assert "decode:greedy-8-merged|" in merged.signature
    page, _, table = rscap.report([tmp_path / "b", tmp_path / "nano"], tmp_path / "page.html")
    (one,) = json.loads(table.read_text(encoding="utf-8"))["tables"]
    assert {row["label"] for row in one["rows"]} == {"b", "nano"}
    assert any({found["first"], found["second"]} == {"b", "nano"} for found in one["differences"])
    assert "an adapter of another program" in page.read_text(encoding="utf-8")
    origin = json.loads((tmp_path / "b" / "provenance.json").read_text(encoding="utf-8"))["adapter"]
    assert origin["name"] == str(made("b", "4.4x"))
    assert len(origin["digest"]) == 64
    assert rscap.verify(tmp_path / "b").holds


@pytest.mark.parametrize("kind", ["b", "layers", "ranks", "expression"])
def test_an_adapter_that_is_handed_on_has_names_that_4_5x_and_5_x_read(
    kind: str, made: Callable[..., Path], tmp_path: Path
) -> None:
    """Keys of 4.5x; layers by name, by full path, by an expression or with ranks fit both; plain PEFT reads it."""
    settings: dict[str, dict[str, Any]] = {
        "b": {},
        "layers": {"target_modules": [LAYER, SEEN]},
        "ranks": {"target_modules": [LAYER, SEEN], "rank_pattern": {SEEN: 2}, "alpha_pattern": {SEEN: 3}},
        "expression": {"target_modules": f"{re.escape(LAYER)}|{re.escape(SEEN)}"},
    }
    original = made(kind, **settings[kind])
    folder = Path(shutil.copytree(original, tmp_path / "portable"))
    make_portable(folder)
    keys = load_file(folder / "adapter_model.safetensors").keys()
    assert any(".vision_tower.vision_model.encoder." in key for key in keys)
    assert least_transformers(folder) == "4.52"
    assert least_transformers(original) == "5"
    for name in (SEEN, portable_name(SEEN)):
        assert check_target_module_exists(PeftConfig.from_pretrained(folder), name)
    with warnings.catch_warnings(), quiet_peft():
        warnings.filterwarnings("error", "Found missing adapter keys")
        there, here = (PeftModel.from_pretrained(load_base(SECTION).model, one) for one in (folder, original))
    assert all(torch.equal(one, other) for one, other in zip(weights(there), weights(here), strict=True))
    assert there.state_dict().keys() == here.state_dict().keys()


SEEN = "model.vision_tower.encoder.layers.2.self_attn.v_proj"


def test_what_peft_compares_letter_by_letter_keeps_its_names(made: Callable[..., Path], tmp_path: Path) -> None:
    """A language model alone has one name everywhere; a vision tower saved whole keeps those of transformers 5."""
    language = Path(shutil.copytree(made("language", target_modules=[LAYER]), tmp_path / "language"))
    before = (language / "adapter_model.safetensors").read_bytes()
    make_portable(language)
    assert (language / "adapter_model.safetensors").read_bytes() == before
    assert least_transformers(language) == "4.52"
    saved = made("whole", target_modules=[LAYER], modules_to_save=["model.vision_tower.encoder.layers.0.layer_norm1"])
    whole = Path(shutil.copytree(saved, tmp_path / "whole"))
    make_portable(whole)
    assert least_transformers(whole) == "5"


@pytest.mark.parametrize("version", NAMES)
def test_a_plan_takes_an_adapter_by_its_shape(version: str, made: Callable[..., Path]) -> None:
    """Rank, layers of both towers and the scale come from its files, whatever its keys are called."""
    result = CliRunner().invoke(app, ["plan", str(made("b", version)), "--gpu", "16GB", "--json"])
    assert result.exit_code == 0, result.output
    layers = {name: module for name, module in load_base(SECTION).model.named_modules() if name.endswith(tuple(SEVEN))}
    adapted = [one for name, one in layers.items() if name.startswith(("model.language", "model.vision"))]
    trainable = sum(4 * (one.in_features + one.out_features) for one in adapted)
    assert json.loads(result.stdout)["written"]["trainable_parameters"] == trainable


OLD = "4.57.1"
LOOK = """
import sys, warnings
warnings.filterwarnings("error", "Found missing adapter keys")
import torch, transformers
from peft import PeftModel
from safetensors.torch import load_file
base, folder = sys.argv[1:]
net, loading = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
    base, output_loading_info=True
)
assert not loading["missing_keys"], loading["missing_keys"][:3]
net = PeftModel.from_pretrained(net, folder)
stored = load_file(folder + "/adapter_model.safetensors")
found = {name.replace(".default", ""): value for name, value in net.named_parameters() if ".lora_" in name}
assert found.keys() == stored.keys(), set(found) ^ set(stored)
assert all(torch.equal(found[key], stored[key]) for key in stored)
print(transformers.__version__, len(stored))
"""


@pytest.mark.slow
def test_transformers_4_57_reads_an_adapter_that_is_handed_on(made: Callable[..., Path], tmp_path: Path) -> None:
    """In an environment of its own: every tensor of both towers is loaded, and of the untranslated one it warns."""
    python = old_environment(tmp_path / "old")
    base = tmp_path / "base"
    shutil.copytree(NANO, base)
    state = load_file(base / "model.safetensors")
    inner = {re.sub(r"^vision_tower\.(?!vision_model)", "vision_tower.vision_model.", key): key for key in state}
    save_file({name: state[key] for name, key in inner.items()}, base / "model.safetensors", {"format": "pt"})
    folder = Path(shutil.copytree(made("b"), tmp_path / "portable"))
    make_portable(folder)
    done = subprocess.run([python, "-c", LOOK, base, folder], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [OLD, str(WHOLE)], done.stderr[-2000:]
    lost = subprocess.run([python, "-c", LOOK, base, made("b")], capture_output=True, text=True, check=False)
    assert "Found missing adapter keys" in lost.stderr


def old_environment(folder: Path) -> Path:
    """Python with transformers of before version 5, and every other package of the environment that runs the tests."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    wanted = [f"transformers=={OLD}", "huggingface_hub<1", "tokenizers<0.23"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"transformers {OLD} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    [site] = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text("\n".join(sysconfig.get_path(key) for key in ("purelib", "platlib")) + "\n")
    return python
