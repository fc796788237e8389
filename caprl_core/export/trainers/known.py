"""The trainers there is a format for, by name."""

from typing import Final

from caprl_core.export.trainers.llamafactory import LLAMAFACTORY
from caprl_core.export.trainers.llava import LLAVA
from caprl_core.export.trainers.ms_swift import MS_SWIFT
from caprl_core.export.trainers.qwen_vl_finetune import QWEN_VL_FINETUNE
from caprl_core.export.trainers.trainer import Trainer

TRAINERS: Final[dict[str, Trainer]] = {
    trainer.name: trainer for trainer in (LLAMAFACTORY, LLAVA, MS_SWIFT, QWEN_VL_FINETUNE)
}
