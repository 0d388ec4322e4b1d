# %% [markdown]
# # PaliGemma for satellite images, on a hosted GPU
#
# In about twenty minutes: install, log in, see what fits the card, train for a quarter of an hour on part of RISC, measure
# it beside the untouched model, and look at captions. A session that disconnects loses nothing: run the cells again from
# the top, and the training cell goes on where it was.
#
# The cells of this notebook are run by the project's tests, with a small built-in model and data set in place of the real
# ones. The file is made from `notebooks/hosted_gpu.py`.

# %% tags=["settings"]
PACKAGE = "rscap[train,meteor]"  # or the folder of a checkout: "./rscap[train,meteor]"
RECIPE = "risc-fast"  # ships with rscap; or your own file
BASE = "google/paligemma-3b-pt-224"
SOURCE = "caglarmert/full_riscm"  # a data set on the Hub, or a folder with captions.csv
MINUTES = 15  # of training
TRAIN_IMAGES = 8000  # of RISC's 35,614
TEST_IMAGES = 200
RUNS = "runs"  # put it on storage that outlives the session, such as a mounted drive

# %% tags=["setup"]
# !pip install -q "{PACKAGE}"

# %% [markdown]
# PaliGemma's weights are gated: accept the licence on the model's page once, then log in. The token stays with the Hub's
# client; rscap writes it nowhere.

# %% tags=["setup"]
from huggingface_hub import login

login()

# %% [markdown]
# ## What fits this card
#
# Cards without bfloat16 (T4, P100) train in float16 with a scaled loss. With less than 16 GB the language model is held in
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
SET = (
    f"--set model.base={BASE} --set model.dtype={dtype} --set model.quantisation={quantisation} "
    f"--set data.source={SOURCE} --set data.train_limit={TRAIN_IMAGES} --set data.workers=2 "
    f"--set train.micro_batch=4 --set train.accumulation=4 --set train.gradient_checkpointing=true "
    f"--set train.max_minutes={MINUTES} --set train.checkpoint_minutes=2"
)

# %% [markdown]
# ## Train
#
# Run this cell again after a disconnect: `--resume` goes on from the last checkpoint with the recipe that the run was begun
# with, on another kind of card too. Out of memory halves the micro batch and goes on.

# %%
import os

if os.path.exists(f"{RUNS}/trained/recipe.toml"):
    # !rscap train {RUNS}/trained --resume
    pass
else:
    # !rscap train {RECIPE} {SET} --out {RUNS}/trained --resume
    pass

# %% [markdown]
# ## Measure
#
# The same test images for the trained model, the untouched one, a constant sentence and the nearest training image. Every
# score comes with its interval. Cut off, the same command goes on after the captions that are there.

# %%
if not os.path.exists(f"{RUNS}/test/scores/test.json"):
    # !rscap evaluate {RUNS}/trained --limit {TEST_IMAGES} --out {RUNS}/test
    pass
if not os.path.exists(f"{RUNS}/zero-shot/scores/test.json"):
    # !rscap evaluate {BASE} --source {SOURCE} --limit {TEST_IMAGES} --dtype {dtype} --no-baselines --out {RUNS}/zero-shot
    pass

# %%
# !rscap report {RUNS}/test {RUNS}/zero-shot --out {RUNS}/report.html

# %% [markdown]
# ## Look
#
# `report.html` opens in any browser. Some captions, here:

# %%
import json
from itertools import islice

with open(f"{RUNS}/test/predictions/test.jsonl", encoding="utf-8") as lines:
    for line in islice(lines, 5):
        row = json.loads(line)
        print(f"{row['id']}: {row['caption']}")

# %% [markdown]
# ## Take it with you
#
# `trained/adapter` is an ordinary PEFT adapter; `rscap export` merges it into the base, checks that the captions stay the
# same, and writes a model card.

# %%
# !ls {RUNS}/trained/adapter
