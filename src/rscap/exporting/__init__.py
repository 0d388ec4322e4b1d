"""A run made ready to be handed on: merged weights or an adapter, checked against the run, with a model card.

request    what is asked for, and the order in which it happens
pictures   the images on which run and export are compared
reading    what a model says of an image, and how sure it is of every token
agreement  do run and export say the same
decoding   the recipe's decode settings in transformers' words
weights    merge, put in one precision, write
private    what must not leave the machine
card/      the model card
hub        upload
"""
