"""What the shards of one lane share: recipe, engine, places, decoders."""

from dataclasses import dataclass, field

from caprl_core.data.decode_pool import DecodePool
from caprl_core.data.roots import ImageReader
from caprl_core.engines.protocol import Engine, EngineInfo
from caprl_core.engines.slots import PrioritySlots
from caprl_core.recipe.models import StageRecipe
from caprl_core.shards.company import Company
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.meter import EngineMeter
from caprl_core.shards.stage import Stage


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What the shards of one lane share."""

    recipe: StageRecipe
    dataset: Dataset
    stage: Stage
    engine: Engine
    info: EngineInfo
    slots: PrioritySlots
    ahead: PrioritySlots
    """Samples of all shards that are read, decoded or waiting for a slot: what the lane keeps in memory of images."""
    meter: EngineMeter
    reader: ImageReader
    decoder: DecodePool
    company: Company = field(default_factory=Company)
