"""Evaluation: generate on a split, write the file, score the file."""
