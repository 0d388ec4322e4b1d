from rscap.metrics import (
    METRICS,
)
from rscap.scoring.captions import (
    score_captions,
)
from rscap.scoring.cider import (
    cider_rewards,
)
from rscap.scoring.comparison import (
    Comparison,
    Difference,
    SystemScore,
)
from rscap.scoring.content import (
    CONTENT_VERSION,
    Checked,
    check_content,
)
from rscap.scoring.diagnostics import (
    KINDS,
    degenerate,
)
from rscap.scoring.foreign import (
    ForeignMetric,
    add_foreign,
    column_of,
    is_higher_better,
    load_foreign,
    write_items,
)
from rscap.scoring.judgement import (
    Judgement,
    judge,
)
from rscap.scoring.pool import (
    IdfPool,
)
from rscap.scoring.protocol import (
    PROTOCOLS,
    score_line,
)
from rscap.scoring.references import (
    Candidates,
    References,
    load_candidates,
    load_pair,
    load_references,
)
from rscap.scoring.resampling import (
    DRAWS,
)
from rscap.scoring.sheet import (
    DIGESTS,
    SEEN,
    seen_sentences,
    with_digests,
    with_seen,
)
from rscap.scoring.systems import (
    compare,
)
from rscap.store import (
    read_sheet,
    sheet_text,
    write_sheet,
)

__all__ = [
    "CONTENT_VERSION",
    "DIGESTS",
    "DRAWS",
    "KINDS",
    "METRICS",
    "PROTOCOLS",
    "SEEN",
    "Candidates",
    "Checked",
    "Comparison",
    "Difference",
    "ForeignMetric",
    "IdfPool",
    "Judgement",
    "References",
    "SystemScore",
    "add_foreign",
    "check_content",
    "cider_rewards",
    "column_of",
    "compare",
    "degenerate",
    "is_higher_better",
    "judge",
    "load_candidates",
    "load_foreign",
    "load_pair",
    "load_references",
    "read_sheet",
    "score_captions",
    "score_line",
    "seen_sentences",
    "sheet_text",
    "with_digests",
    "with_seen",
    "write_items",
    "write_sheet",
]
