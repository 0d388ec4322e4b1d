"""METEOR 1.5 for English without Java: `Meteor().item_scores(candidates, references)`; see docs/meteor.md.

Written from Denkowski and Lavie (WMT 2011, WMT 2014), the program's documentation and its observed behaviour. The
tables (WordNet synsets, paraphrases, function words) are read from the installed pycocoevalcap, not part of rscap.
"""

from rscap.scoring.measures import Material, Summed
from rscap.scoring.meteor.formula import COLUMNS, Floats, meteor
from rscap.scoring.meteor.index import MeteorUnavailable
from rscap.scoring.meteor.scorer import Meteor

__all__ = ["COLUMNS", "METEOR", "Meteor", "MeteorUnavailable"]

MANY = 1_000
"""Images from which on a second process is worth its start."""


def _statistics(material: Material) -> Floats:
    scorer = Meteor()
    if material.processes > 1 and len(material.references) >= MANY:
        from rscap.scoring.meteor.worker import in_two_processes

        return in_two_processes(scorer, material.candidates, material.references)
    return scorer.statistics(material.candidates, material.references)


METEOR = Summed(
    key="METEOR",
    names=("METEOR",),
    columns=COLUMNS,
    statistics=_statistics,
    scores=lambda sums: {"METEOR": meteor(sums)},
)
