"""Training: from a recipe to a run folder with the trained weights.

session.py      prepare, fit, select, save       folder.py      a run begins or resumes; status, provenance
loop.py         update, evaluate, save, stop     room.py        gradients in the memory there is
examples.py     what is trained on               updates.py     which examples make up which update
panel.py        evaluation during training       start.py       begin with the weights of a finished run
optimiser.py    AdamW, schedule, loss scaling    checkpoints.py resume bit for bit
team.py         several processes, sharding      features.py    features of a frozen vision tower
log.py          the run's own log                trackers.py    TensorBoard, Weights & Biases, …
objectives/     what an update learns: captions that people wrote, or drawn ones by their reward
"""
