"""Names of tensors: those of the released Qwen2.5-VL checkpoints, whatever a source calls them.

The released checkpoints have `visual.…`, `model.layers.…` and `lm_head.weight`; transformers since 4.52 has
`model.visual.…` and `model.language_model.layers.…` in memory, and some checkpoints have them on disk. Every reader
knows the released names, so those are written.
"""

import re
from typing import Final

MERGER: Final = "visual.merger."
"""What joins the vision tower to the language model, made afresh."""
HEAD: Final = "lm_head.weight"
EMBEDDINGS: Final = "model.embed_tokens.weight"

_VISION: Final = re.compile(r"(?:model\.)?(visual\..+)")
_LANGUAGE: Final = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?((?:layers|embed_tokens|norm)\..+)")
_HEAD: Final = re.compile(r"(?:language_model\.)?lm_head\.weight")
_FREQUENCIES: Final = ".inv_freq"
"""Tables of rotary embeddings, which old checkpoints carry along and readers compute."""


def vision_name(stored: str) -> str | None:
    """The name of a tensor of the vision tower; None for any other, its merger's included."""
    found = _VISION.fullmatch(stored)
    name = None if found is None or stored.endswith(_FREQUENCIES) else found[1]
    return None if name is None or name.startswith(MERGER) else name


def language_name(stored: str) -> str | None:
    """The name of a tensor of the language model or of its head; None for any other."""
    if _HEAD.fullmatch(stored):
        return HEAD
    found = _LANGUAGE.fullmatch(stored)
    return None if found is None or stored.endswith(_FREQUENCIES) else f"model.{found[1]}"
