"""The scene classes of the built-in sample, by the name that a caption would use."""

from __future__ import annotations

from rscap.sample.scenes.base import Claim, Scene
from rscap.sample.scenes.buildings import DenseResidential, SolarFarm, SparseResidential, StorageTanks
from rscap.sample.scenes.land import Farmland, Forest
from rscap.sample.scenes.sport import BaseballField, Playground, TennisCourt
from rscap.sample.scenes.transport import Airport, Bridge, ParkingLot, Roundabout
from rscap.sample.scenes.water import Beach, Harbour, Pond

SCENES: dict[str, type[Scene]] = {
    "airport": Airport,
    "baseball field": BaseballField,
    "beach": Beach,
    "bridge": Bridge,
    "dense residential": DenseResidential,
    "farmland": Farmland,
    "forest": Forest,
    "harbour": Harbour,
    "parking lot": ParkingLot,
    "playground": Playground,
    "pond": Pond,
    "roundabout": Roundabout,
    "solar farm": SolarFarm,
    "sparse residential": SparseResidential,
    "storage tanks": StorageTanks,
    "tennis court": TennisCourt,
}

__all__ = ["SCENES", "Claim", "Scene"]
