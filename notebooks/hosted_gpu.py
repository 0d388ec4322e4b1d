# %% [markdown]
# # PaliGemma for satellite images, on a hosted GPU
#
# Install, find the token, see what fits the card and what is downloaded, train for a quarter of an hour on part of RISC,
# measure the result beside the untouched model, look at captions, caption photographs of your own, and export the model.
# The downloads of the model and the data come on top of that time; their sizes are printed before they begin.
#
# If the session disconnects, run the cells again from the top: training continues from its last checkpoint and an
# evaluation from its last caption, because runs are kept on storage that outlives the session.
#
# The project's tests run the cells of this notebook with a small built-in model and data set in place of the real ones;
# it has not been run with the real weights. The file is made from `notebooks/hosted_gpu.py`.

# %% tags=["settings"]
RSCAP = ""  # a wheel (path or address) or a repository (git+https://…); empty: the rscap-*.whl uploaded to this session
RECIPE = "risc-fast"  # ships with rscap; or your own file
BASE = "google/paligemma-3b-pt-224"
SOURCE = "caglarmert/full_riscm"  # a data set on the Hub, or a folder with captions.csv
MINUTES = 15  # of training
TRAIN_IMAGES = 8000  # of RISC's 35,614
TEST_IMAGES = 200
RUNS = ""  # where runs are kept; empty: the folder `rscap` of your drive on Colab, of /kaggle/working on Kaggle
PHOTOS = "photos"  # a folder of your own images, captioned below

# %% [markdown]
# ## Install
#
# On Kaggle, first switch on the internet and a GPU in the panel on the right. If pip replaced packages that this session had
# imported already, restart the session and run the cells again.

# %%
from pathlib import Path

found = RSCAP or next((str(path) for path in sorted(Path.cwd().glob("rscap-*.whl"))), "")
if not found:
    raise FileNotFoundError("there is no wheel here: upload rscap-*.whl to this session, or give its address as RSCAP")
REQUIREMENT = f"rscap[train,meteor] @ {found if '://' in found else Path(found).resolve().as_uri()}"

# %% tags=["setup"]
# !pip install -q "{REQUIREMENT}"

# %% [markdown]
# ## Where runs are kept
#
# Colab asks once whether it may mount your drive. On Kaggle, `/kaggle/working` is kept when you save the version, or with the
# session option "Files only". Elsewhere runs are kept in the folder `runs`.

# %%
try:
    from google.colab import drive
except ImportError:
    kept = Path("/kaggle/working/rscap") if Path("/kaggle/working").is_dir() else Path("runs")
else:
    drive.mount("/content/drive")
    kept = Path("/content/drive/MyDrive/rscap")
runs = Path(RUNS) if RUNS else kept
print("runs are kept in", runs.resolve())

# %% [markdown]
# ## The token
#
# PaliGemma's weights are gated: accept the licence on the model's page once, and store a token as the secret `HF_TOKEN` of
# Colab or Kaggle. It is read from there; without it you are asked. rscap writes the token nowhere.

# %%
import os

from huggingface_hub import get_token, login

if "/" in BASE and get_token() is None:  # which looks into Colab's secrets and into HF_TOKEN
    try:
        from kaggle_secrets import UserSecretsClient

        os.environ["HF_TOKEN"] = UserSecretsClient().get_secret("HF_TOKEN")
    except ImportError:
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
# What is downloaded, once a session:

# %%
from huggingface_hub import HfApi

for kind, name in (("model", BASE), ("dataset", SOURCE)):
    if "/" in name and not Path(name).exists():
        files = HfApi().repo_info(name, repo_type=kind, files_metadata=True).siblings or []
        wanted = [one.size or 0 for one in files if not one.rfilename.endswith((".npz", ".bin", ".h5", ".gguf"))]
        print(f"{name}: at most {sum(wanted) / 1e9:.1f} GB")

# %% [markdown]
# ## Train
#
# Run this cell again after a disconnect: the run continues from its last checkpoint with the recipe that it began with, on
# another kind of card too. Where memory runs out, rscap halves the micro batch and continues.

# %%
trained = runs / "trained"
begun = (trained / "recipe.toml").exists()
run = rscap.train(trained, resume=True) if begun else rscap.train(recipe, trained, resume=True)

# %% [markdown]
# ## Measure
#
# The same test images for the trained model, the untouched one, a constant sentence and the nearest training image. Every
# score comes with its interval. Cut off, the same cell continues after the captions that are there.

# %%
test, zero_shot = runs / "test", runs / "zero-shot"
if not (test / "scores" / "test.json").exists():
    rscap.evaluate(run, limit=TEST_IMAGES, out=test)
if not (zero_shot / "scores" / "test.json").exists():
    longest = recipe.generate.max_new_tokens  # both are decoded alike
    rscap.evaluate(BASE, SOURCE, limit=TEST_IMAGES, dtype=dtype, baselines=False, out=zero_shot, max_new_tokens=longest)

# %%
print(rscap.compare({"trained": test, "zero-shot": zero_shot}))
print(*rscap.report([test, zero_shot], runs / "report.html"), sep="\n")

# %% [markdown]
# ## Look
#
# `report.html` opens in any browser. Some test images with their captions, here:

# %%
from IPython.display import display

model = rscap.load(run)


def show(image):
    """A picture of at most 256 pixels."""
    image.thumbnail((256, 256))
    display(image)


for example in rscap.open_data(SOURCE).subset("test", 5, seed=0):
    show(example.image.load())
    print(model.caption(example).caption)
    print("reference:", example.captions[0])

# %% [markdown]
# ## Your own photographs
#
# Every image in the folder `PHOTOS`; on Colab, an empty folder asks for an upload. What cannot be read is named. The captions
# are also written to `captions.csv` beside the runs.

# %%
import csv

from PIL import Image

from rscap.records import Rejected

Path(PHOTOS).mkdir(exist_ok=True)
if not any(Path(PHOTOS).iterdir()):
    try:
        from google.colab import files as upload
    except ImportError:
        print("put images into", Path(PHOTOS).resolve())
    else:
        upload.upload(target_dir=PHOTOS)
photos = sorted(path for path in Path(PHOTOS).iterdir() if path.is_file())
with (runs / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
    table = csv.writer(stream)
    table.writerow(["image", "caption"])
    for path, item in zip(photos, model.stream(photos, errors="keep"), strict=True):
        if isinstance(item, Rejected):
            print(f"{path.name}: {item.reason}")
            continue
        show(Image.open(path).convert("RGB"))
        print(f"{path.name}: {item.caption}")
        table.writerow([path.name, item.caption])
model.close()

# %% [markdown]
# ## Take it with you
#
# An ordinary PEFT adapter with a model card, compared with the run before it is written, and all of it as one file to
# download. `form="merged"` writes a whole model instead, with the adapter merged into the base.

# %%
import shutil

exported = runs / "captioner"
if not exported.exists():
    print(*rscap.export(run, exported, form="adapter").agreement.sentences())
print(*sorted(path.name for path in exported.iterdir()), sep="\n")
print("download:", shutil.make_archive(str(exported), "zip", exported))
