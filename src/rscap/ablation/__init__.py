"""Ablations: one study file, a plan of runs that differ in named keys, and what is missing of it is run.

study.py    the study file              state.py    how far each run is, told from its folder
rows.py     axes and rows to recipes    work.py     one job: train and evaluate, in the process at hand
plan.py     who runs where; plan.json   local.py    jobs as processes of this machine
runner.py   what is missing, is run     on_ray.py   jobs as tasks of a Ray cluster
"""
