"""Every kind of finding: how it is recognised, why it matters, what to do. docs/doctor.md shows this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rscap.store import ADAPTER, MODEL, PROVENANCE, REJECTED, STATUS, TRAIN_LOG

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class FindingKind:
    """One kind of finding. `error`: the run, or its result, cannot be used as it is. `warning`: less than it seems."""

    severity: Severity
    title: str
    when: str
    """How it is recognised."""
    why: str
    cure: str


# Training: labels, attention, losses, weights.

LABELS: dict[str, FindingKind] = {
    "image-targets": FindingKind(
        "error",
        "image tokens are labels",
        "An image token has a label other than -100, or is a target of the packed batch.",
        "The model is taught to print <image>. There are 256 of them to a caption of a dozen words, so they make up "
        "nearly all of the loss, and the caption is hardly learned.",
        "Set labels to -100 wherever input_ids is the image token; with a processor that takes a `suffix`, pass the "
        "caption as that and use the labels it returns.",
    ),
    "prompt-targets": FindingKind(
        "error",
        "prompt tokens are labels",
        "A prefix token has a label: a token of type 0, or <bos> where the types do not say; in a chat, a token of "
        "the user's turn.",
        "The prompt is given at test time and need not be predicted; learning it takes gradient from the caption and "
        "makes the model repeat the prompt.",
        "Supervise the caption and its <eos> alone: -100 for <bos>, the words of the prompt and the newline; in a "
        "chat, -100 for all before the assistant's answer.",
    ),
    "image-split": FindingKind(
        "warning",
        "an image takes many times the tokens it needs",
        "A row of the first batch has more than four times the image tokens of one square of the model.",
        "SmolVLM2's image processor enlarges every image and cuts it into sixteen squares and the whole. An image of "
        "few pixels gains nothing by that, and every step costs as many times more.",
        'Switch splitting off, in training and at test: `do_image_splitting=False` and `size={"longest_edge": 512}` '
        "(384 for 2.2B) of the image processor; with rscap, leave model.image_splitting out.",
    ),
    "padding-targets": FindingKind(
        "error",
        "padding is a label",
        "A position where attention_mask is 0 has a label.",
        "The model is taught to print padding after, or before, a caption; long batches are then mostly padding.",
        "Set labels to -100 wherever attention_mask is 0.",
    ),
    "no-targets": FindingKind(
        "error",
        "captions without any label",
        "A row, or a caption of the packed batch, has no label.",
        "Nothing is learned from these captions; a batch of such rows has a loss of 0 or NaN.",
        "Look at how labels are masked: the caption and its <eos> must keep their ids.",
    ),
    "no-eos": FindingKind(
        "error",
        "captions that do not end in <eos>",
        "The labels of a caption hold no <eos>.",
        "The model never learns to stop: it continues to the length limit, with loops and invented sentences.",
        "End every caption with exactly one <eos> and keep it among the labels; a processor that takes `suffix=` does.",
    ),
    "many-eos": FindingKind(
        "error",
        "captions with several <eos>",
        "The labels of a caption hold <eos> more than once.",
        "The model is taught to stop in the middle of a caption, or to print <eos> after <eos>.",
        "Remove <eos> from the text of the captions, and do not pad with <eos> unless its labels are -100.",
    ),
}

ATTENTION: dict[str, FindingKind] = {
    "answer-visible": FindingKind(
        "error",
        "caption tokens see the tokens after them",
        "Another id in place of the last caption token changes outputs before it; or a saved batch has no "
        "token_type_ids, or none of type 1.",
        "A caption token that sees the tokens after it copies them in training; at test time they are not there, and "
        "the model has learned nothing that helps.",
        "Pass token_type_ids with every training batch, 0 on the prefix and 1 on the caption (the processor returns "
        "them when the caption is given as `suffix`). Without them transformers drops the mask of any batch that has "
        "no padding.",
    ),
    "prefix-causal": FindingKind(
        "error",
        "the prefix attends in one direction only",
        "Another id in place of the last prefix token changes none of the outputs before it.",
        "This family was pretrained with a prefix that attends in both directions; a causal one is another model, "
        "and image tokens no longer see the prompt.",
        "Pass token_type_ids in training and to generate(): 0 on image tokens and prompt, 1 on the caption.",
    ),
}

LOSS: dict[str, FindingKind] = {
    "uniform-loss": FindingKind(
        "error",
        "the loss is that of a uniform guess",
        "All tokens of the first batch have a loss of about ln V (mean within 10 %, spread below 1 nat); or the "
        "last fifth of the logged losses is above 0.9 ln V.",
        "A model that spreads its probability evenly over V tokens has the loss ln V. With that loss or more, it "
        "knows nothing of these targets: they are wrong, or the weights are not the base model's.",
        "Look at labels and attention first (both are checked here), then at how the weights were loaded.",
    ),
    "zero-loss": FindingKind(
        "error",
        "the first loss is zero",
        "The first loss is below 0.001.",
        "Before it learned anything, the model predicts every target: it sees the answer, or nothing is supervised.",
        "Look at token_type_ids and labels of the first batch.",
    ),
    "loss-not-finite": FindingKind(
        "error",
        "the loss or its gradient is not finite",
        "A logged loss is NaN or infinite, or more than a tenth of the gradient norms are.",
        "After a NaN or an infinity the weights are damaged; with float16 the cause is usually an overflow.",
        "Train in bfloat16 or float32, or keep the residual stream in float32; lower the learning rate; resume "
        "from the last checkpoint before it.",
    ),
    "loss-rises": FindingKind(
        "error",
        "the loss rises",
        "The median of the last fifth of the losses exceeds that of the first fifth by more than 5 %, and by more "
        "than neighbouring losses differ (with ten logged updates or more, here and below).",
        "Training makes the model worse than it was. The usual cause is a learning rate too high for the method.",
        "Divide the learning rate by 3 to 10, or lengthen the warm-up; with LoRA+ or rsLoRA remember that they raise "
        "the rate in effect.",
    ),
    "loss-flat": FindingKind(
        "error",
        "the loss does not move",
        "From the first to the last fifth the loss falls by less than 2 %.",
        "Nothing is learned: the learning rate is too low for the method or the length of the run, the adapters are "
        "not trained, or the targets cannot be learned.",
        "If labels and adapters are sound, multiply the learning rate by 3 to 10 (LoRA wants about ten times the rate "
        "of full fine-tuning), or train longer.",
    ),
    "past-its-best": FindingKind(
        "warning",
        "training continued past its best evaluation",
        "Of three evaluations or more, the last validation loss lies above the lowest by more than 5 %, CIDEr is lower "
        "too, and the last weights are kept.",
        "The model memorises its training captions: from some step on it describes new images worse.",
        "Keep the best weights with a [selection] section (patience stops early), train for fewer epochs, or give it "
        "more images, augmentation or dropout.",
    ),
    "always-clipped": FindingKind(
        "warning",
        "nearly every gradient is clipped",
        "95 % of the gradient norms exceed the limit, and their median exceeds three times the limit; they do not "
        "come down, and the loss falls by less than 10 %.",
        "Clipping should catch outliers. Where it cuts every gradient several times over, and neither gradients nor "
        "loss come down, the learning rate is too high for the method, or the targets cannot be learned.",
        "If labels are sound, lower the learning rate, lengthen the warm-up, or make updates of more captions.",
    ),
    "rate-too-high": FindingKind(
        "error",
        "the learning rate is too high",
        "Recipes: eight updates on one small batch, four of them warm-up. After one of them the loss of that "
        "batch is more than 2 % above where it began; or after the last, and not before the first, every token of the "
        "vocabulary is as likely.",
        "An update that raises the loss of its own batch overshoots; so does one after which the model knows nothing.",
        "Divide train.learning_rate by 3 to 10 and run the doctor again.",
    ),
    "rate-too-low": FindingKind(
        "error",
        "the learning rate is too low",
        "Recipes: the same eight updates lower the loss so little that the whole schedule, at that pace, "
        "would not make 2 %.",
        "Even on one repeated batch the loss hardly moves, and the run has too few updates to make up for it.",
        "Multiply train.learning_rate by 3 to 10, or train longer, and run the doctor again.",
    ),
}

WEIGHTS: dict[str, FindingKind] = {
    "frozen-tower-learns": FindingKind(
        "error",
        "a frozen tower is trained",
        "A tower that the recipe or doctor.toml freezes has an adapter or a trainable parameter; or, where neither "
        "says, a bare list of names reached the vision tower.",
        "A bare list of module names (q_proj, v_proj) also matches the vision tower's attention: more is trained, "
        "stored and compared than was stated.",
        "Name targets by full path, one expression a tower, and count the matches; rscap recipes do.",
    ),
    "tower-does-not-learn": FindingKind(
        "error",
        "a tower that should be trained is not",
        "A tower is to be adapted or trained and has no adapter or no trainable parameter.",
        "The settings were not applied; the result belongs to another experiment.",
        "Check the target names against the model's modules, and that requires_grad is set after freezing.",
    ),
    "target-unmatched": FindingKind(
        "error",
        "a target module matches nothing",
        "target_modules of adapter_config.json lists a name that no adapted module ends in.",
        "PEFT is silent about a name of the list that matches no module as long as another one does.",
        "Correct the name; attention output is o_proj in Gemma and out_proj in SigLIP.",
    ),
    "adapter-untouched": FindingKind(
        "error",
        "the adapter was never updated",
        "All B matrices of a tower are zero.",
        "LoRA's B matrices begin at zero. Where they still are, the adapted model is the base model.",
        "Check that the optimiser was given the adapter's parameters, that gradients reach them, and that the adapter "
        "was saved after training.",
    ),
    "adapter-not-finite": FindingKind(
        "error",
        "the adapter holds NaN or infinity",
        "A tensor of the adapter holds NaN or infinity.",
        "Every caption it generates is noise.",
        "Take an earlier checkpoint; lower the learning rate; do not train weights in float16.",
    ),
    "weights-unfit": FindingKind(
        "error",
        "the trained weights do not fit their base model",
        "Loading them as `rscap evaluate` does fails.",
        "Keys that match nothing are dropped by some loaders, and layers without a key stay as in the base.",
        "Restore the base model and the recipe that the run was made with.",
    ),
    "nothing-learned": FindingKind(
        "error",
        "the trained weights are no better than the base",
        "On the first training batch their loss is not 2 % below the base's.",
        "On images and captions that were trained on, the loss is not below that of the base model: the folder "
        "does not hold what training produced, or training changed nothing.",
        f"Look at the loss in {TRAIN_LOG}. If it fell, the wrong weights were saved, or the base is another; if it did "
        "not, look at the other findings.",
    ),
    "method-not-as-asked": FindingKind(
        "error",
        "the adapter differs from its settings",
        "PEFT's kind, rank, alpha, rsLoRA or DoRA of adapter_config.json differ from the recipe or doctor.toml.",
        "The score will be reported under the name of a method that was not used.",
        "Compare adapter_config.json with the recipe, and train again or correct the name.",
    ),
    "dtype-not-as-asked": FindingKind(
        "error",
        "weights are not in the requested precision",
        "More than 1 % of a tower's frozen elements are in another precision, nothing is quantised where it "
        "should be, or 4-bit layers compute in float32.",
        "The library silently ignores a misspelt option: memory and speed are those of another precision, and "
        "4-bit layers may compute in float32.",
        "Read the dtype of the loaded weights back; pass `dtype=` to from_pretrained and bnb_4bit_compute_dtype to "
        "BitsAndBytesConfig.",
    ),
}

# What can be wrong around training: prompts, data, evaluations, and the run as a whole.

PROMPT: dict[str, FindingKind] = {
    "prompt-differs": FindingKind(
        "error",
        "training and test use different prompts",
        "A prompt of the predictions, or of the recipe's test, is none of the training prompts.",
        "The adapter learned to answer one prompt and is given another: the score measures the change of prompt, "
        "not the training.",
        "At test time use a training prompt, character for character, newline included.",
    ),
}

DATA: dict[str, FindingKind] = {
    "few-training-images": FindingKind(
        "warning",
        "few training images",
        "Fewer than 250.",
        "The smallest data set of the field, Sydney-Captions, trains on 497 images. With far fewer, the result "
        "reflects the choice of images as much as the method.",
        "Train on the whole training split; for a deliberate study of few images, repeat it with several seeds.",
    ),
    "captions-unused": FindingKind(
        "warning",
        "captions of the training images are not used",
        "The scheme is `first` or `longest` and images have 1.5 different captions or more on average.",
        "Four of the five sentences written for an image are thrown away, while the scores compare with all of them.",
        "Learn from all of them: data.captions = 'all', 'cycle' or 'random'.",
    ),
    "captions-joined": FindingKind(
        "warning",
        "captions are joined into one",
        "The scheme is `concat` and images have 1.5 different captions or more on average.",
        "The model learns to write five sentences where one is expected; such a run scored CIDEr 0.",
        "data.captions = 'all' learns every caption as one of its own.",
    ),
    "many-rejected": FindingKind(
        "warning",
        "many rows of the data could not be used",
        "More than 1 % of the rows.",
        "What remains may differ from the data set that is named.",
        f"Fix the rows that {REJECTED} lists; `rscap data audit` shows more.",
    ),
    "special-tokens": FindingKind(
        "warning",
        "captions spell special tokens",
        "A training caption holds a special token of a common tokenizer, such as `<image>` or `<eos>`, as text.",
        "The tokenizer reads it as that token: training rejects the image at its first step, or learns to end there.",
        "Take such words out of the captions; `rscap data audit` lists them.",
    ),
}

EVALUATION: dict[str, FindingKind] = {
    "seen-images": FindingKind(
        "error",
        "the score is of images that the run has seen",
        "The score sheet says that evaluated images were trained on. That they selected the weights, look like "
        "training images, or that this is unknown, is a warning.",
        "A model remembers captions of the images it was trained on. Such a score says nothing about new images and is "
        "above those of others that were evaluated on images they had not seen.",
        "Evaluate on a split of which no image was trained on, in the split scheme that the run was trained with.",
    ),
    "few-test-images": FindingKind(
        "warning",
        "too few test images for a claim",
        "Fewer than 100, or the 95 % interval of CIDEr is wider than half of the score.",
        "CIDEr of 50 images moves by .3 to .5 from one draw of images to the next; differences between methods are "
        "smaller than that.",
        "Score the whole test split, and compare systems with `rscap compare` on the same images.",
    ),
    "single-reference": FindingKind(
        "warning",
        "one reference per image",
        "No image has more than one.",
        "BLEU and CIDEr with one reference are lower and noisier than with the five that published scores use; the "
        "numbers are not comparable.",
        "Score against all references of the image.",
    ),
    "unscored": FindingKind(
        "error",
        "images were left out of the score",
        "There are more images with a caption or a reference than the score counts.",
        "Captions that loop or fail are not missing at random: leaving them out raises the score. Up to 1 % of the "
        "images this is a warning.",
        "Score every image; an empty or degenerate caption is scored like any other.",
    ),
    "subset-differs": FindingKind(
        "error",
        "systems were scored on different images",
        "A baseline scored with the run, or another file of predictions, has other ids.",
        "The difference between two scores is then a difference between images.",
        "Score all systems on the same list of images.",
    ),
    "captions-loop": FindingKind(
        "error",
        "captions loop",
        "More than 2 %: one word throughout, a word four times in a row, or a phrase three times in a row.",
        "The model repeats itself: it was not taught to stop, or training damaged it. Repetition penalties hide "
        "this without fixing it.",
        "Look at <eos>, labels and the learning rate.",
    ),
    "prompt-echoed": FindingKind(
        "error",
        "captions repeat the prompt",
        "More than 2 % begin with the words of a prompt.",
        "The prompt was among the labels, or prompt tokens are decoded with the caption.",
        "Supervise the caption alone; cut the first len(input_ids) tokens off what generate() returns.",
    ),
    "no-caption": FindingKind(
        "error",
        "captions that are empty or not language",
        "More than 2 % hold no letter, special tokens, or fewer letters than other signs.",
        "They hold no letters, special tokens, or mostly signs: the image has in effect no caption.",
        "Look at labels, <eos>, and whether special tokens are skipped in decoding.",
    ),
    "one-caption": FindingKind(
        "error",
        "one caption for all images",
        "Half of the images or more, of at least ten, have the same caption.",
        "The model does not look at the image. One well-chosen sentence scores a CIDEr of .3 on real data.",
        "Look at whether image features reach the language model, at the learning rate, and train longer.",
    ),
    "captions-cut": FindingKind(
        "warning",
        "captions are cut at the length limit",
        "More than 5 % of the captions ended at the limit; or, of a recipe, more than 1 % of the training "
        "captions are longer than generate.max_new_tokens.",
        "Truncated captions score lower; if most are truncated, the model has not learned to stop.",
        "Raise generate.max_new_tokens above the longest caption; look at <eos>.",
    ),
    "image-ignored": FindingKind(
        "error",
        "captions do not depend on their images",
        "CIDEr keeps more than 80 % when captions are shuffled among at least 30 images.",
        "Assigned to random other images, the same captions score about as much.",
        "Look at whether image features reach the language model; train longer; compare with the constant caption.",
    ),
    "no-better-than-constant": FindingKind(
        "error",
        "no better than one sentence for all images",
        "CIDEr is not above that of the constant caption scored beside the run.",
        "The model scores no higher than one caption chosen from the training captions, which needs no model.",
        "Look at the other findings; train longer or at another learning rate.",
    ),
}

RUN: dict[str, FindingKind] = {
    "not-finished": FindingKind(
        "error",
        "the run did not finish",
        f"{STATUS} says another state than `finished`; or global_step is below max_steps in trainer_state.json.",
        "What it holds is not the result of its recipe.",
        "Resume it (`rscap train RUN --resume`), or run it again.",
    ),
    "result-missing": FindingKind(
        "error",
        "the trained weights are missing",
        f"A finished run has neither {ADAPTER}/ nor {MODEL}/.",
        "Nothing can be evaluated or repeated.",
        "Look for them where the run was made; or train again.",
    ),
    "unreadable": FindingKind(
        "error",
        "a file cannot be read",
        "A file is damaged, is of another format, or has unknown keys.",
        "Its content cannot be checked, and other programs will fail on it too.",
        f"Copy it again from where it was made, or open it with the version of rscap that {PROVENANCE} names.",
    ),
    "cannot-start": FindingKind(
        "error",
        "the recipe cannot be run",
        "Reading the recipe, opening its data or loading its base model fails.",
        "It would stop before the first step.",
        "Fix what the evidence names, then run the doctor again.",
    ),
}

REWARD: dict[str, FindingKind] = {
    "captions-break-off": FindingKind(
        "error",
        "captions break off",
        "At the last evaluation the share of captions whose last word is an article, a preposition, a conjunction or a "
        'form of "to be" is more than twice that of the references, and more than 5 percentage points above it (of 30 '
        "validation captions or more, here and below).",
        "A reward that does not count the end of a sentence is won by captions that stop in the middle: every n-gram "
        "they hold is right.",
        "Leave objective.end_word = true; in a reward of one's own, let the end of a sentence count.",
    ),
    "captions-alike": FindingKind(
        "error",
        "fewer and fewer different captions",
        "The share of different validation captions is below half of that of the run's first evaluation.",
        "The model gives many images the caption that is safest on average. Scores show it last.",
        "Divide the learning rate by 3 to 10, stop earlier (selection.min_distinct), or give likelihood a share "
        "(objective.likelihood_share).",
    ),
    "reward-falls": FindingKind(
        "error",
        "the reward falls",
        "The mean reward of drawn captions is more than 10 % lower in the last fifth of the updates than in the first "
        "(with ten updates or more), or CIDEr on validation images ends more than 20 % below its best.",
        "Updates that follow a reward raise it unless they overshoot: the learning rate is too high.",
        "Divide train.learning_rate by 3 to 10; 1e-5 to 3e-5 held in our trials.",
    ),
    "images-by-heart": FindingKind(
        "warning",
        "the training images are known by heart",
        "Until the first evaluation, captions drawn of training images earn more than 1.5 times what the best captions "
        "of validation images earn.",
        "Drawn captions score lower than the best ones, unless the model remembers them from likelihood training: then "
        "little is left to win, and the reward sharpens what is remembered.",
        "Train likelihood with data.reward_share, and the reward on the images that it left out; or on new images.",
    ),
}

CATALOGUE: dict[str, dict[str, FindingKind]] = {
    "Labels": LABELS,
    "Attention": ATTENTION,
    "Loss and learning rate": LOSS,
    "Reward": REWARD,
    "Weights and adapters": WEIGHTS,
    "Prompt": PROMPT,
    "Data": DATA,
    "Evaluation": EVALUATION,
    "Run": RUN,
}
"""All kinds, by what they are about."""

KINDS: dict[str, FindingKind] = {code: kind for group in CATALOGUE.values() for code, kind in group.items()}
