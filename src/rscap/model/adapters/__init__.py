"""Which weights are trainable, and how: frozen, adapted and trained towers, by the recipe's adapter method.

preparation.py  freeze, start, quantise, adapt, train; every adapted layer is read back
start.py        what PiSSA, OLoRA, CorDA and EVA start from, and the algebra
calibration.py  activations of training images, for EVA and CorDA
config.py       the adapted layers by full path; PEFT's configuration; optimiser groups (weight decay, LoRA+)
allocation.py   AdaLoRA's ranks during training
foreign.py      adapters of other programs, with the names of any transformers
storage.py      save and load in PEFT's layout; add an adapter to its base's weights
"""

from rscap.model.adapters.allocation import Allocation
from rscap.model.adapters.calibration import Calibration
from rscap.model.adapters.config import parameter_groups, quiet_peft, target_expression, trainable_parameters
from rscap.model.adapters.foreign import (
    ForeignAdapter,
    find_adapter,
    least_transformers,
    load_foreign,
    make_portable,
    portable_name,
    recipe_of_adapter,
)
from rscap.model.adapters.preparation import precision_to_load, prepare
from rscap.model.adapters.start import initial_factors
from rscap.model.adapters.storage import load_adapter, merge, save_adapter

__all__ = [
    "Allocation",
    "Calibration",
    "ForeignAdapter",
    "find_adapter",
    "initial_factors",
    "least_transformers",
    "load_adapter",
    "load_foreign",
    "make_portable",
    "merge",
    "parameter_groups",
    "portable_name",
    "precision_to_load",
    "prepare",
    "quiet_peft",
    "recipe_of_adapter",
    "save_adapter",
    "target_expression",
    "trainable_parameters",
]
