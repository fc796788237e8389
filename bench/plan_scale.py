"""Scale: planning 1,246,000 and 5,000,000 samples in flat memory, and a bucket with 5,000 commits."""

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from bench import sharegpt4v_file
from bench.made_commits import commit_record
from bench.measuring import Report, options, peak_mib
from bench.s3_server import BUCKET, S3Server
from caprl_core.export.jsonl import export_jsonl
from caprl_core.recipe.models import CaptionRecipe, CostExecution
from caprl_core.shards.dataset import create_dataset, open_dataset
from caprl_core.shards.plan import write_plan
from caprl_core.shards.progress import progress, unfinished_units
from caprl_core.storage.commit import Usage
from caprl_core.storage.layout import COMMIT_CACHE, ROLES, Unit
from caprl_core.storage.store import Store

METHOD = """Each timing is a process of its own; peak memory is its VmHWM, interpreter and libraries included. Files
lie on the local disk, freshly written (cached as far as memory allows). Parsing: ijson.items over the whole array,
nothing kept. Planning: `write_plan` into a local store, shards of 1,000. The table of 5,000,000 samples is parquet with
an image path and a caption of 1 kB each. Exporting: 5,000,000 rows of 2.3 kB in 5,000 shards, standard form (all shards
are links to one JSONL, so reading it costs no disk). The bucket: 5,000 commit records and 15,000 published objects on
moto's S3 server, requests counted by the server."""


def recipe_for(kind: str, path: Path, output: str) -> CaptionRecipe:
    return CaptionRecipe.model_validate(
        {
            "name": "bench",
            "sources": [{"name": "source", "kind": kind, "uri": str(path)}],
            "model": {"name": "stub"},
            "prompt": {"id": "detail", "text": "Please describe this image in detail."},
            "execution": {"output": output, "engine": {"kind": "transformers"}},
        }
    )


def write_table(path: Path, rows: int) -> None:
    """A parquet table of image paths and captions, streamed."""
    rng = random.Random(0)
    text = sharegpt4v_file.phrases(rng)
    schema = pa.schema([("image", pa.string()), ("caption", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, 10_000):
            numbers = range(start, min(start + 10_000, rows))
            places = [rng.randrange(len(text) - 1000) for _ in numbers]
            columns = [
                pa.array([f"web/{number // 1000:05d}/{number:09d}.jpg" for number in numbers]),
                pa.array([text[place : place + 1000] for place in places]),
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def parse(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in ijson.items(file, "item"))


def plan(kind: str, path: Path) -> int:
    output = path.parent / f"dataset-{kind}"
    recipe = recipe_for(kind, path, str(output))
    store = Store(str(output))
    return create_dataset(recipe, store, write_plan(recipe, store)).record.samples


def export(folder: Path) -> int:
    return export_jsonl(open_dataset(Store(str(folder))), str(folder.parent / "export.jsonl")).rows


USAGE = Usage(prompt_tokens=1, completion_tokens=1, engine_s=30.0, wall_s=60.0)
"""Of every commit: so that rates and costs are worked out."""

JOBS = {
    "parse": parse,
    "sharegpt4v": lambda path: plan("sharegpt4v", path),
    "table": lambda path: plan("table", path),
    "export": export,
}


def child(job: str, path: Path) -> tuple[float, float, int]:
    """Seconds, peak MiB and count of a job in a process of its own."""
    command = [sys.executable, "-m", "bench.plan_scale", "--job", job, "--path", str(path)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return answer["seconds"], answer["peak_mib"], answer["count"]


def commit_all(store: Store, source: Path, shards: int, content: bytes | None) -> None:
    """Plan a table of `shards` x 1,000 samples on a store and commit every shard, without running anything."""
    recipe = recipe_for("table", source, store.uri)
    dataset = create_dataset(recipe, store, write_plan(recipe, store))
    assert dataset.record.shards == shards
    if content:
        store.put("linked.jsonl", content)
        (Path(store.uri) / "shards").mkdir()
    linked = Path(store.uri) / "linked.jsonl"
    nothing = (1, hashlib.sha256(b"x").hexdigest())
    contents = dict.fromkeys(ROLES, nothing)
    if content:
        contents["jsonl"] = (len(content), hashlib.sha256(content).hexdigest())

    def one(shard: int) -> None:
        unit = Unit(shard, 0)
        made = commit_record(dataset.record.fingerprint, unit, 1000, contents, USAGE)
        for item in made.objects:
            if content and item.role == "jsonl":
                # 5,000 links to one file, or the disk would need 11 GB.
                (Path(store.uri) / item.final_key).hardlink_to(linked)
            else:
                store.put(item.final_key, b"x")
        store.create(unit.commit_key, made.encode())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(shards)))


def jsonl_of_a_shard() -> bytes:
    """1,000 rows as wide as real ones."""
    row = {"key": "source-" + "0" * 24, "image": "web/00000/000000000.jpg", "caption": "a small red house, " * 52}
    row |= {"source": "source", "record_id": None, "image_sha256": "0" * 64, "model": "m", "model_revision": None}
    row |= {"prompt_id": "detail", "seed": 1, "attempt": 1, "finish_reason": "stop", "completion_tokens": 250}
    row |= {"original_caption": "beside calm water, " * 26, "member_sha256": "0" * 64}
    return (json.dumps(row) + "\n").encode() * 1000


def measure_plans(report: Report, folder: Path, quick: bool) -> None:
    records, samples = (12_460, 50_000) if quick else (sharegpt4v_file.RECORDS, 5_000_000)
    array, table = folder / "sharegpt4v.json", folder / "table.parquet"
    sharegpt4v_file.write(array, records)
    report.figure(f"ShareGPT4V file, {records:,} records", array.stat().st_size / 1e6, "MB")
    parsing, parsing_mib, _ = child("parse", array)
    report.figure("ijson alone: time", parsing, "s")
    report.figure("ijson alone: peak memory", parsing_mib, "MiB")
    seconds, peak, count = child("sharegpt4v", array)
    assert count == records
    report.figure("plan of the ShareGPT4V file: time", seconds, "s")
    report.figure("plan of the ShareGPT4V file / ijson alone", seconds / parsing, "x")
    report.require("plan of the ShareGPT4V file: peak memory, MiB", peak, most=1024)
    array.unlink()
    write_table(table, samples)
    report.figure(f"table of {samples:,} samples", table.stat().st_size / 1e6, "MB")
    seconds, peak, count = child("table", table)
    assert count == samples
    report.figure("plan of the table: time", seconds, "s")
    report.require("plan of the table: peak memory, MiB", peak, most=1024)


def measure_export(report: Report, folder: Path, shards: int) -> None:
    dataset = folder / "finished"
    commit_all(Store(str(dataset)), folder / "table.parquet", shards, jsonl_of_a_shard())
    seconds, peak, rows = child("export", dataset)
    assert rows == shards * 1000
    report.figure(f"export of {rows:,} rows: rate", rows / seconds, "rows/s")
    report.require("export: peak memory, MiB", peak, most=1024)


def measure_bucket(report: Report, folder: Path, shards: int) -> None:
    with S3Server() as server:
        store = Store(f"s3://{BUCKET}/dataset")
        commit_all(store, folder / "table.parquet", shards, None)
        dataset = open_dataset(store)
        server.counts()
        for title, run in (
            ("resume (unfinished_units)", lambda: unfinished_units(dataset)),
            ("status, cold", lambda: progress(dataset, CostExecution())),
            ("status, commit records cached", lambda: progress(dataset, CostExecution())),
        ):
            if title == "status, cold":
                store.delete([COMMIT_CACHE])
                server.counts()
            started = time.monotonic()
            run()
            report.figure(f"{shards:,} commits, {title}: time", time.monotonic() - started, "s")
            counts = server.counts()
            report.figure(f"{shards:,} commits, {title}: LIST", counts.get("LIST", 0), "requests")
            report.figure(f"{shards:,} commits, {title}: others", counts_without_lists(counts), "requests")


def counts_without_lists(counts: dict[str, int]) -> int:
    return sum(count for kind, count in counts.items() if kind != "LIST")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--job", choices=JOBS, help="internal: one timed job")
    parser.add_argument("--path", type=Path, help="internal: its input")
    arguments = parser.parse_args()
    if arguments.job:
        started = time.monotonic()
        count = JOBS[arguments.job](arguments.path)
        print(json.dumps({"seconds": time.monotonic() - started, "peak_mib": peak_mib(), "count": count}))
        return
    report = Report("plan_scale", METHOD, quick=arguments.quick, packages=("ijson", "pyarrow", "obstore", "moto"))
    with tempfile.TemporaryDirectory(prefix="caprl-bench-") as name:
        folder = Path(name)
        measure_plans(report, folder, arguments.quick)
        shards = 50 if arguments.quick else 5000
        measure_export(report, folder, shards)
        measure_bucket(report, folder, shards)
    report.finish()


if __name__ == "__main__":
    main()
