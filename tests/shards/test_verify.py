"""Whatever is wrong in the bucket is found, and nothing is found in a sound one."""

import io
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from caprl_core.shards.dataset import Dataset, open_dataset
from caprl_core.shards.revise import known_reasons, retry_rejected
from caprl_core.shards.verify import verify
from caprl_core.shards.verify_tar import tar_problems, tarred_row
from caprl_core.storage.commit import CommitRecord, read_commit
from caprl_core.storage.layout import Unit
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine, caption_of


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two shards, the first in two revisions."""
    images = draw_pictures(tmp_path / "images", 40)
    recipe = recipe_for(images, str(tmp_path / "out"), execution__gate__max_share={"*": 1.0})
    made = planned(recipe)
    healed = False

    def answer(request: Any) -> str:
        return "" if not healed and request.images[0].sha256 < "5" else caption_of(request)

    with lane_for(recipe, made, EchoEngine(answer=answer)) as lane:
        for shard in range(2):
            lane.run(Unit(shard, 0))
        healed = True
        retry_rejected(lane, made, Unit(0, 1), known_reasons([]))
    assert verify(made, deep=True).sound
    return made


def rewrite(dataset: Dataset, unit: Unit, change: Callable[[CommitRecord], dict[str, Any]]) -> None:
    record = read_commit(dataset.store, unit)
    dataset.store.put(unit.commit_key, record.model_copy(update=change(record)).encode())


def flip(dataset: Dataset, key: str) -> None:
    data = bytearray(dataset.store.get(key))
    data[len(data) // 2] ^= 1
    dataset.store.put(key, bytes(data))


def swap_objects(dataset: Dataset) -> None:
    """Shard 1's commit names shard 0's objects."""
    other = read_commit(dataset.store, Unit(0, 1)).objects
    rewrite(dataset, Unit(1, 0), lambda _: {"objects": other})


SPOILT: list[tuple[str, Callable[[Dataset], Any], str]] = [
    ("plan changed", lambda d: flip(d, d.record.plan_key), "the plan's content is not the one"),
    ("plan replaced", lambda d: d.store.put(d.record.plan_key, b"no parquet"), "the plan's content is not the one"),
    ("plan gone", lambda d: d.store.delete([d.record.plan_key]), "the plan is missing"),
    ("superseded row changed", lambda d: flip(d, "shards/drawn-000000.jsonl"), "does not have the committed sha256"),
    ("superseded tar changed", lambda d: flip(d, "shards/drawn-000000.tar"), "does not have the committed sha256"),
    ("superseded ledger gone", lambda d: d.store.delete(["shards/drawn-000000.ledger.parquet"]), "missing"),
    ("superseded commit gone", lambda d: d.store.delete([Unit(0, 0).commit_key]), "revision 0, which it supersedes"),
    ("commit gone", lambda d: d.store.delete([Unit(1, 0).commit_key]), "000001.tar: no commit names this object"),
    ("stray object", lambda d: d.store.put("shards/drawn-000009.tar", b""), "no commit names this object"),
    ("another's objects", swap_objects, "is no name of its shard"),
    ("wrong reasons", lambda d: rewrite(d, Unit(1, 0), lambda _: {"reasons": {"refused": 1}}), "its objects hold"),
    ("wrong attempts", lambda d: rewrite(d, Unit(1, 0), lambda _: {"attempts": {"1": 1}}), "its objects hold"),
    ("an object less", lambda d: rewrite(d, Unit(1, 0), lambda r: {"objects": r.objects[1:]}), "names no tar"),
    ("beyond the plan", lambda d: d.store.put(Unit(7, 0).commit_key, _moved(d, 7)), "shard 7 is not in the plan"),
]


def _moved(dataset: Dataset, shard: int) -> bytes:
    return read_commit(dataset.store, Unit(1, 0)).model_copy(update={"shard": shard}).encode()


@pytest.mark.parametrize(("spoil", "problem"), [case[1:] for case in SPOILT], ids=[case[0] for case in SPOILT])
def test_what_is_spoilt_is_found(dataset: Dataset, spoil: Callable[[Dataset], Any], problem: str) -> None:
    spoil(dataset)
    report = verify(open_dataset(dataset.store), deep=True)
    assert not report.sound
    assert any(problem in line for line in report.problems), report.problems


def test_files_of_others_beside_the_shards_are_nobodys_problem(dataset: Dataset) -> None:
    dataset.store.put("shards/README.md", b"hello")
    assert verify(dataset).sound


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


LINE = b'{"key":"k","attempt":1,"image_file":"k.jpg","member_sha256":"%s"}\n' % sha256(b"bytes").hexdigest().encode()
WHOLE = [("k.jpg", b"bytes"), ("k.json", LINE), ("k.txt", b"a caption")]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (WHOLE, None),
        ([("k.jpg", b"other"), *WHOLE[1:]], "does not have the sha256 of its row"),
        ([WHOLE[0], ("k.json", b"{}\n"), WHOLE[2]], "is not the row of the JSONL"),
        (WHOLE[:2], "where k.txt should be"),
        ([*WHOLE, ("../x", b"")], "a member that no row names: ../x"),
    ],
)
def test_members_are_held_against_their_rows(members: list[tuple[str, bytes]], problem: str | None) -> None:
    data = tar_of(members)
    found = tar_problems("here", io.BytesIO(data), [tarred_row(LINE)], sha256(data).hexdigest())
    assert found == [] if problem is None else problem in found[0]
