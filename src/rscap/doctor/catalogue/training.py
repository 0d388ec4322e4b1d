"""What can be wrong with training: labels, attention, losses, weights."""

from __future__ import annotations

from rscap.doctor.catalogue.kinds import Kind
from rscap.store import TRAIN_LOG

LABELS: dict[str, Kind] = {
    "image-targets": Kind(
        "error",
        "image tokens are labels",
        "A label other than -100 stands on an image token, or an image token is a target of the packed batch.",
        "The model is taught to print <image>. There are 256 of them to a caption of a dozen words, so they make up "
        "nearly all of the loss, and the caption is hardly learned.",
        "Set labels to -100 wherever input_ids is the image token; with PaliGemmaProcessor, pass the caption as "
        "`suffix` and use the labels it returns.",
    ),
    "prompt-targets": Kind(
        "error",
        "prompt tokens are labels",
        "A label stands on a prefix token: token type 0, or <bos> where the types do not tell.",
        "The prompt is given at test time and need not be predicted; learning it takes gradient from the caption and "
        "makes the model repeat the prompt.",
        "Supervise the caption and its <eos> alone: -100 for <bos>, the words of the prompt and the newline.",
    ),
    "padding-targets": Kind(
        "error",
        "padding is a label",
        "A label stands where attention_mask is 0.",
        "The model is taught to print padding after, or before, a caption; long batches are then mostly padding.",
        "Set labels to -100 wherever attention_mask is 0.",
    ),
    "no-targets": Kind(
        "error",
        "captions without any label",
        "A row, or a caption of the packed batch, has no label.",
        "Nothing is learned from these captions; a batch of such rows has a loss of 0 or NaN.",
        "Look at how labels are masked: the caption and its <eos> must keep their ids.",
    ),
    "no-eos": Kind(
        "error",
        "captions that do not end in <eos>",
        "The labels of a caption hold no <eos>.",
        "The model never learns to stop: it goes on to the length limit, with loops and invented sentences.",
        "End every caption with exactly one <eos> and keep it among the labels; `suffix=` of PaliGemmaProcessor does.",
    ),
    "many-eos": Kind(
        "error",
        "captions with several <eos>",
        "The labels of a caption hold <eos> more than once.",
        "The model is taught to stop in the middle of a caption, or to print <eos> after <eos>.",
        "Remove <eos> from the text of the captions, and do not pad with <eos> unless its labels are -100.",
    ),
}

ATTENTION: dict[str, Kind] = {
    "answer-visible": Kind(
        "error",
        "the answer is visible to itself",
        "Another id in place of the last caption token changes outputs before it; or a saved batch has no "
        "token_type_ids, or none of type 1.",
        "A caption token that sees the tokens after it copies them in training; at test time they are not there, and "
        "the model has learned nothing that helps.",
        "Pass token_type_ids with every training batch, 0 on the prefix and 1 on the caption (PaliGemmaProcessor "
        "returns them when the caption is given as `suffix`). Without them transformers drops the mask of any batch "
        "that has no padding.",
    ),
    "prefix-causal": Kind(
        "error",
        "the prefix does not see itself both ways",
        "Another id in place of the last prefix token changes none of the outputs before it.",
        "PaliGemma was pretrained with a prefix that attends in both directions; a causal one is another model, and "
        "image tokens no longer see the prompt.",
        "Pass token_type_ids in training and to generate(): 0 on image tokens and prompt, 1 on the caption.",
    ),
}

LOSS: dict[str, Kind] = {
    "uniform-loss": Kind(
        "error",
        "the loss is that of a uniform guess",
        "The tokens of the first batch all lose about ln V (mean within 10 %, spread below 1 nat); or the "
        "last fifth of the logged losses is above 0.9 ln V.",
        "A model that spreads its probability evenly over V tokens has the loss ln V. Whoever is there, or above, "
        "knows nothing of these targets: they are wrong, or the weights are not the base model's.",
        "Look at labels and attention first (both are checked here), then at how the weights were loaded.",
    ),
    "zero-loss": Kind(
        "error",
        "the first loss is zero",
        "The first loss is below 0.001.",
        "Before it learned anything, the model predicts every target: it sees the answer, or nothing is supervised.",
        "Look at token_type_ids and labels of the first batch.",
    ),
    "loss-not-finite": Kind(
        "error",
        "the loss or its gradient is not finite",
        "A logged loss is NaN or infinite, or more than a tenth of the gradient norms are.",
        "After a NaN or an infinity the weights are spoilt; with float16 it usually is an overflow.",
        "Train in bfloat16 or float32, or keep the residual stream in float32; lower the learning rate; take the last "
        "checkpoint from before.",
    ),
    "loss-rises": Kind(
        "error",
        "the loss rises",
        "The last fifth of the losses lies above the first by more than 5 % and more than neighbours lie "
        "apart (medians; ten logged updates or more, here and below).",
        "Training makes the model worse than it was. The usual cause is a learning rate too high for the method.",
        "Divide the learning rate by 3 to 10, or lengthen the warm-up; with LoRA+ or rsLoRA remember that they raise "
        "the rate in effect.",
    ),
    "loss-flat": Kind(
        "error",
        "the loss does not move",
        "From the first to the last fifth the loss falls by less than 2 %.",
        "Nothing is learned: the learning rate is too low for the method or the length of the run, the adapters are "
        "not trained, or the targets cannot be learned.",
        "If labels and adapters are sound, multiply the learning rate by 3 to 10 (LoRA wants about ten times the rate "
        "of full fine-tuning), or train longer.",
    ),
    "past-its-best": Kind(
        "warning",
        "the run went on past its best",
        "Of three evaluations or more, the last validation loss lies above the lowest by more than 5 %, CIDEr is lower "
        "too, and the last weights are kept.",
        "The model learns its training captions by heart: from some step on it describes new images worse.",
        "Keep the best weights with a [selection] section (patience stops early), train for fewer epochs, or give it "
        "more images, augmentation or dropout.",
    ),
    "always-clipped": Kind(
        "warning",
        "nearly every gradient is clipped",
        "95 % of the gradient norms exceed the limit, their median three times over; they do not come down, "
        "and the loss falls by less than 10 %.",
        "Clipping should catch outliers. Where it cuts every gradient several times over, and neither gradients nor "
        "loss come down, the learning rate is too high for the method, or the targets cannot be learned.",
        "If labels are sound, lower the learning rate, lengthen the warm-up, or make updates of more captions.",
    ),
    "rate-too-high": Kind(
        "error",
        "the learning rate is too high",
        "Recipes: eight updates on one small batch, four of them warm-up. After one of them the loss of that "
        "batch is more than 2 % above where it began; or after the last, and not before the first, every token of the "
        "vocabulary is as likely.",
        "An update that makes the loss of the very batch it was made for higher overshoots; so does one that leaves a "
        "model that knows nothing.",
        "Divide train.learning_rate by 3 to 10 and ask again.",
    ),
    "rate-too-low": Kind(
        "error",
        "the learning rate is too low",
        "Recipes: the same eight updates lower the loss so little that the whole schedule, at that pace, "
        "would not make 2 %.",
        "Even on one batch again and again the loss hardly moves, and the run has too few updates to make up for it.",
        "Multiply train.learning_rate by 3 to 10, or train longer, and ask again.",
    ),
}

WEIGHTS: dict[str, Kind] = {
    "frozen-tower-learns": Kind(
        "error",
        "a frozen tower learns",
        "An adapter, or a trainable parameter, lies in a tower that the recipe or doctor.toml freezes; or, "
        "where nobody says, in a vision tower that a bare list of names reached.",
        "A bare list of module names (q_proj, v_proj) also matches the vision tower's attention: more is trained, "
        "stored and compared than was said.",
        "Name targets by full path, one expression a tower, and count the matches; rscap recipes do.",
    ),
    "tower-does-not-learn": Kind(
        "error",
        "a tower that should learn does not",
        "A tower is to be adapted or trained and has no adapter or no trainable parameter.",
        "What was asked for was not done; the result is that of another experiment.",
        "Check the target names against the model's modules, and that requires_grad is set after freezing.",
    ),
    "target-unmatched": Kind(
        "error",
        "a target module matches nothing",
        "target_modules of adapter_config.json lists a name that no adapted module ends in.",
        "PEFT is silent about a name of the list that matches no module as long as another one does.",
        "Correct the name; attention output is o_proj in Gemma and out_proj in SigLIP.",
    ),
    "adapter-untouched": Kind(
        "error",
        "the adapter is as it was made",
        "All B matrices of a tower are zero.",
        "LoRA's B matrices begin at zero. Where they still are, the adapted model is the base model.",
        "Check that the optimiser was given the adapter's parameters, that gradients reach them, and that the adapter "
        "was saved after training.",
    ),
    "adapter-not-finite": Kind(
        "error",
        "the adapter holds NaN or infinity",
        "A tensor of the adapter holds NaN or infinity.",
        "Every caption it generates is noise.",
        "Take an earlier checkpoint; lower the learning rate; do not train weights in float16.",
    ),
    "weights-unfit": Kind(
        "error",
        "the trained weights do not fit their base model",
        "Loading them as `rscap evaluate` does fails.",
        "Keys that match nothing are dropped by some loaders, and layers without a key stay as in the base.",
        "Bring back the base model and the recipe that the run was made with.",
    ),
    "nothing-learned": Kind(
        "error",
        "the trained weights are no better than the base",
        "On the first training batch their loss is not 2 % below the base's.",
        "On images and captions that were trained on, the loss is not below that of the base model: what is in the "
        "folder is not what training made, or training made nothing.",
        f"Look at the loss in {TRAIN_LOG}. If it fell, the wrong weights were saved, or the base is another; if it did "
        "not, look at the other findings.",
    ),
    "method-not-as-asked": Kind(
        "error",
        "the adapter is not the one that was asked for",
        "PEFT's kind, rank, alpha, rsLoRA or DoRA of adapter_config.json differ from the recipe or doctor.toml.",
        "The score will be reported under the name of a method that was not used.",
        "Compare adapter_config.json with the recipe, and train again or correct the name.",
    ),
    "dtype-not-as-asked": Kind(
        "error",
        "weights are not in the precision that was asked for",
        "More than 1 % of a tower's frozen elements are in another precision, nothing is quantised where it "
        "should be, or 4-bit layers compute in float32.",
        "A misspelt option is swallowed by the library: memory and speed are those of another precision, and 4-bit "
        "layers may compute in float32.",
        "Read the dtype of the loaded weights back; pass `dtype=` to from_pretrained and bnb_4bit_compute_dtype to "
        "BitsAndBytesConfig.",
    ),
}
