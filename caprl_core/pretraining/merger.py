"""The patch merger nobody has trained: what pretraining's first stage begins with."""

from typing import Any, Final

from caprl_core.pretraining.part_names import MERGER

INITIALISER: Final = (
    "the module's own (torch.nn.Linear's default: uniform within 1/sqrt(inputs), weights and biases; the norm is ones)"
)
"""What the paper's released notebook relies on by building `Qwen2_5_VLPatchMerger` and nothing more. transformers would
have given a model built from a configuration normal weights of deviation `initializer_range` and biases of zero."""


def fresh_merger(vision: Any, seed: int, dtype: str) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Shape and little-endian bytes of each tensor of a new merger, by name, in `dtype` (torch's name).

    `vision` is a `Qwen2_5_VLVisionConfig`. The numbers are drawn in float32 on the CPU, whatever the type they are
    kept in, so one seed is one merger; the process's own random state is left as it was.
    """
    import torch  # noqa: PLC0415 - seconds to import
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger  # noqa: PLC0415

    with torch.random.fork_rng(devices=()), torch.device("cpu"):
        torch.manual_seed(seed)
        merger = Qwen2_5_VLPatchMerger(
            dim=vision.out_hidden_size, context_dim=vision.hidden_size, spatial_merge_size=vision.spatial_merge_size
        ).float()
    return {
        f"{MERGER}{name}": (
            tuple(weights.shape),
            weights.to(getattr(torch, dtype)).contiguous().view(torch.uint8).numpy().tobytes(),
        )
        for name, weights in merger.state_dict().items()
    }
