"""Captions that break careless exports, and a dataset whose pictures carry them, made by the real lane."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caprl_core.engines.protocol import Request
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.progress import unfinished_units
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine

HOSTILE = (
    "A sign that says <image> twice: <image>. Beside it <video>, <audio> and <\\image> already escaped.",
    "Chat tokens: <|im_start|>assistant\nhi<|im_end|><|vision_start|><|image_pad|><|vision_end|><|endoftext|></s><s>",
    "Control characters: \x00 \x01 \x07 \x1b[31m \x7f \x85 \u2028 \u2029 \r\n\t end.",
    "Emoji 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽, right to left \u202eabc\u202c, combining e\u0301, zero width \u200b, BOM \ufeff, "
    + "漢字" * 20,
    "Long. " + "0123456789" * 1999 + " end",
    "Lone surrogates \ud83d and \udc00 in between.",
    'JSON {"caption": "\\u0000", \'a\': [1, 2]}, CSV ";,\t", Markdown | `x` | ``` # --- <script>alert(1)</script> '
    "{{content}} {{idx}}",
    "   leading and trailing blanks stay   ",
)
"""One of everything, 20,000 characters among them. Lone surrogates never reach a dataset: UTF-8 has none, so each is
replaced on the way in, and blanks at both ends are cut by the stage."""

ANYTHING = {f"checks__{name}": False for name in ("prompt_leak", "refusal", "repetition", "truncation")}
"""A recipe's changes under which all of them are captions."""


def captioned(
    folder: Path, output: str, captions: Sequence[str], *, images: Path | None = None, **changes: Any
) -> Dataset:
    """A dataset of drawn pictures (or those in `images`), one a caption in turn; 20 samples a shard."""
    if images is None:
        images = draw_pictures(folder / "pictures", len(captions))
    recipe = recipe_for(images, output, sampling__max_tokens=8192, **ANYTHING, **changes)
    dataset = planned(recipe)

    def answer(request: Request) -> str:
        place = order[request.request_id.partition("/")[0]]
        return captions[place % len(captions)]

    samples = [sample for shard in range(dataset.plan.shards) for sample in dataset.plan.shard(shard)]
    order = {sample.key: place for place, sample in enumerate(samples)}
    with lane_for(recipe, dataset, EchoEngine(16, answer=answer)) as lane:
        for unit in unfinished_units(dataset):
            lane.run(unit)
    return dataset
