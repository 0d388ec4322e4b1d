"""Why a run is bad, or a recipe will be: `diagnose` examines runs of rscap, recipes, and files of other programs.

evidence.py    the records that checks examine, whatever they were read from
own.py  foreign.py  probe.py    read a run or a recipe, read files of other programs, measure the loaded model
checks/        one function for each check
catalogue.py   every kind of finding: why it matters and what to do
snapshot.py    one line for other training scripts, and the reading of what it saves
"""

from rscap.doctor.catalogue import CATALOGUE, KINDS, FindingKind
from rscap.doctor.diagnosis import diagnose
from rscap.doctor.findings import Diagnosis, Finding

__all__ = ["CATALOGUE", "KINDS", "Diagnosis", "Finding", "FindingKind", "diagnose"]
