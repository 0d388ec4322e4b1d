"""Asking a model for captions: prompt, batch, loader, choosing tokens, loading.

prompt    the words and the token layout
batch     images and captions as one packed batch
loader    batches made ahead of the step
choice    the next token; beams: beam search; decoding: token by token, in parts that fit
asking    `Captioner`: loaded once, asked often
loading   from the name of a run or a base model to a captioner
"""

from rscap.captioner.asking import Captioner, caption_all
from rscap.captioner.loading import ModelRef, load, load_together

__all__ = ["Captioner", "ModelRef", "caption_all", "load", "load_together"]
