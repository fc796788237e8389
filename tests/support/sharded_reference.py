"""One process of several that share the reference of the KL penalty as the trainer does under FSDP.

Run as a module with the folder of a captioner, in the environment `accelerate launch` makes; the first process prints
how many of its weights are not the captioner's.
"""

import os
import sys
from types import SimpleNamespace

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor
from transformers import AutoModelForImageTextToText
from trl.models.utils import prepare_fsdp
from trl.trainer.utils import create_model_from_path


def main() -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    start = sys.argv[1]
    reference = create_model_from_path(start, dtype=torch.float32)
    state = SimpleNamespace(fsdp_plugin=FullyShardedDataParallelPlugin())
    reference = prepare_fsdp(reference, SimpleNamespace(state=state, device=torch.device("cpu")))
    os.environ["ACCELERATE_USE_FSDP"] = "false"
    right = dict(AutoModelForImageTextToText.from_pretrained(start, dtype=torch.float32).named_parameters())
    wrong = 0
    for name, weights in reference.named_parameters():
        assert isinstance(weights, DTensor), "nothing is sharded: no test"
        wrong += int((weights.full_tensor() != right[name]).sum())
    if torch.distributed.get_rank() == 0:
        print(f"wrong: {wrong}", flush=True)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
