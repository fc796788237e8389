"""Pictures as the patches that Qwen2.5-VL's image processor makes of them, in a third of its time."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from caprl_core.world.drawing import SIDE
from caprl_core.world.model_folders import IMAGE_MEAN, IMAGE_STD, MERGE, PATCH

GRID = (1, SIDE // PATCH, SIDE // PATCH)
"""Patches in time, height and width."""
TOKENS = (SIDE // (PATCH * MERGE)) ** 2
"""Visual tokens of a picture."""


def patches(picture: Image.Image) -> Any:
    """float (36, 1176): patches in the order in which 2 x 2 of them become a token. For `SIDE` x `SIDE` RGB only."""
    mean, deviation = np.array(IMAGE_MEAN, np.float32), np.array(IMAGE_STD, np.float32)
    values = ((np.asarray(picture, np.float32) / 255 - mean) / deviation).transpose(2, 0, 1)
    side = SIDE // (PATCH * MERGE)
    # A still picture is two equal frames.
    frames = np.broadcast_to(values, (2, *values.shape)).reshape(1, 2, 3, side, MERGE, PATCH, side, MERGE, PATCH)
    ordered = frames.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return torch.from_numpy(np.ascontiguousarray(ordered.reshape(GRID[1] * GRID[2], -1)))
