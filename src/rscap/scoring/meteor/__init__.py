"""METEOR 1.5 for English without Java: `Meteor().item_scores(candidates, references)`; see docs/meteor.md.

Written from Denkowski and Lavie (WMT 2011, WMT 2014), the program's documentation and its observed behaviour. The
tables (WordNet synsets, paraphrases, function words) are read from the installed pycocoevalcap, not part of rscap.
"""

from rscap.scoring.measures import Summed
from rscap.scoring.meteor.formula import COLUMNS, meteor
from rscap.scoring.meteor.scorer import Meteor
from rscap.scoring.meteor.source import MeteorUnavailable

__all__ = ["COLUMNS", "METEOR", "Meteor", "MeteorUnavailable"]

METEOR = Summed(
    key="METEOR",
    names=("METEOR",),
    columns=COLUMNS,
    statistics=lambda material: Meteor().statistics(material.candidates, material.references),
    scores=lambda sums: {"METEOR": meteor(sums)},
)
