"""Why a run is bad, or a recipe will be: `diagnose` looks at runs of rscap, recipes, and other people's files.

evidence.py    what is looked at, whatever it was read from
own.py  foreign.py  probe.py    read a run or a recipe, read anybody's files, measure on the live model
checks/        one function a check
catalogue.py   every kind of finding: why it matters and what to do
snapshot.py    one line for other people's training scripts
"""

from rscap.doctor.catalogue import CATALOGUE, KINDS, Kind
from rscap.doctor.diagnosis import diagnose
from rscap.doctor.findings import Diagnosis, Finding

__all__ = ["CATALOGUE", "KINDS", "Diagnosis", "Finding", "Kind", "diagnose"]
