"""Asking a model for captions: prompt, batch, loader, choosing tokens, loading.

prompt    the words and the token layout
batch     images and captions as one packed batch
loader    batches made ahead of the step
choice    the next token; beams: beam search; decoding: token by token, in parts that fit
asking    `Captioner`: loaded once, asked often
loading   from the name of a run or a base model to a captioner; exported: how an export is asked
remote    a model behind an OpenAI-compatible server, asked without torch
"""

from rscap.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
