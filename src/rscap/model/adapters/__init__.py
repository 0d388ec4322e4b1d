"""Which weights learn, and how: frozen, adapted and trained towers, by the method that the recipe names.

targets.py      the layers that are adapted, by full path
preparation.py  freeze, start, quantise, adapt, train
start.py        what PiSSA, OLoRA, CorDA and EVA start from; decompose.py and components.py hold the algebra
calibration.py  activations of training images, for EVA and CorDA
config.py       the recipe's section in PEFT's words
check.py        every targeted layer is read back: method, rank, scale, parameters
groups.py       optimiser groups (weight decay, LoRA+)
allocation.py   AdaLoRA's ranks during training
storage.py      PEFT's layout on disk, and back
"""

from rscap.model.adapters.allocation import Allocation
from rscap.model.adapters.calibration import Calibration
from rscap.model.adapters.config import parameter_groups, quiet_peft, trainable_parameters
from rscap.model.adapters.preparation import precision_to_load, prepare
from rscap.model.adapters.start import initial_factors
from rscap.model.adapters.storage import load_adapter, save_adapter
from rscap.model.adapters.targets import target_expression

__all__ = [
    "Allocation",
    "Calibration",
    "initial_factors",
    "load_adapter",
    "parameter_groups",
    "precision_to_load",
    "prepare",
    "quiet_peft",
    "save_adapter",
    "target_expression",
    "trainable_parameters",
]
