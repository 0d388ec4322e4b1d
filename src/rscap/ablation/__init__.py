"""Ablation studies: a study file is expanded into a plan of runs, and the runs that are missing are carried out.

study.py    the study file              work.py      one part of a study as a job, and carrying it out
rows.py     axes and rows to recipes    engines.py   jobs in processes of this machine, or on a Ray cluster
plan.py     which run is in which       runner.py    the missing jobs of a study; its status table
            folder
"""
