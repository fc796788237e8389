"""What starts the processes of a training run: the recipe they read, their command and their environment.

Over several machines, every one runs the same command with the same recipe. The file `execution.accelerate_config` says
how many there are; which one this is and where the first one is (`machine_rank`, `main_process_ip`,
`main_process_port`) is in it too, or in the environment: ACCELERATE_MACHINE_RANK, MASTER_ADDR and MASTER_PORT.
`execution.processes` counts the processes of all machines.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from caprl_core.errors import BadInputError
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.training import TrainingRecipe

MODULE = "caprl_core.training"
ACCELERATE, TORCHRUN = "accelerate.commands.launch", "torch.distributed.run"
RECIPE = "recipe.yaml"
_DEFAULTS = {
    "TOKENIZERS_PARALLELISM": "false",  # its threads do not survive the forks of data loaders, and it says so each time
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is for events
}
"""What is set where the user has not set it."""
_MACHINE = {
    "machine_rank": "ACCELERATE_MACHINE_RANK",
    "main_process_ip": "MASTER_ADDR",
    "main_process_port": "MASTER_PORT",
}
"""Options of `accelerate launch` by which machines differ, and the variables that may give them."""
_OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Set by whatever started us (job operators do), they would make a single process wait for others that never come."""


def work_folder(recipe: TrainingRecipe) -> Path:
    """The local folder of the run."""
    return Path(recipe.execution.work or recipe.execution.output)


def write_recipe(recipe: TrainingRecipe, folder: Path) -> Path:
    """Write the recipe down as it is meant, `recipe.yaml` in the run folder, for the training processes to read.

    So an attempt that resumes hours later reads what the first one read, whatever became of the file or the environment
    in between. Raises `BadInputError` for one that would not be read back as it is.
    """
    path = folder / RECIPE
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{RECIPE}.{os.getpid()}.partial")
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    partial.write_text(text, "utf-8")
    try:
        if load_training_recipe(partial) != recipe:
            raise BadInputError(f"{path}: the recipe is not read back as it was written")
    except BadInputError as error:
        raise BadInputError(f"no path or address in a training recipe may contain `${{`: {error}") from error
    else:
        return partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def training_command(recipe: TrainingRecipe, file: Path) -> list[str]:
    """The command of this machine's training processes, which read the recipe in `file`.

    Several processes without a configuration of Accelerate's, or with one for CPUs, are started by `torchrun`, which is
    what `accelerate launch` would call in turn on GPUs. By itself (1.15) it takes whatever configuration lies in the
    home folder, and without GPUs it starts a single process, whatever number is asked for.
    """
    execution = recipe.execution
    training = ["-m", MODULE, "--recipe", str(file)]
    settings = _accelerate_settings(recipe)
    if execution.accelerate_config is not None and settings.get("distributed_type") != "MULTI_CPU":
        words = ["--config_file", execution.accelerate_config, "--num_processes", str(execution.processes)]
        # Otherwise the file's own mixed_precision would overrule the recipe.
        words += ["--mixed_precision", "bf16" if execution.precision == "bfloat16" else "no"]
        words += [word for option, value in _machine(settings).items() for word in (f"--{option}", str(value))]
        return [sys.executable, "-m", ACCELERATE, *words, *training]
    if execution.processes > 1:
        words = ["--standalone", "--nproc_per_node", str(execution.processes)]
        return [sys.executable, "-m", TORCHRUN, *words, *training]
    return [sys.executable, *training]


def training_environment(recipe: TrainingRecipe) -> dict[str, str]:
    """This process's environment, and what the training processes need in theirs."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_LAUNCHERS}
    threads = recipe.execution.threads
    return _DEFAULTS | inherited | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})


def machine_rank(recipe: TrainingRecipe) -> int:
    """Which of several machines this one is; 0 has the main process, which writes the run's records.

    Raises `BadInputError` when nothing says so.
    """
    settings = _accelerate_settings(recipe)
    if _machines(settings) == 1:
        return 0
    rank = str(_machine(settings).get("machine_rank"))
    if not rank.isdecimal() or int(rank) >= _machines(settings):
        raise BadInputError(
            f"{recipe.execution.accelerate_config}: which of {_machines(settings)} machines is this one? Set "
            f"ACCELERATE_MACHINE_RANK, or machine_rank in the file, to 0 … {_machines(settings) - 1}, not {rank}"
        )
    return int(rank)


def _machine(settings: Mapping[str, object]) -> dict[str, object]:
    """The options that are this machine's own: from the environment before the file; none for a single machine."""
    if _machines(settings) == 1:
        return {}
    found = {option: os.environ.get(variable, settings.get(option)) for option, variable in _MACHINE.items()}
    return {option: value for option, value in found.items() if value is not None}


def _machines(settings: Mapping[str, object]) -> int:
    number = settings.get("num_machines", 1)
    return number if isinstance(number, int) else 1


def _accelerate_settings(recipe: TrainingRecipe) -> Mapping[str, object]:
    """What the configuration file says; empty without one."""
    file = recipe.execution.accelerate_config
    if file is None:
        return {}
    try:
        settings = yaml.safe_load(Path(file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInputError(f"execution.accelerate_config: {file} cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise BadInputError(f"execution.accelerate_config: {file} is no configuration of `accelerate launch`")
    return settings
