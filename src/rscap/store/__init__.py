"""The run folder: what lies where, and how it is written so that a reader never sees half a file.

runs/<name>/
  recipe.toml       what was asked for (absent for a zero-shot evaluation, which has `evaluation.json` alone)
  provenance.json   commit, versions, device, data digests
  status.json       started -> interrupted | finished | failed, written last
  parameters.json   total and trainable parameters per tower, and how they are held (dtype, nf4, int8), as read back
  rejected.jsonl    rows of the data that could not be used, with the reason
  removed.jsonl     captions that the quality rules of the recipe removed, with the reason (if it has rules)
  weighted.jsonl    captions that they weighed down, with the weight; quality.json counts both
  train.jsonl       one line a step, one line an evaluation: what is a function of the recipe alone
  speed.jsonl       one line a step: what the clock and the memory said
  checkpoints/step-000120/   enough to resume bit for bit: weights, optimiser, progress.json
  adapter/          PEFT's own layout            (or model/ after full fine-tuning)
  predictions/<split>.jsonl    references/<split>.jsonl    scores/<split>.json
  .captions-<split>.jsonl      captions so far, while an evaluation runs or after it was cut off
  panel/<split>/*.jpg          the examples that the report shows
  baselines/<name>/predictions|scores/<split>…
  report.html
"""

from rscap.store.evaluation import prediction_row, reference_row
from rscap.store.files import (
    atomic_path,
    no_room,
    now,
    read_json,
    read_jsonl,
    replace_folder,
    way_out,
    write_json,
    write_jsonl,
    write_text,
)
from rscap.store.journal import Journal
from rscap.store.run import RunFolder, State

__all__ = [
    "Journal",
    "RunFolder",
    "State",
    "atomic_path",
    "no_room",
    "now",
    "prediction_row",
    "read_json",
    "read_jsonl",
    "reference_row",
    "replace_folder",
    "way_out",
    "write_json",
    "write_jsonl",
    "write_text",
]
