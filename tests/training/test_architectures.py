"""Each architecture the factory trains: two steps of GRPO on pictures of many shapes, a checkpoint, and a captioner
that every engine loads. The policies are tiny and say noise; trainer, questions, reader and engines are real."""

import asyncio
import importlib.util
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import get_peft_model
from PIL import Image
from safetensors.torch import load_file

from caprl_core.data.images import prepare_image
from caprl_core.engines.open import engine_for
from caprl_core.engines.protocol import Request, Sampling
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.models import EngineExecution, ModelRecipe
from caprl_core.recipe.training import LoraRecipe, TrainingRecipe
from caprl_core.report.axes import figure
from caprl_core.training.policy import load_policy
from support.tiny_policies import POLICIES
from support.training_zygote import Zygote
from support.world_training import lines, world_recipe

pytestmark = pytest.mark.timeout(600)  # training, on a machine that may have other work
STEPS = 2
SIZES = ((84, 84), (168, 84), (84, 252), (56, 56))
"""Width and height. InternVL cuts them into 4, 2, 3 and 1 tiles here, and adds the whole where there are several."""
FACTORS = {"qwen2.5-vl": 28, "qwen3-vl": 32, "internvl3.5": 28}


class Trained(NamedTuple):
    start: Path
    recipe: TrainingRecipe
    held_out: dict[str, bytes]
    run: Path


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("told"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="module", params=list(POLICIES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Trained:
    folder = tmp_path_factory.mktemp("run")
    start = POLICIES[request.param](folder / "start")
    recipe = world_recipe(
        folder,
        policy__model={"name": f"tiny/{request.param}"},
        policy__image={"factor": FACTORS[request.param], "min_pixels": 3136, "max_pixels": 200704},
        # The length of noise is all it can learn.
        reward__terms={"length": {"full": 3, "none": 12, "weight": 1.0}},
        grpo__max_tokens=12,
        optimiser={"learning_rate": 1e-4, "schedule": "constant"},
        steps=STEPS,
        evaluation__every=STEPS,
        execution__model_path=str(start),
        execution__micro_batch=4,  # so that a step's pictures are shuffled and divided
        execution__gradient_checkpointing=True,
        execution__checkpoint_every=STEPS,
    )
    for name in ("train.parquet", "held_out.parquet"):
        reshape_pictures(folder / name)
    status, events = zygote.run(recipe)
    assert (status, events[-1]["event"]) == (0, "done")
    held_out = {row["id"]: row["image"]["bytes"] for row in pq.read_table(folder / "held_out.parquet").to_pylist()}
    return Trained(start, load_training_recipe(recipe), held_out, folder / "run")


def reshape_pictures(path: Path) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    for number, row in enumerate(rows):
        written = io.BytesIO()
        picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        picture.resize(SIZES[number % len(SIZES)]).save(written, "PNG")
        row["image"]["bytes"] = written.getvalue()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def written_by(kind: str, trained: Trained, folder: Path) -> dict[str, str]:
    """Greedy captions of the held-out pictures, by an engine that knows nothing of training."""

    async def captions() -> dict[str, str]:
        settings = EngineExecution(kind=kind, model_path=str(folder), max_model_len=1024, concurrency=8)
        engine = engine_for(ModelRecipe(name="exported"), settings)
        await engine.start()
        try:
            recipe = trained.recipe
            sampling = Sampling(temperature=0, max_tokens=recipe.grpo.max_tokens)
            replies = await asyncio.gather(
                *(
                    engine.generate(
                        Request(key, recipe.policy.prompt.text, sampling, (prepare_image(data, recipe.policy.image),))
                    )
                    for key, data in trained.held_out.items()
                )
            )
        finally:
            await engine.close()
        return {key: reply.text for key, reply in zip(trained.held_out, replies, strict=True)}

    return asyncio.run(captions())


def recorded(trained: Trained, step: int) -> dict[str, str]:
    """The held-out captions that the run wrote down."""
    rows = pq.read_table(trained.run / f"held_out/step-{step:06d}.parquet", columns=["key", "caption"]).to_pylist()
    return {row["key"]: row["caption"] for row in rows}


def test_it_learns(trained: Trained) -> None:
    first, second = lines(trained.run / "metrics.jsonl")
    for line in (first, second):
        assert all(math.isfinite(line[name]) for name in ("loss", "reward", "entropy", "kl"))
        assert line["grad_norm"] > 0
    # The reference has seen the pictures in the order of the step, the policy shuffled and in parts: were one caption
    # laid beside another's picture, the two would not agree before the first update.
    assert abs(first["kl"]) < 1e-6
    assert second["kl"] > 1e-3
    before, after = load_file(trained.start / "model.safetensors"), load_file(checkpoint(trained) / "model.safetensors")
    still = {name for name in before if torch.equal(before[name], after[name])}
    # What looks at pictures learns, too.
    assert not still


@pytest.mark.parametrize("lora", [None, LoraRecipe(rank=4)], ids=["all weights", "adapters"])
def test_the_vision_tower_can_stay_as_it_is(trained: Trained, lora: LoraRecipe | None) -> None:
    policy = trained.recipe.policy.model_copy(update={"vision": "stays", "lora": lora})
    loaded = load_policy(trained.recipe.model_copy(update={"policy": policy}), None)
    model = loaded.model if lora is None else get_peft_model(loaded.model, loaded.adapters)
    learning = {name for name, weights in model.named_parameters() if weights.requires_grad}
    sees = re.compile("visual|vision|projector")
    assert learning
    assert not any(sees.search(name) for name in learning)
    if lora is None:
        assert learning == {name for name, _ in model.named_parameters() if not sees.search(name)}
    else:
        layers = {
            name for name, one in model.named_modules() if isinstance(one, torch.nn.Linear) and "lora" not in name
        }
        adapted = {name.partition(".lora_")[0] + ".base_layer" for name in learning}
        assert layers - adapted == {name for name in layers if sees.search(name) or name.endswith("lm_head")}


def test_the_captioner_is_the_checkpoint_under_the_names_of_its_start(trained: Trained) -> None:
    exported = load_file(trained.run / "captioner/model.safetensors")
    saved = load_file(checkpoint(trained) / "model.safetensors")
    assert exported.keys() == saved.keys() == load_file(trained.start / "model.safetensors").keys()
    assert all(torch.equal(exported[name], saved[name]) for name in saved)


def test_the_captioner_brings_its_starts_files(trained: Trained) -> None:
    handed_on = {path.name for path in trained.start.iterdir()} - {"model.safetensors", "config.json"}
    assert {"tokenizer.json", "preprocessor_config.json", "chat_template.jinja", "generation_config.json"} <= handed_on
    for name in handed_on:
        assert (trained.run / "captioner" / name).read_bytes() == (trained.start / name).read_bytes(), name
    others = {path.name for path in (trained.run / "captioner").iterdir()} - handed_on
    assert others == {"model.safetensors", "config.json", "README.md", "held_out_reward.svg"}


def test_the_card_says_where_it_comes_from(trained: Trained) -> None:
    card = (trained.run / "captioner/README.md").read_text()
    about = json.loads((trained.run / "run.json").read_text())
    first, last = lines(trained.run / "held_out.jsonl")
    assert f"base_model: {about['policy']['name']}\n" in card
    for told in (about["fingerprint"], about["questions"]["sha256"], about["held_out"]["sha256"]):
        assert f"`{told}`" in card
    assert f"| Reward | {figure(first['reward'])} | {figure(last['reward'])} |" in card
    assert str(trained.run.parent) not in card


def test_transformers_writes_what_the_run_recorded(trained: Trained) -> None:
    assert written_by("transformers", trained, trained.start) == recorded(trained, 0)
    after = written_by("transformers", trained, trained.run / "captioner")
    assert after == recorded(trained, STEPS)
    assert after != recorded(trained, 0)
    assert len(set(after.values())) > 2  # it looks at the pictures


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_writes_what_the_run_recorded(trained: Trained) -> None:
    assert written_by("vllm", trained, trained.run / "captioner") == recorded(trained, STEPS)


def checkpoint(trained: Trained) -> Path:
    return trained.run / f"checkpoints/checkpoint-{STEPS}"
