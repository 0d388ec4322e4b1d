"""Export a run for others: merged weights or an adapter, checked against the run, with a model card.

request.py       the options, and the steps in their order
reading.py       captions and logits of a run and of its export, on the same images
agreement.py     whether run and export agree
card.py          the model card and its facts
hub.py           the files, with decode settings for transformers; what must not be published; upload to the Hub
"""
