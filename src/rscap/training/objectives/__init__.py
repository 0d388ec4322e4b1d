"""What an update learns: an objective turns the micro batches of the loop into batches with weights.

likelihood.py      the captions that people wrote, every token with weight 1; and what all objectives have in common
self_critical.py   captions that the model draws itself, weighted by how much better than each other they score
reward.py          how good a drawn caption is

The loop computes the gradients of an objective's batches, whatever they are (`rscap.training.room`).
"""
