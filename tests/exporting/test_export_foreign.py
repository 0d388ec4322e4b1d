"""An adapter of another program is exported: merged, or with names that most versions of transformers read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PaliGemmaForConditionalGeneration

from rscap.errors import ExportError
from rscap.exporting.request import ExportRequest, export
from rscap.model.adapters import quiet_peft
from rscap.model.load import load_base
from rscap.recipe import ModelSection

SECTION = ModelSection(base="nano", dtype="float32")


def silent(_: str) -> None:
    """No messages."""


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Around nano's two towers, with the key names of transformers 4.44."""
    folder = tmp_path_factory.mktemp("theirs") / "captions-of-somebody"
    with quiet_peft():
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(load_base(SECTION).model, config).save_pretrained(folder)
    state = load_file(folder / "adapter_model.safetensors")
    old = {
        key.replace("model.model.language_model.", "model.language_model.model.").replace(
            "model.model.vision_tower.", "model.vision_tower.vision_model."
        ): value
        for key, value in state.items()
    }
    save_file(old, folder / "adapter_model.safetensors", {"format": "pt"})
    table = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**table, "base_model_name_or_path": "nano"}))
    return folder


def test_merged_weights_say_what_the_adapter_says(adapter: Path, tmp_path: Path) -> None:
    """A checkpoint that plain transformers reads, with the same captions; the card claims no more than is known."""
    made = export(ExportRequest(run=adapter, out=tmp_path / "out", dtype="float32", images=2), say=silent)
    assert made.agreement.count("same") == 2
    _, loading = PaliGemmaForConditionalGeneration.from_pretrained(made.path, output_loading_info=True)
    assert not loading["missing_keys"]
    card = (made.path / "README.md").read_text(encoding="utf-8")
    assert "captions-of-somebody" in card
    assert "what it was trained on and how good its captions are is not known here" in card
    assert str(adapter.parent) not in card


def test_an_adapter_gets_names_that_most_versions_read(adapter: Path, tmp_path: Path) -> None:
    """Old names become those of 4.5x where they can; plain PEFT reads the folder, and it is not uploaded."""
    request = ExportRequest(run=adapter, out=tmp_path / "out", form="adapter", dtype="float32", images=1)
    made = export(request, say=silent)
    keys = load_file(made.path / "adapter_model.safetensors").keys()
    assert all(".model.language_model.layers" in key or ".vision_model.encoder" in key for key in keys)
    with quiet_peft():
        PeftModel.from_pretrained(load_base(SECTION).model, made.path)
    assert "It needs transformers 4.52 or later" in (made.path / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ExportError, match="not uploaded as one's own"):
        export(ExportRequest(run=adapter, push_to="me/mine"), say=silent)
