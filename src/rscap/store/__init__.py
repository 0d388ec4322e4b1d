"""What rscap keeps on the disk: the folder of a run, of an evaluation, of a study. Written here and read here alone.

runs/<name>/
  recipe.toml       what was asked for; an evaluation that stands apart from its run has evaluation.json in its place
  provenance.json   commit, versions, device, data digests
  status.json       started -> interrupted | finished | failed, written last
  parameters.json   total and trainable parameters per tower, and how they are held (dtype, nf4, int8), as read back
  idf.npz           document frequencies of its training references, for consensus decoding
  seen.npz          the images it was trained on, and those that selected its weights: ids and digests
  rejected.jsonl    rows of the data that could not be used, with the reason
  removed.jsonl     captions that the quality rules of the recipe removed, with the reason (if it has rules)
  weighted.jsonl    captions that they weighed down, with the weight; quality.json counts both
  train.jsonl       one line a step, one line an evaluation: what is a function of the recipe alone
  speed.jsonl       one line a step: what the clock and the memory said
  checkpoints/step-000120/   enough to resume bit for bit: weights, optimiser, progress.json
  checkpoints/start.safetensors   the initial factors of methods that compute them from weights or data
  adapter/          PEFT's own layout            (or model/ after full fine-tuning)
  predictions/<split>.jsonl    references/<split>.jsonl    scores/<split>.json
  .captions-<split>.jsonl      captions so far, while an evaluation runs or after it was cut off
  panel/<split>/*.jpg          twelve of the images, as large as the model saw them
  thumbnails/<split>.jsonl       small pictures of all images, for the browser of the report
  baselines/<name>/predictions|scores/<split>…
  report.html

The folder of an export also has model.stac.json, its STAC Item.

Checkpoints are described in `rscap.store.checkpoint`, a study's folder in `rscap.store.study`. Other rooms take the
names of files from here, also in what they say of them, and read records in place of files.
"""

from rscap.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
