"""Every kind of finding: how bad it is, why it matters and what to do. docs/doctor.md is this table as a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. `error`: the run, or its result, cannot be used as it is. `warning`: less than it seems."""

    severity: Severity
    title: str
    why: str
    cure: str


LABELS: dict[str, Kind] = {
    "image-targets": Kind(
        "error",
        "image tokens are labels",
        "The model is taught to print <image>. There are 256 of them to a caption of a dozen words, so they make up "
        "nearly all of the loss, and the caption is hardly learned.",
        "Set labels to -100 wherever input_ids is the image token; with PaliGemmaProcessor, pass the caption as "
        "`suffix` and use the labels it returns.",
    ),
    "prompt-targets": Kind(
        "error",
        "prompt tokens are labels",
        "The prompt is given at test time and need not be predicted; learning it takes gradient from the caption and "
        "makes the model repeat the prompt.",
        "Supervise the caption and its <eos> alone: -100 for <bos>, the words of the prompt and the newline.",
    ),
    "padding-targets": Kind(
        "error",
        "padding is a label",
        "The model is taught to print padding after, or before, a caption; long batches are then mostly padding.",
        "Set labels to -100 wherever attention_mask is 0.",
    ),
    "no-targets": Kind(
        "error",
        "captions without any label",
        "Nothing is learned from these captions; a batch of such rows has a loss of 0 or NaN.",
        "Look at how labels are masked: the caption and its <eos> must keep their ids.",
    ),
    "no-eos": Kind(
        "error",
        "captions that do not end in <eos>",
        "The model never learns to stop: it goes on to the length limit, with loops and invented sentences.",
        "End every caption with exactly one <eos> and keep it among the labels; `suffix=` of PaliGemmaProcessor does.",
    ),
    "many-eos": Kind(
        "error",
        "captions with several <eos>",
        "The model is taught to stop in the middle of a caption, or to print <eos> after <eos>.",
        "Remove <eos> from the text of the captions, and do not pad with <eos> unless its labels are -100.",
    ),
}

ATTENTION: dict[str, Kind] = {
    "answer-visible": Kind(
        "error",
        "the answer is visible to itself",
        "A caption token that sees the tokens after it copies them in training; at test time they are not there, and "
        "the model has learned nothing that helps.",
        "Pass token_type_ids with every training batch, 0 on the prefix and 1 on the caption (PaliGemmaProcessor "
        "returns them when the caption is given as `suffix`). Without them transformers drops the mask of any batch "
        "that has no padding.",
    ),
    "prefix-causal": Kind(
        "error",
        "the prefix does not see itself both ways",
        "PaliGemma was pretrained with a prefix that attends in both directions; a causal one is another model, and "
        "image tokens no longer see the prompt.",
        "Pass token_type_ids in training and to generate(): 0 on image tokens and prompt, 1 on the caption.",
    ),
}

LOSS: dict[str, Kind] = {
    "uniform-loss": Kind(
        "error",
        "the loss is that of a uniform guess",
        "A model that spreads its probability evenly over V tokens has the loss ln V. Whoever is there, or above, "
        "knows nothing of these targets: they are wrong, or the weights are not the base model's.",
        "Look at labels and attention first (both are checked here), then at how the weights were loaded.",
    ),
    "zero-loss": Kind(
        "error",
        "the first loss is zero",
        "Before it learned anything, the model predicts every target: it sees the answer, or nothing is supervised.",
        "Look at token_type_ids and labels of the first batch.",
    ),
    "loss-not-finite": Kind(
        "error",
        "the loss or its gradient is not finite",
        "After a NaN or an infinity the weights are spoilt; with float16 it usually is an overflow.",
        "Train in bfloat16 or float32, or keep the residual stream in float32; lower the learning rate; take the last "
        "checkpoint from before.",
    ),
    "loss-rises": Kind(
        "error",
        "the loss rises",
        "Training makes the model worse than it was. The usual cause is a learning rate too high for the method.",
        "Divide the learning rate by 3 to 10, or lengthen the warm-up; with LoRA+ or rsLoRA remember that they raise "
        "the rate in effect.",
    ),
    "loss-flat": Kind(
        "error",
        "the loss does not move",
        "Nothing is learned: the learning rate is too low for the method or the length of the run, the adapters are "
        "not trained, or the targets cannot be learned.",
        "If labels and adapters are sound, multiply the learning rate by 3 to 10 (LoRA wants about ten times the rate "
        "of full fine-tuning), or train longer.",
    ),
    "always-clipped": Kind(
        "warning",
        "nearly every gradient is clipped",
        "Clipping should catch outliers. Where it cuts every gradient several times over, and they do not come down, "
        "the learning rate written down is not the one in effect, or the targets cannot be learned.",
        "If labels are sound, lower the learning rate, lengthen the warm-up, make updates of more captions, or raise "
        "max_grad_norm to the usual norm.",
    ),
    "rate-too-high": Kind(
        "error",
        "the learning rate is too high",
        "A few updates at the peak rate, on one batch again and again, leave the loss of that very batch higher than "
        "before: every update overshoots.",
        "Divide train.learning_rate by 3 to 10 and ask again.",
    ),
    "rate-too-low": Kind(
        "error",
        "the learning rate is too low",
        "Even on one batch again and again the loss hardly moves, and the run has too few updates to make up for it.",
        "Multiply train.learning_rate by 3 to 10, or train longer, and ask again.",
    ),
}

WEIGHTS: dict[str, Kind] = {
    "frozen-tower-learns": Kind(
        "error",
        "a frozen tower learns",
        "A bare list of module names (q_proj, v_proj) also matches the vision tower's attention: more is trained, "
        "stored and compared than was said.",
        "Name targets by full path, one expression a tower, and count the matches; rscap recipes do.",
    ),
    "tower-does-not-learn": Kind(
        "error",
        "a tower that should learn does not",
        "What was asked for was not done; the result is that of another experiment.",
        "Check the target names against the model's modules, and that requires_grad is set after freezing.",
    ),
    "target-unmatched": Kind(
        "error",
        "a target module matches nothing",
        "PEFT is silent about a name of the list that matches no module as long as another one does.",
        "Correct the name; attention output is o_proj in Gemma and out_proj in SigLIP.",
    ),
    "adapter-untouched": Kind(
        "error",
        "the adapter is as it was made",
        "LoRA's B matrices begin at zero. Where they still are, the adapted model is the base model.",
        "Check that the optimiser was given the adapter's parameters, that gradients reach them, and that the adapter "
        "was saved after training.",
    ),
    "adapter-not-finite": Kind(
        "error",
        "the adapter holds NaN or infinity",
        "Every caption it generates is noise.",
        "Take an earlier checkpoint; lower the learning rate; do not train weights in float16.",
    ),
    "weights-unfit": Kind(
        "error",
        "the trained weights do not fit their base model",
        "Keys that match nothing are dropped by some loaders, and layers without a key stay as in the base.",
        "Bring back the base model and the recipe that the run was made with.",
    ),
    "nothing-learned": Kind(
        "error",
        "the trained weights are no better than the base",
        "On images and captions that were trained on, the loss is not below that of the base model: what is in the "
        "folder is not what training made, or training made nothing.",
        "Look at the loss in train.jsonl. If it fell, the wrong weights were saved, or the base is another; if it did "
        "not, look at the other findings.",
    ),
    "method-not-as-asked": Kind(
        "error",
        "the adapter is not the one that was asked for",
        "The score will be reported under the name of a method that was not used.",
        "Compare adapter_config.json with the recipe, and train again or correct the name.",
    ),
    "dtype-not-as-asked": Kind(
        "error",
        "weights are not in the precision that was asked for",
        "A misspelt option is swallowed by the library: memory and speed are those of another precision, and 4-bit "
        "layers may compute in float32.",
        "Read the dtype of the loaded weights back; pass `dtype=` to from_pretrained and bnb_4bit_compute_dtype to "
        "BitsAndBytesConfig.",
    ),
}

PROMPT: dict[str, Kind] = {
    "prompt-differs": Kind(
        "error",
        "training and test use different prompts",
        "The adapter learned to answer one prompt and is asked another: the score is that of the change, not of the "
        "training.",
        "Ask at test time with a prompt of the training, to the letter, newline included.",
    ),
}

DATA: dict[str, Kind] = {
    "few-training-images": Kind(
        "warning",
        "few training images",
        "The smallest data set of the field, Sydney-Captions, trains on 497 images. With far fewer the result tells "
        "of the choice of images as much as of the method.",
        "Train on the whole training split; for a deliberate study of few images, repeat it with several seeds.",
    ),
    "captions-unused": Kind(
        "warning",
        "captions of the training images are not used",
        "Four of five sentences a person wrote about an image are thrown away; the scores compare with all of them.",
        "Learn from all of them: data.captions = 'all', 'cycle' or 'random'.",
    ),
    "captions-joined": Kind(
        "warning",
        "captions are joined into one",
        "The model learns to write five sentences where one is expected; such a run scored CIDEr 0.",
        "data.captions = 'all' learns every caption as one of its own.",
    ),
    "many-rejected": Kind(
        "warning",
        "many rows of the data could not be used",
        "What is left may be another data set than the one that is named.",
        "Mend the rows that rejected.jsonl lists; `rscap data audit` shows more.",
    ),
}

EVALUATION: dict[str, Kind] = {
    "few-test-images": Kind(
        "warning",
        "too few test images for a claim",
        "CIDEr of 50 images moves by .3 to .5 from one draw of images to the next; differences between methods are "
        "smaller than that.",
        "Score the whole test split, and compare systems with `rscap compare` on the same images.",
    ),
    "single-reference": Kind(
        "warning",
        "one reference per image",
        "BLEU and CIDEr with one reference are lower and noisier than with the five that published scores use; the "
        "numbers cannot be put side by side.",
        "Score against all references of the image.",
    ),
    "unscored": Kind(
        "error",
        "images were left out of the score",
        "Captions that loop or fail are not missing at random: leaving them out raises the score. Up to 1 % of the "
        "images this is a warning.",
        "Score every image; an empty or degenerate caption is scored like any other.",
    ),
    "subset-differs": Kind(
        "error",
        "systems were scored on different images",
        "The difference between two scores is then a difference between images.",
        "Score all systems on the same list of images.",
    ),
    "captions-loop": Kind(
        "error",
        "captions loop",
        "The model repeats itself: it was not taught to stop, or training spoilt it. Penalties on repetition hide "
        "this and do not mend it.",
        "Look at <eos>, labels and the learning rate.",
    ),
    "prompt-echoed": Kind(
        "error",
        "captions repeat the prompt",
        "The prompt was among the labels, or prompt tokens are decoded with the caption.",
        "Supervise the caption alone; cut the first len(input_ids) tokens off what generate() returns.",
    ),
    "no-caption": Kind(
        "error",
        "captions that are empty or no language",
        "They hold no letters, special tokens, or mostly signs: the image has in effect no caption.",
        "Look at labels, <eos>, and whether special tokens are skipped in decoding.",
    ),
    "one-caption": Kind(
        "error",
        "one caption for all images",
        "The model does not look at the image. One well-chosen sentence scores a CIDEr of .3 on real data.",
        "Look at whether image features reach the language model, at the learning rate, and train longer.",
    ),
    "captions-cut": Kind(
        "warning",
        "captions are cut at the length limit",
        "What is cut has no end and scores less; if most are, the model has not learned to stop.",
        "Raise generate.max_new_tokens above the longest caption; look at <eos>.",
    ),
    "image-ignored": Kind(
        "error",
        "captions do not depend on their images",
        "Given to other images at random, the same captions score about as much.",
        "Look at whether image features reach the language model; train longer; compare with the constant caption.",
    ),
    "no-better-than-constant": Kind(
        "error",
        "no better than one sentence for all images",
        "The training brought less than a sentence chosen from the training captions, which needs no model.",
        "Look at the other findings; train longer or at another learning rate.",
    ),
}

RUN: dict[str, Kind] = {
    "not-finished": Kind(
        "error",
        "the run did not finish",
        "What it holds is not the result of its recipe.",
        "Resume it (`rscap train RUN --resume`), or run it again.",
    ),
    "result-missing": Kind(
        "error",
        "the trained weights are missing",
        "Nothing can be evaluated or repeated.",
        "Look for them where the run was made; or train again.",
    ),
    "unreadable": Kind(
        "error",
        "a file cannot be read",
        "What it says cannot be checked, and other programs will stumble over it.",
        "Copy it again from where it was made, or open it with the version of rscap that provenance.json names.",
    ),
    "cannot-start": Kind(
        "error",
        "the recipe cannot be run",
        "It will stop before the first step.",
        "The evidence says what is missing.",
    ),
}

CATALOGUE: dict[str, dict[str, Kind]] = {
    "Labels": LABELS,
    "Attention": ATTENTION,
    "Loss and learning rate": LOSS,
    "Weights and adapters": WEIGHTS,
    "Prompt": PROMPT,
    "Data": DATA,
    "Evaluation": EVALUATION,
    "Run": RUN,
}
"""All kinds, by what they are about."""

KINDS: dict[str, Kind] = {code: kind for group in CATALOGUE.values() for code, kind in group.items()}
