"""Chapter 1: pictures with known content, to learn from and to be judged by, and files that no captioner should see."""

import json
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow.parquet as pq

from caprl_core.world.benchmark import write_benchmark
from caprl_core.world.demo.commands import Commands
from caprl_core.world.demo.files import DemoFolder, Sizes
from caprl_core.world.pictures import hostile_files
from caprl_core.world.question_set import write_question_set

TAUGHT_SEED: Final = 0
WATCHED_SEED, ASKED_SEED = 0, 1
"""Of the pictures that training watches, to choose its best checkpoint, and of those that judge the datasets: others,
so that nothing was chosen by what is measured."""
MISSING: Final = "not-there.png"
ESCAPING: Final = "../../../../etc/passwd"


class Drawn(NamedTuple):
    """What was drawn. `records` is what the datasets' plan will hold; `hostile` names the files made to be refused."""

    records: int
    hostile: tuple[str, ...]


def draw_world(folder: DemoFolder, sizes: Sizes, commands: Commands) -> Drawn:
    """Draw everything. The same sizes give the same bytes."""
    commands.run("world", "draw", folder.taught, "--count", str(sizes.curated), "--seed", str(TAUGHT_SEED))
    write_question_set(folder.watched, "held_out", sizes.watched, WATCHED_SEED)
    write_question_set(folder.asked, "held_out", sizes.captioned, ASKED_SEED)
    write_benchmark(folder.benchmark, "held_out", sizes.captioned, ASKED_SEED)
    folder.unseen.mkdir(parents=True, exist_ok=True)
    sentences = dict.fromkeys(_take_out(folder.asked, folder.unseen), "A drawn picture.")
    hostile = hostile_files()
    for name, data in hostile.items():
        (folder.unseen / name).write_bytes(data)
        sentences[name] = f"A file called {name}."
    sentences |= {MISSING: "A picture that is missing.", ESCAPING: "A path that leads out of its folder."}
    records = [_record(number, *pair) for number, pair in enumerate(sentences.items())]
    folder.annotations.write_text(json.dumps(records, indent=1))
    return Drawn(len(records), tuple(hostile))


def _take_out(questions: Path, folder: Path) -> list[str]:
    """Write the pictures of a question set into a folder; their names."""
    names = []
    for image in pq.read_table(questions, columns=["image"]).column("image").to_pylist():
        (folder / image["path"]).write_bytes(image["bytes"])
        names.append(image["path"])
    return names


def _record(number: int, image: str, caption: str) -> dict[str, object]:
    """One object of the ShareGPT4V format."""
    return {
        "id": str(number),
        "image": image,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat do you see?"},
            {"from": "gpt", "value": caption},
        ],
    }
