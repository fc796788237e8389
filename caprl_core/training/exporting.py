"""The captioner of a run as a folder of its own: what any engine loads, with a card that says where it comes from."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from caprl_core.errors import BadInputError, CaprlError
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.captioner_card import CURVE, captioner_card
from caprl_core.training.captioner_curve import captioner_curve
from caprl_core.training.checkpoints import is_whole, step_of, whole_checkpoints
from caprl_core.training.page.run_files import read_run
from caprl_core.training.policy import load_policy, policy_source

CAPTIONER, CARD = "captioner", "README.md"
_FROM_START: Final = (
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE*",
    "NOTICE*",
)
"""Files of the start that training does not change. They are handed on byte for byte: what loads the start, of whatever
version, loads the captioner, and sees the same tokens and pixels. Its licence wants to go with it."""
_CODE: Final = "*.py"
"""Only of a start whose code was run in training."""
_DTYPES: Final = ("dtype", "torch_dtype")
"""Names of the data type in configurations, new and old."""
_SHARD: Final = "5GB"
"""Bytes of a weight file at most, as the hub's models have it."""


def export_captioner(recipe: TrainingRecipe, checkpoint: Path, run: Path) -> Path:
    """Write `captioner` in the run folder from a whole checkpoint, and return it; an older one is replaced.

    It appears whole or not at all: it is made beside, read back with every weight compared, and then renamed. Weights
    have the policy's data type (`auto`: that of its start), adapters are merged in.

    Raises `BadInputError` for a checkpoint that is not whole, and for a start or checkpoint that cannot be loaded;
    `CaprlError` if weights are no numbers, or what was written does not come back as it was.
    """
    import torch  # noqa: PLC0415 - seconds to import

    if not is_whole(checkpoint):
        raise BadInputError(f"{checkpoint}: not a whole checkpoint, so there is nothing to export")
    start = _start_folder(recipe)
    partial, folder = run / f"{CAPTIONER}.partial", run / CAPTIONER
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model = _merged(recipe, checkpoint)
    dtype = _dtype(recipe, start)
    model.to(getattr(torch, dtype))
    if lost := [name for name, weights in model.named_parameters() if not torch.isfinite(weights).all()]:
        others = whole_checkpoints(checkpoint.parent).keys() - {step_of(checkpoint)}
        remedy = (
            "delete this checkpoint, and another one is exported"
            if others
            else "there is no other one, so train with a lower optimiser.learning_rate, in another execution.output"
        )
        raise CaprlError(f"{checkpoint}: {len(lost)} weights hold numbers that are none, such as {lost[0]}; {remedy}")
    model.save_pretrained(partial, max_shard_size=_SHARD)
    for file in partial.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes it for its owner alone
    _from_start(recipe, start, partial, dtype)
    _read_back(recipe, partial, model)
    files, step = read_run(run), step_of(checkpoint)
    (partial / CURVE).write_text(captioner_curve(files, step), encoding="utf-8")
    (partial / CARD).write_text(captioner_card(recipe, step, dtype, files, start), encoding="utf-8")
    old = run / f"{CAPTIONER}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _start_folder(recipe: TrainingRecipe) -> Path:
    """The local folder of the start: of a model of the hub, that of its files in the hub's cache."""
    from transformers.utils import cached_file  # noqa: PLC0415 - seconds to import

    revision = recipe.policy.model.revision if recipe.execution.model_path is None else None
    return Path(cached_file(policy_source(recipe), "config.json", revision=revision)).parent


def _merged(recipe: TrainingRecipe, checkpoint: Path) -> Any:
    """The checkpoint's model, in float32, on the CPU."""
    model = load_policy(recipe, checkpoint).model
    if recipe.policy.lora is None:
        return model
    from peft import PeftModel  # noqa: PLC0415

    return PeftModel.from_pretrained(model, str(checkpoint)).merge_and_unload(safe_merge=True)


def _dtype(recipe: TrainingRecipe, start: Path) -> str:
    """Of the weights, by torch's name; float32 for a start that names none."""
    if recipe.policy.model.dtype != "auto":
        return recipe.policy.model.dtype
    config = json.loads((start / "config.json").read_text("utf-8"))
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    named = [part[key] for part in parts for key in _DTYPES if isinstance(part.get(key), str)]
    return str(named[0]).removeprefix("torch.") if named else "float32"


def _from_start(recipe: TrainingRecipe, start: Path, folder: Path, dtype: str) -> None:
    """Hand on the start's files, and its configuration with the data type of the weights."""
    for pattern in (*_FROM_START, *((_CODE,) if recipe.execution.trust_remote_code else ())):
        for file in start.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
    config = json.loads((start / "config.json").read_text("utf-8"))
    for part in (config, *config.values()):
        if isinstance(part, dict):
            part.update(dict.fromkeys(part.keys() & set(_DTYPES), dtype))
    if not config.keys() & set(_DTYPES):
        config["dtype"] = dtype
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_back(recipe: TrainingRecipe, folder: Path, model: Any) -> None:
    """Load the folder as anybody would, and insist that it is `model`, weight for weight, with a processor."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    common: dict[str, Any] = {"trust_remote_code": recipe.execution.trust_remote_code}
    transformers.AutoProcessor.from_pretrained(folder, **common)
    again, found = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, dtype="auto", output_loading_info=True, **common
    )
    ours, theirs = model.state_dict(), again.state_dict()
    wrong = {*found["missing_keys"], *found["unexpected_keys"], *map(str, found["mismatched_keys"])}
    wrong |= ours.keys() ^ theirs.keys()
    for name in ours.keys() & theirs.keys():
        if ours[name].dtype != theirs[name].dtype or not torch.equal(ours[name], theirs[name]):
            wrong.add(name)
    if wrong:
        raise CaprlError(f"{folder}: {len(wrong)} weights do not come back as they were, such as {min(wrong)}")
