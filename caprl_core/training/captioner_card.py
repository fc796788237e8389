"""The card of a captioner: where it comes from, what it reached, how to use it, and what nobody knows about it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.report.axes import figure
from caprl_core.training.page.run_files import RunFiles, number

CURVE: Final = "held_out_reward.svg"
"""Beside the card."""
_FIGURES: Final = {
    "reward": "Reward",
    "second_reward": "Reward by the second reader",
    "accuracy": "Questions answered rightly, share",
    "abstained": "Answers the reader declined, share",
    "unread": "Answers that name no option, share",
    "truncated": "Captions cut at the token limit, share",
    "repetitive": "Captions that repeat themselves, share",
    "length_mean": "Tokens of a caption, mean",
    "captions": "Pictures",
}
_UNKNOWN: Final = "not known"


def captioner_card(recipe: TrainingRecipe, step: int, dtype: str, run: RunFiles, start: Path) -> str:
    """The text of README.md for the captioner of a step; `start` is the local folder of the policy it began as.

    What the run folder does not tell is said to be unknown.
    """
    licence = start_licence(start)
    header: dict[str, Any] = {
        "base_model": recipe.policy.model.name,
        **({"license": licence} if licence else {}),
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["caprl", "grpo", "image-captioning"],
    }
    facts = "\n".join(f"| {name} | {_cell(value)} |" for name, value in _facts(recipe, step, dtype, run, licence))
    shown = yaml.safe_dump(identity(recipe), sort_keys=False, allow_unicode=True, width=100)
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---

# {recipe.name}

A captioner: {_code(recipe.policy.model.name)}, taught by reinforcement to write what a reader needs who has to answer
questions about a picture without seeing it.

| | |
|---|---|
{facts}

## Before and after

{_before_and_after(step, run)}

![Reward over the steps of the run]({CURVE})

## How to caption with it

{_uses(recipe, dtype)}
## What is not known

{_not_known(recipe, run)}

## The recipe

{_fenced("yaml", shown)}
"""


def start_licence(start: Path) -> str | None:
    """The licence the start's own card names, as the hub writes it; None where it names none."""
    card = start / "README.md"
    if not card.is_file():
        return None
    front, _, _ = card.read_text(encoding="utf-8", errors="replace").removeprefix("---\n").partition("\n---")
    try:
        header = yaml.safe_load(front)
    except yaml.YAMLError:
        return None
    known = header.get("license") if isinstance(header, dict) else None
    return known if isinstance(known, str) else None


def _facts(recipe: TrainingRecipe, step: int, dtype: str, run: RunFiles, licence: str | None) -> list[tuple[str, str]]:
    model, lora, reader = recipe.policy.model, recipe.policy.lora, recipe.reward.reader.model
    learnt = "all" if lora is None else f"low-rank adapters (rank {lora.rank}, alpha {lora.alpha:g}), merged in"
    if recipe.policy.vision == "stays":
        learnt += "; of the language model alone, the vision tower is its start's"
    ended = "" if run.stopped is None else f"; training stopped early: {run.stopped.get('detail')}"
    versions = ", ".join(f"{name} {version}" for name, version in _inner(run.about, "versions").items() if version)
    return [
        ("Start", f"{_code(model.name)}, revision {_code(model.revision) if model.revision else 'not pinned'}"),
        ("Licence of the start", licence or f"{_UNKNOWN}: ask its authors before you pass this on"),
        ("Weights that learnt", learnt),
        ("Data type", dtype),
        ("Step", f"{step:,} of {recipe.steps:,} ({recipe.evaluation.export} checkpoint){ended}"),
        ("Recipe", f"{_code(recipe.name)}, fingerprint {_code(fingerprint(identity(recipe)))}"),
        ("Training questions", _set(_inner(run.about, "questions"))),
        ("Held-out questions", _set(_inner(run.about, "held_out"))),
        ("Reader", f"{_code(reader.name)}, {recipe.reward.draws} questions a caption"),
        ("Made with", versions or _UNKNOWN),
    ]


def _set(told: Mapping[str, Any]) -> str:
    if not told:
        return _UNKNOWN
    uri = str(told.get("uri", ""))
    # Folders of the machine it was made on mean nothing elsewhere; the digest says which set it was.
    name = uri if "://" in uri else uri.rstrip("/").rpartition("/")[2]
    counts = " and ".join(f"{told[what]:,} {what}" for what in ("images", "questions") if isinstance(told[what], int))
    return f"{_code(name)}: {counts}; sha256 {_code(str(told.get('sha256')))}"


def _before_and_after(step: int, run: RunFiles) -> str:
    by_step = {line["step"]: line for line in run.evaluations}
    before, after = by_step.get(0, {}), by_step.get(step, {})
    if not before and not after:
        return "The held-out pictures were not captioned at this step, nor before training."
    rows = [
        f"| {words} | {figure(number(before, name))} | {figure(number(after, name))} |"
        for name, words in _FIGURES.items()
        if number(before, name) is not None or number(after, name) is not None
    ]
    return "\n".join(
        [
            "Greedy captions of pictures it never learnt from. Training chose among its checkpoints by this reward, so "
            "the figures after it are a little too good."
            if after
            else "Greedy captions of pictures it never learnt from.",
            "",
            f"| | before (step 0) | this captioner (step {step:,}) |",
            "|---|---:|---:|",
            *rows,
        ]
    )


def _uses(recipe: TrainingRecipe, dtype: str) -> str:
    prompt, image, limit = recipe.policy.prompt, recipe.policy.image, recipe.grpo.max_tokens
    system = [] if prompt.system is None else [{"role": "system", "content": [{"type": "text", "text": prompt.system}]}]
    ours = {
        "name": f"{recipe.name}-captions"[:40],
        "sources": [{"name": "pictures", "kind": "folder", "uri": "PATH_OF_PICTURES"}],
        "model": {"name": recipe.name, "dtype": dtype},
        "prompt": prompt.model_dump(exclude_none=True),
        "image": image.model_dump(),
        "sampling": {"temperature": 0.0, "max_tokens": limit},
        "execution": {"output": "PATH_OF_DATASET", "engine": {"kind": "vllm", "model_path": "PATH_OF_THIS_FOLDER"}},
    }
    seen = {"type": "text", "text": prompt.text}
    by_transformers = json.dumps([*system, {"role": "user", "content": [{"type": "image"}, seen]}], ensure_ascii=False)
    by_vllm = json.dumps(
        [*system, {"role": "user", "content": [{"type": "image_pil", "image_pil": 0}, seen]}], ensure_ascii=False
    ).replace('"image_pil": 0', '"image_pil": picture')
    recipe_text = yaml.safe_dump(ours, sort_keys=False, allow_unicode=True, width=100)
    transformers_text = f"""from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, picture = "PATH_OF_THIS_FOLDER", Image.open("PATH_OF_A_PICTURE").convert("RGB")
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
messages = {by_transformers}
prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
inputs = processor(images=[picture], text=[prompt], return_tensors="pt").to(model.device)
written = model.generate(**inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens={limit})
print(processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])
"""
    vllm_text = f"""from PIL import Image
from vllm import LLM, SamplingParams

picture = Image.open("PATH_OF_A_PICTURE").convert("RGB")
messages = {by_vllm}
model = LLM("PATH_OF_THIS_FOLDER", limit_mm_per_prompt={{"image": 1, "video": 0}})
settings = SamplingParams(temperature=0, max_tokens={limit})
print(model.chat(messages, settings)[0].outputs[0].text)
"""
    return f"""In training it saw pictures of {image.min_pixels:,} to {image.max_pixels:,} pixels, with sides that are
multiples of {image.factor}, and wrote {limit:,} tokens at most. The figures above are of greedy captions.

As a recipe of `caprl annotate`, which prepares pictures as training did:

{_fenced("yaml", recipe_text)}

With transformers:

{_fenced("python", transformers_text)}

With vLLM:

{_fenced("python", vllm_text)}
"""


def _not_known(recipe: TrainingRecipe, run: RunFiles) -> str:
    reader = _code(recipe.reward.reader.model.name)
    second = any(number(line, "second_reward") is not None for line in run.evaluations)
    unknown = [
        "Whether what it says is true: the reward counts what a reader can answer from a caption, and nobody compared "
        "the captions with the pictures.",
        f"How it does with other questions, other pictures or another prompt than {_code(recipe.policy.prompt.id)}.",
        f"How much another seed would change: this is one run, with seed {recipe.seed}.",
        "What it kept of what its start could do besides captioning.",
    ]
    if not second:
        unknown.insert(1, f"Whether another reader agrees: a captioner may learn to please {reader} alone.")
    return "\n".join(f"- {one}" for one in unknown)


def _inner(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name)
    return value if isinstance(value, dict) else {}


def _cell(text: str) -> str:
    """Fit for a table: one line, no bar."""
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    """As code of one line; more backticks around it than in it."""
    line = " ".join(text.split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    around = "`" * (longest + 1)
    return f"{around} {line} {around}" if longest else f"`{line}`"


def _fenced(language: str, text: str) -> str:
    """Nothing in `text` ends the block early: lines of a recipe or program begin with a name, or far indented."""
    return f"```{language}\n{text.rstrip()}\n```"
