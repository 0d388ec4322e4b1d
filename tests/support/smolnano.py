"""A SmolVLM2 in miniature with random weights, as a folder in the format of the checkpoints on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import SmolVLMForConditionalGeneration
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

from rscap.model.families.smolvlm import SQUARES, smolvlm_config
from rscap.sample import sample_examples

END = "<end_of_utterance>"
_FIRST = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_IMAGE = ["<fake_token_around_image>", "<image>", END]
_PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
VOCABULARY = 600
IMAGE = VOCABULARY - 2
"""The id of an image token."""


def smol_tokenizer() -> Tokenizer:
    """Byte-level BPE, learned from the sample's captions, with the special tokens of SmolVLM2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    added = ["<global-img>", *_PLACES, *_IMAGE]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(added),
        special_tokens=_FIRST,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"User: Assistant: {caption}" for example in sample_examples() for caption in example.captions]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    assert tokenizer.token_to_id("<image>") == IMAGE
    return tokenizer


def write_smolnano(
    folder: Path,
    *,
    geometry: str = "smolnano",
    noise: float = 0.0,
    template: str = DEFAULT_CHAT_TEMPLATE,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """The same folder on every call; `noise` is added to its weights, so that attention matters to what it says."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = smol_tokenizer()
    config = smolvlm_config(
        geometry, vocabulary=tokenizer.get_vocab_size(), image_token_id=tokenizer.token_to_id("<image>")
    )
    torch.manual_seed(0)
    model = SmolVLMForConditionalGeneration(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters() if noise else ():
            parameter.add_(torch.randn_like(parameter) * noise)
    end = tokenizer.token_to_id(END)
    model.generation_config.update(bos_token_id=1, eos_token_id=end, pad_token_id=2)
    model.save_pretrained(folder)
    write_processor(folder, config, tokenizer, template=template)
    return folder


def write_processor(
    folder: Path, config: Any, tokenizer: Tokenizer | None = None, *, template: str = DEFAULT_CHAT_TEMPLATE
) -> None:
    """Tokenizer, image processor and chat template of a configuration."""
    (tokenizer or smol_tokenizer()).save(str(folder / "tokenizer.json"))
    vision = config.vision_config
    tokens = (vision.image_size // vision.patch_size // config.scale_factor) ** 2
    for name, table in _tables(vision.image_size, tokens).items():
        (folder / name).write_text(json.dumps(table, indent=2), encoding="utf-8")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")


def _tables(side: int, image_tokens: int) -> dict[str, dict[str, Any]]:
    names = {
        "end_of_utterance_token": END,
        "fake_image_token": _IMAGE[0],
        "global_image_token": "<global-img>",
        "image_token": "<image>",
    }
    return {
        "preprocessor_config.json": {
            "do_convert_rgb": True,
            "do_image_splitting": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SmolVLMImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "max_image_size": {"longest_edge": side},
            "processor_class": "SmolVLMProcessor",
            "resample": 1,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": SQUARES * side},
        },
        "processor_config.json": {"image_seq_len": image_tokens, "processor_class": "SmolVLMProcessor"},
        "tokenizer_config.json": {
            "additional_special_tokens": _IMAGE,
            "bos_token": "<|im_start|>",
            "clean_up_tokenization_spaces": False,
            "eos_token": END,
            "extra_special_tokens": names,
            "model_max_length": 8192,
            "pad_token": "<|im_end|>",
            "processor_class": "SmolVLMProcessor",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<|endoftext|>",
            **names,
        },
    }
