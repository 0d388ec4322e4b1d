"""What `first_gpu.py` measures, one module a kind of case.

machine.py      the device: its peak, its bandwidth, what starting a kernel costs; the plan's card
models.py       PaliGemmas with random weights at true geometry, adapters on them
timing.py       seconds, kernels, dispatched operations
compiler.py     what torch.compile did: graphs, breaks, warnings
training.py     steps, beside what `rscap.planning` predicts
variations.py   ways to compute a step that rscap does not have, to see whether they would pay
decoding.py     captions, with adapters in several forms
graphs.py       a decoding step of fixed shapes as a CUDA graph
flex.py         FlexAttention over batches of several sizes: compilations, gradients
activations.py  the largest activations in float16, and what an overflow does
exhaustion.py   memory that runs out: which error comes, and what mends it
lengths.py      batches of many lengths: what new shapes cost, in time and in memory reserved

A case has a `name` and a `kind`, and `measure` gives what goes into the record; `line` says it in a line.
"""
