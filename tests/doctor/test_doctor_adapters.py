"""`rscap doctor` on a bare adapter: whether it fits the base model that it names, found without loading weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from rscap.doctor import Diagnosis, diagnose
from rscap.model.adapters import quiet_peft
from rscap.model.load import load_base
from rscap.recipe import ModelSection

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What PEFT saves around nano."""
    folder = tmp_path_factory.mktemp("theirs") / "adapter"
    with quiet_peft():
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(load_base(ModelSection(base="nano", dtype="float32")).model, config).save_pretrained(folder)
    return named(folder, "nano")


def named(folder: Path, base: str) -> Path:
    """The same adapter, which says that its base model is another."""
    file = folder / "adapter_config.json"
    table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**table, "base_model_name_or_path": base}), encoding="utf-8")
    return folder


def misfit(found: Diagnosis) -> str:
    (finding,) = [one for one in found.findings if one.code == "weights-unfit"]
    return finding.evidence


def test_an_adapter_that_fits_its_base_is_looked_at_and_not_complained_of(adapter: Path) -> None:
    """Keys and shapes fit; without the probe this is told as not looked at."""
    found = diagnose(adapter)
    assert "trained weights" in found.looked_at
    assert not [one for one in found.findings if one.code == "weights-unfit"]
    assert diagnose(adapter, live=False).not_looked_at["trained weights"] == "no model was loaded"


def test_keys_that_fit_no_layer_are_named(adapter: Path, tmp_path: Path) -> None:
    """`.blocks.` where the base has `.layers.`: what is missing and what is unexpected."""
    folder = Path(shutil.copytree(adapter, tmp_path / "misfit"))
    state = {key.replace(".layers.", ".blocks."): value for key, value in load_file(folder / WEIGHTS).items()}
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    said = misfit(diagnose(folder))
    assert "unexpected: \n    base_model.model.model.language_model.blocks.0.self_attn.q_proj.lora_A.weight" in said
    assert "missing: \n    base_model.model.model.language_model.layers.0,1,2,3.self_attn.q_proj" in said


def test_an_adapter_of_a_larger_base_and_a_pickle_say_what_to_do(adapter: Path, tmp_path: Path) -> None:
    """Other shapes than the base that it names; weights in a pickle; a base that is not on this machine."""
    larger = named(Path(shutil.copytree(adapter, tmp_path / "larger")), "google/paligemma-3b-pt-224")
    assert "other shapes" in misfit(diagnose(larger)) or "missing" in misfit(diagnose(larger))
    pickle = Path(shutil.copytree(adapter, tmp_path / "pickle"))
    (pickle / WEIGHTS).rename(pickle / "adapter_model.bin")
    assert f"save it again as {WEIGHTS}" in misfit(diagnose(pickle))
    elsewhere = named(Path(shutil.copytree(adapter, tmp_path / "elsewhere")), "somebody/nowhere-paligemma")
    found = diagnose(elsewhere)
    assert "is not on this machine" in found.not_looked_at["trained weights"]
