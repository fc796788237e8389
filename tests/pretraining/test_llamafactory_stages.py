"""The recipes of the three stages: LLaMA-Factory understands them, they say what the paper says, and they train.

From a finished dataset to a pretrained model with tiny parts: the export, the starting checkpoint and LLaMA-Factory
with DeepSpeed's ZeRO-3 are the real ones, on a CPU.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from caprl_core.data.images import prepare_image
from caprl_core.engines.protocol import Reply, Request, Sampling
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.export.trainer_files import export_for_trainer
from caprl_core.export.trainers.llamafactory import LLAMAFACTORY
from caprl_core.pretraining.initialise import initialise
from caprl_core.pretraining.sources import ModelSource
from caprl_core.recipe.models import EngineExecution, ImageRecipe, ModelRecipe
from support.made_datasets import made
from support.tiny_reader import build_tiny_reader
from support.trainer_environment import llamafactory_python

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "configs" / "pretraining"
GPUS = 8
"""That the recipes' batches are meant for; each says so."""
DEEPSPEED = "0.18.4"
ON_A_CPU = {
    "use_cpu": "true",
    "flash_attn": "sdpa",
    "preprocessing_num_workers": "1",
    "dataloader_num_workers": "0",
    "gradient_accumulation_steps": "2",
}
PARSE = """
import json, sys
from omegaconf import OmegaConf
from llamafactory.hparams import get_train_args

found = []
for path in sys.argv[1:]:
    given = OmegaConf.to_container(OmegaConf.load(path)) | {"use_cpu": True}
    model, data, training, tuning, _ = get_train_args(given)
    found.append({
        "learning_rate": training.learning_rate,
        "images": training.per_device_train_batch_size * training.gradient_accumulation_steps,
        "frozen": [tuning.freeze_vision_tower, tuning.freeze_multi_modal_projector, tuning.freeze_language_model],
        "method": [tuning.stage, tuning.finetuning_type],
        "schedule": [training.lr_scheduler_type.value, training.warmup_steps, training.num_train_epochs],
        "pixels": model.image_max_pixels,
        "cutoff": data.cutoff_len,
        "template": data.template,
        "zero": training.hf_deepspeed_config.config["zero_optimization"]["stage"],
        "bf16": training.bf16,
        "code": model.trust_remote_code,
    })
print("\\n" + json.dumps(found))
"""
"""Reads recipes as `llamafactory-cli train` does."""
TRAIN = "from llamafactory.train.tuner import run_exp; run_exp()"
"""What `llamafactory-cli train` has torchrun start once for each GPU."""


class Stage(NamedTuple):
    """What the paper (section 4.1, appendix F) says of a stage. batch: pictures an update; frozen: vision tower, patch
    merger, language model."""

    recipe: str
    learning_rate: float
    batch: int
    frozen: list[bool]


STAGES = (
    Stage("stage0-align.yaml", 1e-3, 256, [True, False, True]),
    Stage("stage1-pretrain.yaml", 4e-5, 256, [False, False, False]),
    Stage("stage2-sft.yaml", 2e-5, 128, [False, False, False]),
)


@pytest.fixture(scope="module")
def python() -> str:
    """LLaMA-Factory's interpreter, with DeepSpeed beside it."""
    python = llamafactory_python()
    absent = "import sys; from importlib.util import find_spec; sys.exit(find_spec('deepspeed') is None)"
    if subprocess.run([python, "-c", absent], check=False).returncode:
        uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--python", python]
        # What it needs and LLaMA-Factory does not bring. Its kernels are compiled when they are used, so never here.
        for packages in (
            ["setuptools", "wheel", "hjson", "msgpack", "ninja", "py-cpuinfo", "psutil"],
            ["--no-deps", "--no-build-isolation", f"deepspeed=={DEEPSPEED}"],
        ):
            environment = os.environ | {"DS_BUILD_OPS": "0"}
            done = subprocess.run([*uv, *packages], capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                pytest.skip(f"DeepSpeed {DEEPSPEED} cannot be installed here: {done.stderr.strip()[-500:]}")
    return python


def trainer(python: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the only process of a training run on this machine, in the folder that the recipes are written for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = os.environ | {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [python, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=variables)
    assert done.returncode == 0, done.stderr[-5000:]
    return done


def test_llamafactorys_own_parser_finds_the_papers_figures(python: str) -> None:
    done = trainer(python, PARSE, *(str(RECIPES / stage.recipe) for stage in STAGES))
    for stage, found in zip(STAGES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert found["learning_rate"] == stage.learning_rate
        assert found["images"] * GPUS == stage.batch
        assert found["frozen"] == stage.frozen
        # The released script of stage 0; that of the others was not found.
        assert found["method"] == ["sft", "full"] and found["schedule"] == ["cosine", 0.1, 1.0]
        assert (found["pixels"], found["cutoff"], found["template"]) == (1024 * 28 * 28, 6144, "qwen2_vl")
        assert found["zero"] == 3 and found["bf16"] is True and found["code"] is False


def test_each_stage_goes_on_where_the_one_before_ended() -> None:
    recipes = [yaml.safe_load((RECIPES / stage.recipe).read_text()) for stage in STAGES]
    starts, ends = ([recipe[name] for recipe in recipes] for name in ("model_name_or_path", "output_dir"))
    assert starts == ["pretraining/start", *ends[:-1]]


def test_three_stages_of_training_make_a_model(python: str, tmp_path: Path) -> None:
    dataset = made(tmp_path, str(tmp_path / "dataset"), pictures=12)
    export_for_trainer(dataset, str(tmp_path / "captions"), LLAMAFACTORY)
    data = [
        released(tmp_path, STAGES[0]),
        (tmp_path / "captions", tmp_path / "captions"),
        released(tmp_path, STAGES[2]),
    ]
    reader = build_tiny_reader(tmp_path / "models")
    folders = [tmp_path / "start"]
    initialise(ModelSource.open(str(reader.parent / "captioner")), ModelSource.open(str(reader)), folders[0])
    for number, (stage, (folder, pictures)) in enumerate(zip(STAGES, data, strict=True)):
        out = tmp_path / f"stage{number}"
        options = ON_A_CPU | {
            "model_name_or_path": str(folders[-1]),
            "output_dir": str(out),
            "dataset_dir": str(folder),
            "media_dir": str(pictures),
            "per_device_train_batch_size": "2",
        }
        if number == 1:
            options["dataset"] = dataset.record.name
        overrides = [f"{name}={value}" for name, value in options.items()]
        done = trainer(python, TRAIN, str(RECIPES / stage.recipe), *overrides)
        said = done.stdout + done.stderr
        assert "missing keys" not in said and "does not exist in `media_dir`" not in said
        assert learnt(folders[-1], out) == learns(stage)
        folders.append(out)
    speaks(folders[-1], next((tmp_path / "captions").rglob("*.png")))


def released(folder: Path, stage: Stage) -> tuple[Path, Path]:
    """A small file in the form and under the name of the released one that a stage trains on; the folders of both it
    and its pictures. Each file has a conversation without a picture, as mixtures of instructions do."""
    name = yaml.safe_load((RECIPES / stage.recipe).read_text())["dataset"]
    text = (RECIPES / "dataset_info.json").read_text()
    rows: list[dict[str, Any]] = [
        {
            "id": path.stem,
            "image": path.name,
            "conversations": [
                {"from": "human", "value": "Render a clear and concise summary of the photo.\n<image>"},
                {"from": "gpt", "value": f"picture {path.stem}"},
            ],
        }
        for path in sorted((folder / "pictures").glob("*.png"))
    ]
    rows.append(
        {"id": "text", "conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]}
    )
    data = folder / name
    data.mkdir()
    (data / "dataset_info.json").write_text(text)
    (data / json.loads(text)[name]["file_name"]).write_text(json.dumps(rows))
    return data, folder / "pictures"


def learns(stage: Stage) -> set[str]:
    parts = zip(("tower", "merger", "words"), stage.frozen, strict=True)
    return {name for name, frozen in parts if not frozen}


def learnt(before: Path, after: Path) -> set[str]:
    """Parts of which some tensor is another one afterwards."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert old.keys() == new.keys()
    changed = [name for name in old if not torch.equal(old[name], new[name])]
    return {
        "merger" if name.startswith("visual.merger") else "tower" if name.startswith("visual") else "words"
        for name in changed
    }


def speaks(folder: Path, picture: Path) -> None:
    """The transformers of this project loads what LLaMA-Factory's has written, without a weight missing."""
    _, found = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(found.values()), found

    async def ask() -> Reply:
        engine = TransformersEngine(
            ModelRecipe(name="made"), EngineExecution(kind="transformers", model_path=str(folder))
        )
        await engine.start()
        seen = prepare_image(picture.read_bytes(), ImageRecipe())
        reply = await engine.generate(Request("one", "What is it?", Sampling(temperature=0, max_tokens=8), (seen,)))
        await engine.close()
        return reply

    assert len(asyncio.run(ask()).token_ids) > 1
