"""Export a run for others: merged weights or an adapter, checked against the run, with a model card.

request.py       the options, and the steps in their order
reading.py       captions and logits of a run and of its export, on the same images
agreement.py     whether run and export agree
weights.py       merge, convert, write; decode settings for transformers
card.py          the model card; card_subject.py holds its facts
hub.py           what must not be published; upload to the Hub
"""
