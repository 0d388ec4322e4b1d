"""Training: the loop, its updates, its optimiser."""
