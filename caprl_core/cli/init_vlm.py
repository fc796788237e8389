"""`caprl init-vlm`: the checkpoint that pretraining starts from."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from caprl_core.cli.become import JsonOption


class Dtype(StrEnum):
    """Data types of weights, by torch's names."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


def init_vlm(
    *,
    vision: Annotated[
        str, typer.Option(metavar="DONOR", help="Qwen2.5-VL that gives vision tower and processor: folder or hub id.")
    ],
    language: Annotated[
        str,
        typer.Option(metavar="LLM", help="Qwen2.5-Instruct of the same size that gives the words: folder or hub id."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; it must not exist.")],
    vision_revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of the hub; default: its main branch, recorded as a commit."),
    ] = None,
    language_revision: Annotated[str | None, typer.Option(help="The same of the language model.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed draws the same patch merger.")] = 0,
    dtype: Annotated[Dtype, typer.Option(help="Of the weights; what has it already keeps every bit.")] = Dtype.BFLOAT16,
    as_json: JsonOption = False,
) -> None:
    """Join a vision tower to a language model that has never seen: the paper's start of pretraining.

    The patch merger between them is fresh. Weights go from file to file, so a model of any size takes little memory.
    The folder appears whole or not at all.
    """
    from caprl_core.pretraining.initialise import initialise
    from caprl_core.pretraining.sources import ModelSource

    made = initialise(
        ModelSource.open(vision, vision_revision),
        ModelSource.open(language, language_revision),
        out,
        seed=seed,
        dtype=dtype.value,
        tell=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        typer.echo(json.dumps(made))
        return
    counts = [made[part]["parameters"] for part in ("vision", "merger", "language")]
    typer.echo(
        f"{out}: {sum(counts):,} parameters in {made['dtype']} ({counts[0]:,} of the vision tower, {counts[1]:,} fresh "
        f"from seed {seed}, {counts[2]:,} of the language model)"
    )
