"""Images to captions: greedy decoding, beam search and draws, in batches that change no caption.

Every prompt of a call has the same words, hence the same length, so a batch needs no padding and its captions are those
of one-by-one decoding. Scores are processed as transformers' `generate` processes them, with its own processors.
"""

from rscap.captioner.decode import NEAR_TIE, Decoded, Say, decode
from rscap.captioner.stream import generate, to_stderr

__all__ = ["NEAR_TIE", "Decoded", "Say", "decode", "generate", "to_stderr"]
