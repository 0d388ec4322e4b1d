# %% [markdown]
# # PaliGemma for satellite images, on a hosted GPU
#
# Install, log in, see what fits the card, train for a quarter of an hour on part of RISC, measure the result beside the
# untouched model, and caption images. The downloads of the model and the data come on top of that time.
#
# If the session disconnects, run the cells again from the top: training continues from its last checkpoint and an
# evaluation from its last caption, provided that `RUNS` is on storage that outlives the session.
#
# The project's tests run the cells of this notebook with a small built-in model and data set in place of the real ones.
# The file is made from `notebooks/hosted_gpu.py`.

# %% tags=["settings"]
PACKAGE = "rscap[train,meteor]"  # or the folder of a checkout: "./rscap[train,meteor]"
RECIPE = "risc-fast"  # ships with rscap; or your own file
BASE = "google/paligemma-3b-pt-224"
SOURCE = "caglarmert/full_riscm"  # a data set on the Hub, or a folder with captions.csv
MINUTES = 15  # of training
TRAIN_IMAGES = 8000  # of RISC's 35,614
TEST_IMAGES = 200
RUNS = "runs"  # on Colab mount a drive first, and name a folder in it: "/content/drive/MyDrive/rscap"
PHOTOS = "photos"  # a folder of your own images, captioned at the end

# %% tags=["setup"]
# !pip install -q "{PACKAGE}"

# %% [markdown]
# If pip replaced packages that this session had imported already, restart the session and run the cells again.
#
# PaliGemma's weights are gated: accept the licence on the model's page once, then log in. The token stays with the Hub's
# client; rscap writes it nowhere. A token in the secret or variable `HF_TOKEN` is found without asking.

# %% tags=["setup"]
from huggingface_hub import get_token, login

if get_token() is None:
    login()

# %% [markdown]
# ## What fits this card
#
# Cards without bfloat16 (T4, P100) train in float16 with a scaled loss. With less than 15 GB the language model is held in
# 4 bits.

# %%
import torch

if torch.cuda.is_available():
    card = torch.cuda.get_device_properties(0)
    memory_gb = card.total_memory / 1e9
    dtype = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    quantisation = "nf4" if memory_gb < 15 else "none"
    print(f"{card.name}: {memory_gb:.0f} GB, {dtype}, quantisation {quantisation}")
else:
    dtype, quantisation = "float32", "none"
    print("no GPU in this session")

# %%
import rscap

recipe = rscap.read_recipe(
    RECIPE,
    f"model.base={BASE}",
    f"model.dtype={dtype}",
    f"model.quantisation={quantisation}",
    f"data.source={SOURCE}",
    f"data.train_limit={TRAIN_IMAGES}",
    "data.workers=2",
    "train.micro_batch=4",
    "train.accumulation=4",
    "train.gradient_checkpointing=true",
    f"train.max_minutes={MINUTES}",
    "train.checkpoint_minutes=2",
)
written = rscap.plan(recipe).written
print(f"training needs about {written.needed / 1e9:.1f} GB" + ("" if written.fits else ": more than there is here"))

# %% [markdown]
# ## Train
#
# Run this cell again after a disconnect: the run continues from its last checkpoint with the recipe that it began with, on
# another kind of card too. Where memory runs out, rscap halves the micro batch and continues.

# %%
from pathlib import Path

trained = Path(RUNS) / "trained"
begun = (trained / "recipe.toml").exists()
run = rscap.train(trained, resume=True) if begun else rscap.train(recipe, trained, resume=True)

# %% [markdown]
# ## Measure
#
# The same test images for the trained model, the untouched one, a constant sentence and the nearest training image. Every
# score comes with its interval. Cut off, the same cell continues after the captions that are there.

# %%
test, zero_shot = Path(RUNS) / "test", Path(RUNS) / "zero-shot"
if not (test / "scores" / "test.json").exists():
    rscap.evaluate(run, limit=TEST_IMAGES, out=test)
if not (zero_shot / "scores" / "test.json").exists():
    rscap.evaluate(BASE, SOURCE, limit=TEST_IMAGES, dtype=dtype, baselines=False, out=zero_shot)

# %%
print(rscap.compare({"trained": test, "zero-shot": zero_shot}))
print(*rscap.report([test, zero_shot], Path(RUNS) / "report.html"), sep="\n")

# %% [markdown]
# ## Look
#
# `report.html` opens in any browser. Some test images with their captions, here:

# %%
from IPython.display import display

model = rscap.load(run)
for example in rscap.open_data(SOURCE).subset("test", 5, seed=0):
    image = example.image.load()
    image.thumbnail((256, 256))
    display(image)
    print(model.caption(example).caption)
    print("reference:", example.captions[0])

# %% [markdown]
# Your own images, from the folder `PHOTOS`:

# %%
for item in model.stream(sorted(Path(PHOTOS).glob("*.*")), errors="keep"):
    print(item)
model.close()

# %% [markdown]
# ## Take it with you
#
# An ordinary PEFT adapter with a model card, compared with the run before it is written. `form="merged"` writes a whole
# model instead, with the adapter merged into the base.

# %%
exported = Path(RUNS) / "captioner"
if not exported.exists():
    print(*rscap.export(run, exported, form="adapter").agreement.sentences())
print(*sorted(path.name for path in exported.iterdir()), sep="\n")
