"""Adapters as another program saves them: PEFT's layout around nano, and no run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from rscap.model.adapters import quiet_peft
from rscap.model.load import load_base
from rscap.recipe import ModelSection


def peft_adapter(folder: Path, **config: Any) -> Path:
    """A LoRA adapter whose weights change captions; learned biases, where `config` asks for them, too."""
    torch.manual_seed(3)
    settings = {"r": 4, "target_modules": ["q_proj", "v_proj", "fc1"], "init_lora_weights": False, **config}
    with quiet_peft():
        net = get_peft_model(load_base(ModelSection(base="nano", dtype="float32")).model, LoraConfig(**settings))
        for name, weight in net.named_parameters():
            if name.endswith(".bias") and weight.requires_grad:
                weight.data += 0.5
        net.save_pretrained(folder)
    file = folder / "adapter_config.json"
    told = {**json.loads(file.read_text(encoding="utf-8")), "base_model_name_or_path": "nano"}
    file.write_text(json.dumps(told), encoding="utf-8")
    return folder
