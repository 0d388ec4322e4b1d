"""Ablation studies: a study file is expanded into a plan of runs, and the runs that are missing are carried out.

study.py    the study file              jobs.py      one part of a study as a job; what an engine is
rows.py     axes and rows to recipes    work.py      carry out one job: train, evaluate, score baselines
plan.py     which run is in which       engines.py   jobs in processes of this machine, or on a Ray cluster
            folder                      runner.py    the missing jobs of a study; its status table
state.py    whether folders hold
            what the plan says
"""
