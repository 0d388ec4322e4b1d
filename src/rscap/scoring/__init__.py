"""Scores of captions: BLEU-1 to BLEU-4, METEOR 1.5, ROUGE-L and CIDEr-D as coco-caption reports them, without Java.

    from rscap import scoring

    sheet = scoring.score_captions(candidates, references)   # {id: caption}, {id: captions}
    print(scoring.score_line(sheet))                         # CIDEr-D 1.51 [1.46, 1.56]  protocol:coco|…
    scoring.write_sheet("scores.json", sheet)

Each metric has a module, which states its formula: `bleu` Papineni et al., ACL 2002 · `meteor` Denkowski and Lavie,
WMT 2014 · `rouge` Lin, 2004 · `cider` Vedantam et al., CVPR 2015 · `sentence` Chen and Cherry, WMT 2014. Only NumPy is
needed. METEOR reads its tables from the installed package pycocoevalcap (`pip install "rscap[meteor]"`); without it
the sheet leaves METEOR out and says so in a note.
"""

from rscap.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
