"""The scene classes of the built-in sample, by the name that a caption would use."""

from __future__ import annotations

from rscap.data.sample.scenes.base import Claim, Scene
from rscap.data.sample.scenes.homes import DenseResidential, SparseResidential
from rscap.data.sample.scenes.industry import SolarFarm, StorageTanks
from rscap.data.sample.scenes.land import Farmland, Forest
from rscap.data.sample.scenes.sport import BaseballField, Playground, TennisCourt
from rscap.data.sample.scenes.transport import Airport, Bridge, ParkingLot, Roundabout
from rscap.data.sample.scenes.water import Beach, Harbour, Pond

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
