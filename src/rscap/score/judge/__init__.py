"""What a study of several rows, each run with several seeds, allows to be said."""

from rscap.score.judge.judge import judge
from rscap.score.judge.judgement import Judgement, Noise, RowJudgement, Verdict
from rscap.score.judge.pareto import pareto_front

__all__ = ["Judgement", "Noise", "RowJudgement", "Verdict", "judge", "pareto_front"]
