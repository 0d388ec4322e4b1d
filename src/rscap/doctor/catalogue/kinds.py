"""What is known of one kind of finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rscap.store import ADAPTER, MODEL, PROVENANCE, REJECTED, STATUS

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. `error`: the run, or its result, cannot be used as it is. `warning`: less than it seems."""

    severity: Severity
    title: str
    when: str
    """How it is told."""
    why: str
    cure: str


# What can be wrong around training: prompts, data, evaluations, and the run as a whole.

PROMPT: dict[str, Kind] = {
    "prompt-differs": Kind(
        "error",
        "training and test use different prompts",
        "A prompt of the predictions, or of the recipe's test, is none of the training prompts.",
        "The adapter learned to answer one prompt and is asked another: the score is that of the change, not of the "
        "training.",
        "Ask at test time with a prompt of the training, to the letter, newline included.",
    ),
}

DATA: dict[str, Kind] = {
    "few-training-images": Kind(
        "warning",
        "few training images",
        "Fewer than 250.",
        "The smallest data set of the field, Sydney-Captions, trains on 497 images. With far fewer the result tells "
        "of the choice of images as much as of the method.",
        "Train on the whole training split; for a deliberate study of few images, repeat it with several seeds.",
    ),
    "captions-unused": Kind(
        "warning",
        "captions of the training images are not used",
        "The scheme is `first` or `longest` and images have 1.5 different captions or more on average.",
        "Four of five sentences a person wrote about an image are thrown away; the scores compare with all of them.",
        "Learn from all of them: data.captions = 'all', 'cycle' or 'random'.",
    ),
    "captions-joined": Kind(
        "warning",
        "captions are joined into one",
        "The scheme is `concat` and images have 1.5 different captions or more on average.",
        "The model learns to write five sentences where one is expected; such a run scored CIDEr 0.",
        "data.captions = 'all' learns every caption as one of its own.",
    ),
    "many-rejected": Kind(
        "warning",
        "many rows of the data could not be used",
        "More than 1 % of the rows.",
        "What is left may be another data set than the one that is named.",
        f"Fix the rows that {REJECTED} lists; `rscap data audit` shows more.",
    ),
}

EVALUATION: dict[str, Kind] = {
    "few-test-images": Kind(
        "warning",
        "too few test images for a claim",
        "Fewer than 100, or the 95 % interval of CIDEr is wider than half of the score.",
        "CIDEr of 50 images moves by .3 to .5 from one draw of images to the next; differences between methods are "
        "smaller than that.",
        "Score the whole test split, and compare systems with `rscap compare` on the same images.",
    ),
    "single-reference": Kind(
        "warning",
        "one reference per image",
        "No image has more than one.",
        "BLEU and CIDEr with one reference are lower and noisier than with the five that published scores use; the "
        "numbers cannot be put side by side.",
        "Score against all references of the image.",
    ),
    "unscored": Kind(
        "error",
        "images were left out of the score",
        "There are more images with a caption or a reference than the score counts.",
        "Captions that loop or fail are not missing at random: leaving them out raises the score. Up to 1 % of the "
        "images this is a warning.",
        "Score every image; an empty or degenerate caption is scored like any other.",
    ),
    "subset-differs": Kind(
        "error",
        "systems were scored on different images",
        "A baseline beside the run, or another file of predictions, has other ids.",
        "The difference between two scores is then a difference between images.",
        "Score all systems on the same list of images.",
    ),
    "captions-loop": Kind(
        "error",
        "captions loop",
        "More than 2 %: one word all along, a word four times in a row, or a phrase three times in a row.",
        "The model repeats itself: it was not taught to stop, or training spoilt it. Penalties on repetition hide "
        "this and do not mend it.",
        "Look at <eos>, labels and the learning rate.",
    ),
    "prompt-echoed": Kind(
        "error",
        "captions repeat the prompt",
        "More than 2 % begin with the words of a prompt.",
        "The prompt was among the labels, or prompt tokens are decoded with the caption.",
        "Supervise the caption alone; cut the first len(input_ids) tokens off what generate() returns.",
    ),
    "no-caption": Kind(
        "error",
        "captions that are empty or no language",
        "More than 2 % hold no letter, special tokens, or fewer letters than other signs.",
        "They hold no letters, special tokens, or mostly signs: the image has in effect no caption.",
        "Look at labels, <eos>, and whether special tokens are skipped in decoding.",
    ),
    "one-caption": Kind(
        "error",
        "one caption for all images",
        "Half of the images or more, of at least ten, have the same caption.",
        "The model does not look at the image. One well-chosen sentence scores a CIDEr of .3 on real data.",
        "Look at whether image features reach the language model, at the learning rate, and train longer.",
    ),
    "captions-cut": Kind(
        "warning",
        "captions are cut at the length limit",
        "More than 5 % of the captions ended at the limit; or, of a recipe, more than 1 % of the training "
        "captions are longer than generate.max_new_tokens.",
        "What is cut has no end and scores less; if most are, the model has not learned to stop.",
        "Raise generate.max_new_tokens above the longest caption; look at <eos>.",
    ),
    "image-ignored": Kind(
        "error",
        "captions do not depend on their images",
        "CIDEr keeps more than 80 % when captions are shuffled among at least 30 images.",
        "Given to other images at random, the same captions score about as much.",
        "Look at whether image features reach the language model; train longer; compare with the constant caption.",
    ),
    "no-better-than-constant": Kind(
        "error",
        "no better than one sentence for all images",
        "CIDEr is not above that of the constant caption scored beside the run.",
        "The training brought less than a sentence chosen from the training captions, which needs no model.",
        "Look at the other findings; train longer or at another learning rate.",
    ),
}

RUN: dict[str, Kind] = {
    "not-finished": Kind(
        "error",
        "the run did not finish",
        f"{STATUS} says another state than `finished`; or global_step is below max_steps in trainer_state.json.",
        "What it holds is not the result of its recipe.",
        "Resume it (`rscap train RUN --resume`), or run it again.",
    ),
    "result-missing": Kind(
        "error",
        "the trained weights are missing",
        f"A finished run has neither {ADAPTER}/ nor {MODEL}/.",
        "Nothing can be evaluated or repeated.",
        "Look for them where the run was made; or train again.",
    ),
    "unreadable": Kind(
        "error",
        "a file cannot be read",
        "A file is torn, is of another format, or has unknown keys.",
        "What it says cannot be checked, and other programs will stumble over it.",
        f"Copy it again from where it was made, or open it with the version of rscap that {PROVENANCE} names.",
    ),
    "cannot-start": Kind(
        "error",
        "the recipe cannot be run",
        "Reading the recipe, opening its data or loading its base model fails.",
        "It will stop before the first step.",
        "The evidence says what is missing.",
    ),
}
