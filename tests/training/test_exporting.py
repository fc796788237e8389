"""What a captioner's folder holds, when it is refused, and a card whose instructions work as they stand."""

import asyncio
import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from caprl_core.data.images import prepare_image
from caprl_core.engines.protocol import Request, Sampling
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.errors import BadInputError, CaprlError
from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.load import load_training_recipe, parse_recipe
from caprl_core.recipe.models import EngineExecution, ModelRecipe, SamplingRecipe
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.exporting import export_captioner
from caprl_core.world.drawing import draw_scene
from caprl_core.world.scene import scenes
from support.tiny_policies import build_qwen25_vl
from support.training_run import write_lines
from support.world_training import world_recipe

PROMPT = 'Describe "it" in ```plain``` words | as {they} are:\n```\nno more, `no less`. Größe?'
SYSTEM = "You're terse | \\n."


class Run:
    """A run folder with a checkpoint of step 5, whose start is a tiny Qwen2.5-VL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run"
        self.start = build_qwen25_vl(folder / "start")
        self.checkpoint = self.folder / "checkpoints/checkpoint-5"
        self._file = world_recipe(
            folder,
            name="plain-captioner",
            policy__prompt={"id": "odd", "text": PROMPT, "system": SYSTEM},
            policy__model={"name": "somebody/start", "dtype": "auto"},
            grpo__max_tokens=9,
            execution__model_path=str(self.start),
        )
        self.checkpoint.mkdir(parents=True)
        self._save()

    def _save(self) -> None:
        """As the trainer does."""
        processor = AutoProcessor.from_pretrained(self.start)
        processor.save_pretrained(self.checkpoint)
        for name in ("config.json", "generation_config.json"):
            (self.checkpoint / name).write_bytes((self.start / name).read_bytes())
        weights = load_file(self.start / "model.safetensors")
        generator = torch.Generator().manual_seed(1)
        learnt = {
            name: value + 0.05 * value.std() * torch.randn(value.shape, generator=generator)
            for name, value in weights.items()
        }
        # Greedy captions go on to their limit.
        learnt["lm_head.weight"][processor.tokenizer.eos_token_id] = 0.0
        save_file(learnt, self.checkpoint / "model.safetensors", metadata={"format": "pt"})
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            torch.save({"pickled": 1}, self.checkpoint / name)
        (self.checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 5}))

    @property
    def recipe(self) -> TrainingRecipe:
        return load_training_recipe(self._file)

    def with_start_config(self, **changes: object) -> None:
        path = self.start / "config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))

    def with_dtype(self, name: str) -> TrainingRecipe:
        return self.recipe.model_copy(
            update={
                "policy": self.recipe.policy.model_copy(
                    update={"model": self.recipe.policy.model.model_copy(update={"dtype": name})}
                )
            }
        )

    def export(self) -> Path:
        return export_captioner(self.recipe, self.checkpoint, self.folder)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_it_holds_what_engines_need_and_nothing_of_training(run: Run) -> None:
    folder = run.export()
    assert folder == run.folder / "captioner"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "held_out_reward.svg",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
    }
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    assert {path.name for path in run.folder.iterdir()} == {"captioner", "checkpoints"}


@pytest.mark.parametrize(
    ("asked", "config", "expected"),
    [
        ("auto", {"dtype": "bfloat16"}, torch.bfloat16),
        ("auto", {"dtype": None, "torch_dtype": "float16"}, torch.float16),
        ("auto", {"dtype": None}, torch.float32),
        ("bfloat16", {"dtype": "float32"}, torch.bfloat16),
        ("float32", {"dtype": None, "torch_dtype": "bfloat16"}, torch.float32),
    ],
)
def test_weights_have_the_policys_data_type(
    run: Run, asked: str, config: dict[str, object], expected: torch.dtype
) -> None:
    run.with_start_config(**config)
    folder = export_captioner(run.with_dtype(asked), run.checkpoint, run.folder)
    saved, exported = (load_file(one / "model.safetensors") for one in (run.checkpoint, folder))
    assert exported.keys() == saved.keys()
    assert {weights.dtype for weights in exported.values()} == {expected}
    assert all(torch.equal(exported[name], saved[name].to(expected)) for name in saved)
    told = json.loads((folder / "config.json").read_text())
    assert {told.get("dtype"), told.get("torch_dtype")} - {None} == {str(expected).removeprefix("torch.")}


def test_an_older_captioner_is_replaced_as_a_whole(run: Run) -> None:
    for name in ("captioner", "captioner.partial", "captioner.old"):
        (run.folder / name).mkdir()
        (run.folder / name / "model-00002-of-00002.safetensors").write_bytes(b"of an earlier attempt")
    folder = run.export()
    assert not (folder / "model-00002-of-00002.safetensors").exists()
    assert {path.name for path in run.folder.iterdir()} == {"captioner", "checkpoints"}


@pytest.mark.parametrize("harm", ["cut", "unfinished", "not a number", "a weight is missing"])
def test_what_is_no_whole_policy_is_refused_and_the_older_captioner_stays(run: Run, harm: str) -> None:
    folder = run.export()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    path = run.checkpoint / "model.safetensors"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif harm == "unfinished":
        (run.checkpoint / "trainer_state.json").unlink()
    else:
        weights = load_file(path)
        if harm == "not a number":
            weights["lm_head.weight"][7, 7] = torch.nan
        else:
            del weights["model.norm.weight"]
        save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CaprlError, match="checkpoint-5") as refused:
        run.export()
    assert isinstance(refused.value, BadInputError) is (harm != "not a number")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("others", "remedy"), [((2,), "another one is exported"), ((), "in another execution.output")], ids=["two", "one"]
)
def test_lost_weights_are_refused_with_what_is_left_to_do(run: Run, others: tuple[int, ...], remedy: str) -> None:
    path = run.checkpoint / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"][7, 7] = torch.inf
    save_file(weights, path, metadata={"format": "pt"})
    for step in others:
        other = run.checkpoint.with_name(f"checkpoint-{step}")
        other.mkdir()
        (other / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    with pytest.raises(CaprlError, match=r"checkpoint-5: 1 weights.*lm_head\.weight") as refused:
        run.export()
    assert remedy in str(refused.value)


def test_the_licence_of_the_start_goes_with_it(run: Run) -> None:
    assert "| Licence of the start | not known: ask its authors" in (run.export() / "README.md").read_text()
    (run.start / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [en]\n---\n# Start\n")
    (run.start / "LICENSE").write_text("Apache License")
    folder = run.export()
    card = (folder / "README.md").read_text()
    assert header(card)["license"] == "apache-2.0"
    assert "| Licence of the start | apache-2.0 |" in card
    assert (folder / "LICENSE").read_text() == "Apache License"


@pytest.mark.parametrize(
    "text", ["", "---\n- a list\n---\n", "---\nlicense: [two, three]\n---\n", "---\n{{{\n---\n", "# no"]
)
def test_a_start_whose_card_says_nothing_of_a_licence(run: Run, text: str) -> None:
    (run.start / "README.md").write_text(text)
    assert "license" not in header((run.export() / "README.md").read_text())


def header(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_tells_the_run(run: Run) -> None:
    about = {
        "questions": {"uri": "/secret/home/tr`ain.parquet", "images": 2000, "questions": 9000, "sha256": "ab" * 32},
        "held_out": {"uri": "s3://sets/held_out", "images": 100, "questions": 400, "sha256": "cd" * 32},
        "versions": {"torch": "2.9.1", "peft": None},
    }
    (run.folder / "run.json").write_text(json.dumps(about))
    write_lines(run.folder / "metrics.jsonl", [{"step": step, "reward": 0.1 * step} for step in range(1, 7)])
    evaluations = [
        {"step": 0, "reward": 0.18, "second_reward": 0.16, "truncated": 0.0, "captions": 100},
        {"step": 5, "reward": 0.54, "second_reward": None, "truncated": 0.02, "captions": 100},
        {"step": 6, "reward": 0.5},
    ]
    write_lines(run.folder / "held_out.jsonl", evaluations)
    (run.folder / "stopped.json").write_text(
        json.dumps({"step": 6, "reason": "collapse", "detail": "It rambled | on."})
    )
    card = (run.export() / "README.md").read_text()
    assert header(card)["base_model"] == "somebody/start"
    assert f"fingerprint `{fingerprint(identity(run.recipe))}`" in card
    assert f"| `` tr`ain.parquet ``: 2,000 images and 9,000 questions; sha256 `{'ab' * 32}` |" in card
    assert f"| `s3://sets/held_out`: 100 images and 400 questions; sha256 `{'cd' * 32}` |" in card
    assert "/secret" not in card
    assert str(run.start) not in card
    assert "| 5 of 6 (best checkpoint); training stopped early: It rambled \\| on. |" in card
    assert "| Reward | 0.180 | 0.540 |" in card
    assert "| Reward by the second reader | 0.160 | — |" in card
    assert "| Captions cut at the token limit, share | 0 | 0.020 |" in card
    assert "torch 2.9.1 |" in card
    picture = ElementTree.parse(run.folder / "captioner/held_out_reward.svg").getroot()
    said = "".join(picture.itertext())
    assert "held out: 0.180 at first, 0.500 at last" in said
    assert "held out, second reader: 0.160" in said


def test_a_run_that_tells_nothing_has_a_card_all_the_same(run: Run) -> None:
    card = (run.export() / "README.md").read_text()
    assert card.count("not known") >= 4
    assert "were not captioned" in card
    ElementTree.parse(run.folder / "captioner/held_out_reward.svg")


@pytest.mark.parametrize("vision", ["learns", "stays"])
def test_the_card_says_what_learnt(run: Run, vision: str) -> None:
    policy = run.recipe.policy.model_copy(update={"vision": vision})
    folder = export_captioner(run.recipe.model_copy(update={"policy": policy}), run.checkpoint, run.folder)
    (told,) = re.findall(r"^\| Weights that learnt \| (.*) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert told.startswith("all")
    assert ("vision tower" in told) is (vision == "stays")


def block(card: str, language: str, place: int = 0) -> str:
    """A fenced block of the card, as a reader of Markdown would see it."""
    return re.findall(rf"^```{language}\n(.*?)\n {{0,3}}```$", card, re.MULTILINE | re.DOTALL)[place]


def test_the_cards_recipe_asks_what_training_asked(run: Run) -> None:
    card = (run.export() / "README.md").read_text()
    recipe = parse_recipe(block(card, "yaml"), file="card", variables={})
    trained = run.recipe
    assert recipe.prompt == trained.policy.prompt
    assert recipe.image == trained.policy.image
    assert recipe.sampling == SamplingRecipe(temperature=0.0, max_tokens=9)
    assert recipe.model.name == trained.name
    assert yaml.safe_load(block(card, "yaml", 1)) == identity(trained)


def picture_of(folder: Path) -> Path:
    """A picture of the world that the recipe leaves at its own size."""
    path = folder / "picture.png"
    draw_scene(next(iter(scenes("held_out", 1, 0))), 0).save(path)
    return path


def caption(run: Run, picture: Path) -> str:
    """What our engine has the captioner say."""
    recipe = run.recipe

    async def ask() -> str:
        settings = EngineExecution(kind="transformers", model_path=str(run.folder / "captioner"))
        engine = TransformersEngine(ModelRecipe(name="exported"), settings)
        await engine.start()
        sampling = Sampling(temperature=0, max_tokens=recipe.grpo.max_tokens)
        seen = prepare_image(picture.read_bytes(), recipe.policy.image)
        reply = await engine.generate(Request("one", PROMPT, sampling, (seen,), system=SYSTEM))
        await engine.close()
        return reply.text

    return asyncio.run(ask())


def program(run: Run, place: int, picture: Path) -> str:
    """A program of the card, with the paths filled in."""
    text = block((run.folder / "captioner/README.md").read_text(), "python", place)
    return text.replace("PATH_OF_THIS_FOLDER", str(run.folder / "captioner")).replace("PATH_OF_A_PICTURE", str(picture))


def test_the_cards_program_for_transformers_captions(run: Run, tmp_path: Path) -> None:
    run.export()
    picture = picture_of(tmp_path)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(program(run, 0, picture), "card", "exec"), {})
    assert said.getvalue() == caption(run, picture) + "\n"
    assert len(said.getvalue()) > 9


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_cards_program_for_vllm_captions(run: Run, tmp_path: Path) -> None:
    run.export()
    picture = picture_of(tmp_path)
    # Compiling takes a CPU longer than the caption.
    text = program(run, 1, picture).replace("limit_mm_per_prompt", "enforce_eager=True, limit_mm_per_prompt")
    (tmp_path / "program.py").write_text(f"if __name__ == '__main__':\n{indented(text)}")
    on_a_cpu = {
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    }
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        env=os.environ | on_a_cpu,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == caption(run, picture)


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
