"""Images to captions: greedy decoding, beam search and draws, in batches that change no caption.

Every prompt of a call has the same words, hence the same length, so a batch needs no padding and its captions are those
of one-by-one decoding. Scores are processed as transformers' `generate` processes them, with its own processors.
"""

from rscap.generate.fitting import Say
from rscap.generate.stream import generate, to_stderr
from rscap.generate.tokens import NEAR_TIE, Decoded, decode

__all__ = ["NEAR_TIE", "Decoded", "Say", "decode", "generate", "to_stderr"]
