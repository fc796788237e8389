"""Chapters 4 and 5: a dataset by the captioner before and one by it after; the first run is killed on the way."""

import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import open_dataset
from caprl_core.storage.commit import list_units
from caprl_core.storage.layout import Unit
from caprl_core.storage.log import read_log
from caprl_core.storage.store import Store
from caprl_core.world.demo.commands import Command, Commands, DemoError, Event
from caprl_core.world.demo.files import ERAS, DemoFolder, Era
from caprl_core.world.demo.following import ShardCount, summary_of
from caprl_core.world.demo.terminal import Busy, Terminal

LINGER_S: Final = 0.5
"""Between the first shard and the kill, so that the log holds something of the next one; it is flushed more often."""
SETTLE_S: Final = 0.5
"""After a kill the server may still be at a request that the run had sent whole."""


class Stored(NamedTuple):
    """Samples that are committed, and samples in the logs of shards that are not."""

    committed: int
    logged: int


class Annotated(NamedTuple):
    """A dataset. `killed` is what the killed run had left; None for a dataset whose run was left alone."""

    uri: str
    samples: int
    rows: int
    reasons: dict[str, int]
    killed: Stored | None


def annotate(recipe: Path, uri: str, commands: Commands, terminal: Terminal, *, kill: bool) -> Annotated:
    """Write the dataset of a recipe at `uri`; with `kill` the run is killed after its first shard and begun again.

    Raises `DemoError` when something went wrong, or got lost.
    """
    left = _killed(recipe, uri, commands, terminal) if kill else None
    with commands.follow("annotate", recipe, "--json") as run, terminal.busy("starting") as busy:
        summary = summary_of(run, busy)
    if left is not None:
        terminal.say(account(left, summary))
    commands.run("status", recipe)
    records = current_commits(open_dataset(Store(uri))).records
    reasons = sum((Counter(record.reasons) for record in records), Counter[str]())
    rows = sum(record.rows for record in records)
    return Annotated(uri, summary["samples"], rows, dict(reasons.most_common()), left)


def account(left: Stored, summary: Event) -> str:
    """Where the samples of a resumed run come from, in words. Raises `DemoError` if some were lost or asked twice."""
    total, asked, resumed = summary["samples"], summary["samples_asked"], summary["samples_resumed"]
    words = f"committed before {left.committed} + taken from the log {resumed} + asked now {asked}"
    if resumed != left.logged or left.committed + resumed + asked != total:
        raise DemoError(f"{words}, of {total} samples, {left.logged} in the log: some were lost or captioned twice")
    return f"{words} = {total} samples: nothing was lost, and no sample of the log was captioned again"


def prove(recipes: dict[Era, Path], folder: DemoFolder, commands: Commands) -> None:
    """Prove from the bucket that nothing is lost, doubled or changed; export, describe and download the datasets."""
    for era in ERAS:
        commands.run("verify", recipes[era], "--deep")
        commands.run("export", recipes[era], "--out", folder.captions(era))
        folder.card(era).write_text(commands.run("card", recipes[era], shown=False) + "\n", encoding="utf-8")
    commands.run("download", recipes["after"], folder.download("after"))


def _killed(recipe: Path, uri: str, commands: Commands, terminal: Terminal) -> Stored:
    """Run until the first shard is published, then SIGKILL; what the bucket has then."""
    with commands.follow("annotate", recipe, "--json") as run, terminal.busy("starting") as busy:
        _until_a_shard(run, busy)
        time.sleep(LINGER_S)
        run.kill()
    time.sleep(SETTLE_S)
    left = _stored(uri)
    terminal.say(f"killed by SIGKILL; in the bucket: {left.committed} samples committed, {left.logged} more in the log")
    return left


def _until_a_shard(run: Command, busy: Busy) -> None:
    count = ShardCount()
    for event in run.events():
        count.event(event)
        count.show(busy)
        if event["event"] == "shard":
            return
    raise DemoError("the run has ended before its first shard")


def _stored(uri: str) -> Stored:
    store = Store(uri)
    dataset = open_dataset(store)
    done = {unit.shard for unit in list_units(store)}
    committed = sum(len(dataset.plan.shard_keys(shard)) for shard in done)
    waiting = set(range(dataset.record.shards)) - done
    return Stored(committed, sum(len(read_log(store, Unit(shard, 0))) for shard in waiting))
