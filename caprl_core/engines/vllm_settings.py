"""The environment and arguments vLLM is started with, in process and as a server, with and without a GPU."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from caprl_core.recipe.models import EngineExecution, ModelRecipe


def has_gpu() -> bool:
    """Whether torch can use a GPU here (CUDA or ROCm)."""
    import torch  # noqa: PLC0415 - seconds to import, and only vLLM's callers need it

    return bool(torch.cuda.is_available())


def default_environment(gpu: bool) -> dict[str, str]:
    """Variables vLLM is started with where the user has not set them.

    Always: `VLLM_NO_USAGE_STATS=1` and `DO_NOT_TRACK=1` (nothing is sent to anybody); `VLLM_LOGGING_LEVEL=WARNING`, to
    stderr, as stdout belongs to our own output; `VLLM_WORKER_MULTIPROC_METHOD=spawn` (forking a process with threads
    can deadlock, and a forked engine does not carry the reaper's mark).

    Without a GPU also: `VLLM_ENABLE_V1_MULTIPROCESSING=0`, which on the CPU build keeps the worker inside the engine
    core (one process less); `OMP_NUM_THREADS`, half of the cores, as the other half prepares images;
    `VLLM_CPU_OMP_THREADS_BIND=nobind`, or vLLM pins its threads to cores that others use; `VLLM_CPU_KVCACHE_SPACE=1`
    GiB, or the cache takes most of the machine; `TORCHDYNAMO_DISABLE=1`, as compiling takes longer than it saves on
    small models.
    """
    values = {
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if not gpu:
        values |= {
            "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // 2)),
            "TORCHDYNAMO_DISABLE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
    return {name: value for name, value in values.items() if name not in os.environ}


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while a child is started, then restore them, and LD_PRELOAD, which the CPU build of vLLM adds to.

    Left in place they would change every later child of this process, such as the pool that decodes images.
    """
    names = [*values, "LD_PRELOAD"]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def engine_arguments(model: ModelRecipe, execution: EngineExecution, gpu: bool) -> dict[str, Any]:
    """Arguments of vLLM's engine, by their Python names; `execution.extra` has the last word."""
    arguments: dict[str, Any] = {
        "model": execution.model_path or model.name,
        "served_model_name": execution.served_name or model.name,
        # bfloat16 is emulated, and slower than float32, on CPUs without AMX.
        "dtype": "float32" if model.dtype == "auto" and not gpu else model.dtype,
        "tensor_parallel_size": execution.tensor_parallel,
        "trust_remote_code": execution.trust_remote_code,
        "enforce_eager": execution.enforce_eager or not gpu,
        # One image a request: memory is reserved for as many as may come.
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        # A corpus shows each image once, so a cache of prepared images (4 GiB by default, twice) only costs memory.
        "mm_processor_cache_gb": 0,
        "max_num_seqs": execution.concurrency,
    }
    if gpu:
        arguments["gpu_memory_utilization"] = execution.gpu_memory_utilization
    else:
        # A prompt cut into chunks makes vLLM 0.32 rewind the request's random generator, which CPU generators cannot
        # do: the engine core dies of "CPU Generator does not use offset" at the first seeded request that is cut.
        arguments["enable_chunked_prefill"] = False
    if execution.model_path is None and model.revision is not None:
        arguments |= {"revision": model.revision, "tokenizer_revision": model.revision}
    if model.quantization is not None:
        arguments["quantization"] = model.quantization
    if execution.max_model_len is not None:
        arguments["max_model_len"] = execution.max_model_len
    return arguments | execution.extra
