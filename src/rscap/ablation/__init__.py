"""Ablation studies: a study file is expanded into a plan of runs, and the runs that are missing are carried out.

study.py    the study file              work.py      carry out one job: train, evaluate, score baselines
rows.py     axes and rows to recipes    engines.py   jobs in processes of this machine, or on a Ray cluster
plan.py     runs, folders and jobs      runner.py    the missing jobs of a study; its status table
"""
