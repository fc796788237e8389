"""Exports of millions of rows in flat memory beside plain copying, joining to a source's file, and downloads."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import sharegpt4v_file
from bench.made_commits import commit_record
from bench.measuring import Report, middle, options, peak_mib
from bench.s3_server import BUCKET, S3Server
from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.row import encode_line
from caprl_core.export.join import join_captions, record_key
from caprl_core.export.jsonl import export_jsonl
from caprl_core.export.parquet import export_parquet, schema_of
from caprl_core.export.subsets import Division
from caprl_core.export.trainer_files import export_for_trainer
from caprl_core.export.trainers.llamafactory import LLAMAFACTORY
from caprl_core.shards.dataset import Dataset, DatasetRecord, open_dataset
from caprl_core.storage.layout import DATASET, ROLES, Unit
from caprl_core.storage.store import Store

METHOD = """Each timing is a process of its own; peak memory is its VmHWM, interpreter and libraries included. The
dataset: rows with all columns and captions of 1 kB, 2.2 kB of JSON each, in shards of 1,000 on the local disk (all
shards are links to one JSONL, so reading it costs no disk). Copying: the same files line by line through `json.loads`
and `json.dumps` into one file, run before and after the exports; the ratio is to its mean. LLaMA-Factory's export looks
for the picture of every row below an image root. Samples: two nested ones and a held-out share, which take a pass more.
Joining: a ShareGPT4V file and a dataset with a caption for each of its records. Downloading: shards of random bytes on
moto's S3 server, `caprl download` and `aws s3 cp --recursive` (from the registry, in an environment of its
own) in turns, each into an empty folder and each starting an interpreter; the ratio is the median over the turns."""
SHARD = 1000
SOURCE = "sharegpt4v"


def row(number: int, key: str, image: str, caption: str) -> dict[str, object]:
    """As wide as real ones."""
    digest = hashlib.sha256(image.encode()).hexdigest()
    return {
        "key": key, "source": SOURCE, "image": image, "record_id": f"{number:012d}",
        "original_caption": caption[:500], "image_file": f"{key}.jpg", "image_sha256": digest, "image_size": 123456,
        "image_format": "JPEG", "image_width": 640, "image_height": 480, "image_frames": 1, "image_notes": [],
        "member_sha256": digest, "engine_width": 644, "engine_height": 476, "model": "internlm/CapRL-3B",
        "model_revision": "0" * 40, "engine": "vllm", "engine_version": "0.32.0", "prompt_id": "detail",
        "temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "max_tokens": 2048,
        "seed": 2**53 + number, "attempt": 1, "finish_reason": "stop", "prompt_tokens": 500, "completion_tokens": 250,
        "latency_s": 3.1416, "caption": caption,
    }  # fmt: skip


def lines_of(images: Sequence[str], text: str, rng: random.Random) -> bytes:
    """A row an image."""
    lines = []
    for number, image in enumerate(images):
        place = rng.randrange(len(text) - 1000)
        lines.append(encode_line(row(number, record_key(SOURCE, image), image, text[place : place + 1000])))
    return b"".join(lines)


def make_dataset(store: Store, shards: int, content: Callable[[int, str], tuple[int, str]]) -> Dataset:
    """Commit `shards` shards without running anything; `content(shard, role)` puts an object and tells size, sha256."""
    record = DatasetRecord(
        name="bench",
        stage="caption",
        fingerprint="f" * 64,
        identity={
            "name": "bench",
            "prompt": {"id": "detail", "text": "Please describe this image in detail."},
            "sources": [{"name": SOURCE, "kind": "sharegpt4v"}],
        },
        plan_key="plan/plan.parquet",
        plan_sha256=hashlib.sha256(b"plan").hexdigest(),
        samples=shards * SHARD,
        shards=shards,
        created="2026-01-01T00:00:00+00:00",
    )
    store.put(DATASET, record.model_dump_json().encode())
    store.put(record.plan_key, b"plan")
    for shard in range(shards):
        unit = Unit(shard, 0)
        contents = {role: content(shard, role) for role in ROLES}
        made = commit_record(record.fingerprint, unit, SHARD, contents)
        store.create(unit.commit_key, made.encode())
    return open_dataset(store)


def linked_dataset(folder: Path, shards: int, images: Path) -> Dataset:
    """Every shard the same 1,000 rows; their pictures are empty files below `images`."""
    rng = random.Random(0)
    names = [f"coco/train2017/{number:012d}.jpg" for number in range(SHARD)]
    data = lines_of(names, sharegpt4v_file.phrases(rng), rng)
    (images / names[0]).parent.mkdir(parents=True)
    for name in names:
        (images / name).touch()
    store = Store(str(folder))
    (folder / "shards").mkdir(parents=True)
    (folder / "linked.jsonl").write_bytes(data)
    known = {"jsonl": (len(data), hashlib.sha256(data).hexdigest()), "tar": (0, ""), "ledger": (0, "")}

    def content(shard: int, role: str) -> tuple[int, str]:
        if role == "jsonl":
            (folder / Unit(shard, 0).final_key("bench", role)).hardlink_to(folder / "linked.jsonl")
        return known[role]

    return make_dataset(store, shards, content)


def own_captions(folder: Path, shards: int) -> Dataset:
    """A row for each record of the ShareGPT4V file that `sharegpt4v_file.write` draws from the same seed."""
    rng, own = random.Random(0), random.Random(1)
    text = sharegpt4v_file.phrases(rng)
    store = Store(str(folder))

    def content(shard: int, role: str) -> tuple[int, str]:
        data = b""
        if role == "jsonl":
            numbers = range(shard * SHARD, (shard + 1) * SHARD)
            data = lines_of([str(sharegpt4v_file.record(n, rng, text)["image"]) for n in numbers], text, own)
            store.put(Unit(shard, 0).final_key("bench", role), data)
        return len(data), hashlib.sha256(data).hexdigest()

    return make_dataset(store, shards, content)


# One timed job a process


def dataset_in(folder: Path) -> Dataset:
    return open_dataset(Store(str(folder / "dataset")))


def copy(folder: Path) -> int:
    """The peer: every line through the standard library's JSON."""
    count = 0
    with (folder / "out" / "copy.jsonl").open("w", encoding="utf-8") as out:
        for path in sorted((folder / "dataset" / "shards").glob("*.jsonl")):
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    out.write(json.dumps(json.loads(line)) + "\n")
                    count += 1
    return count


def jsonl(folder: Path) -> int:
    return export_jsonl(dataset_in(folder), str(folder / "out" / "x.jsonl")).rows


def full(folder: Path) -> int:
    return export_jsonl(dataset_in(folder), str(folder / "out" / "x.jsonl"), form="full").rows


def samples(folder: Path) -> int:
    dataset = dataset_in(folder)
    counts = (dataset.record.samples // 8, dataset.record.samples // 4)
    division = Division(samples=counts, validation=0.01)
    export_jsonl(dataset, str(folder / "out" / "x.jsonl"), division=division)
    return dataset.record.samples


def llamafactory(folder: Path) -> int:
    dataset = dataset_in(folder)
    return export_for_trainer(dataset, str(folder / "out"), LLAMAFACTORY, image_root=folder / "images").rows


def parquet(folder: Path) -> int:
    dataset = dataset_in(folder)
    return export_parquet(dataset, str(folder / "out" / "x.parquet"), schema_of(dataset, CaptionStage.fields)).rows


def join(folder: Path) -> int:
    report = join_captions(
        dataset_in(folder), str(folder / "records.json"), str(folder / "out" / "x.json"), scratch=str(folder)
    )
    return report.joined


JOBS: dict[str, Callable[[Path], int]] = {
    job.__name__: job for job in (copy, jsonl, full, samples, llamafactory, parquet, join)
}


def child(job: str, folder: Path) -> tuple[float, float, int]:
    """Seconds, peak MiB and count of a job in a process of its own; what it wrote is removed."""
    (folder / "out").mkdir()
    command = [sys.executable, "-m", "bench.export", "--job", job, "--path", str(folder)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    shutil.rmtree(folder / "out")
    return answer["seconds"], answer["peak_mib"], answer["count"]


# What is measured


def measure_exports(report: Report, folder: Path, shards: int) -> None:
    linked_dataset(folder / "dataset", shards, folder / "images")
    rows = shards * SHARD
    rates: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for job in ("copy", "jsonl", "full", "samples", "llamafactory", "parquet", "copy"):
        seconds, peaks[job], count = child(job, folder)
        assert count == rows, f"{job}: {count} of {rows} rows"
        rates.setdefault(job, []).append(rows / seconds)
    copying = sum(rates["copy"]) / 2
    report.figure(f"copying {rows:,} rows through json, before", rates["copy"][0], "rows/s")
    report.figure("copying again, after", rates["copy"][1], "rows/s")
    for job in ("jsonl", "full", "samples", "llamafactory", "parquet"):
        report.figure(f"{job}: rate", rates[job][0], "rows/s")
    for job in ("jsonl", "llamafactory", "parquet"):
        report.require(f"{job} / copying", rates[job][0] / copying, least=0.7)
    for job in ("jsonl", "samples", "llamafactory", "parquet"):
        report.require(f"{job}: peak memory, MiB", peaks[job], most=1024)


def measure_join(report: Report, folder: Path, shards: int) -> None:
    sharegpt4v_file.write(folder / "records.json", shards * SHARD)
    own_captions(folder / "dataset", shards)
    seconds, peak, joined = child("join", folder)
    assert joined == shards * SHARD, f"{joined} records found their caption"
    report.figure(f"joining {joined:,} records: time", seconds, "s")
    report.figure("joining: rate", joined / seconds, "records/s")
    report.require("joining: peak memory, MiB", peak, most=1024)


def aws_cli(folder: Path) -> str:
    """The command, in an environment of its own."""
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "--compile-bytecode", "awscli"], check=True)
    return str(folder / "bin" / "aws")


def sharded_objects(store: Store, shards: int, tar_bytes: int) -> int:
    """Random shards on the store; returns their bytes."""
    rng = random.Random(0)
    sizes = {"tar": tar_bytes, "jsonl": 2_300_000, "ledger": 90_000}

    def content(shard: int, role: str) -> tuple[int, str]:
        data = rng.randbytes(sizes[role])
        store.put(Unit(shard, 0).final_key("bench", role), data)
        return len(data), hashlib.sha256(data).hexdigest()

    make_dataset(store, shards, content)
    return shards * sum(sizes.values())


def turns_of(folder: Path, aws: str, url: str, turns: int) -> Iterator[tuple[float, float]]:
    """Seconds of ours and of the peer's, turn by turn, the first one alternating."""
    copied = folder / "aws"
    command = [aws, "s3", "cp", "--recursive", "--only-show-errors", "--endpoint-url", url]
    environment = os.environ | {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    for turn in range(turns):
        seconds = {}
        for who in ("ours", "aws") if turn % 2 else ("aws", "ours"):
            started = time.monotonic()
            if who == "ours":
                ours = [sys.executable, "-m", "caprl_core.cli", "download", f"s3://{BUCKET}/dataset"]
                subprocess.run([*ours, str(folder / "out")], check=True, stdout=subprocess.DEVNULL)
            else:
                subprocess.run([*command, f"s3://{BUCKET}/dataset", str(copied)], check=True, env=environment)
            seconds[who] = time.monotonic() - started
        brought = {path.relative_to(copied): path.stat().st_size for path in copied.rglob("*") if path.is_file()}
        assert all((folder / "out" / name).stat().st_size == size for name, size in brought.items())
        shutil.rmtree(folder / "out")
        shutil.rmtree(copied)
        yield seconds["ours"], seconds["aws"]


def measure_download(report: Report, folder: Path, shards: int, tar_bytes: int, turns: int) -> None:
    aws = aws_cli(folder / "awscli")
    with S3Server() as server:
        size = sharded_objects(Store(f"s3://{BUCKET}/dataset"), shards, tar_bytes)
        report.figure(f"dataset of {shards} shards on S3", size / 1e6, "MB")
        ratios = []
        for turn, (ours, theirs) in enumerate(turns_of(folder, aws, server.url, turns)):
            report.figure(f"turn {turn}: download", size / 1e6 / ours, "MB/s")
            report.figure(f"turn {turn}: aws s3 cp --recursive", size / 1e6 / theirs, "MB/s")
            ratios.append(theirs / ours)
    report.require("download / aws s3 cp --recursive", middle(ratios), least=0.8)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=0, help="rows to export; 2,000,000 by default")
    parser.add_argument("--only", nargs="+", choices=("exports", "join", "download"), help="some parts only")
    parser.add_argument("--job", choices=JOBS, help="internal: one timed job")
    parser.add_argument("--path", type=Path, help="internal: its folder")
    arguments = parser.parse_args()
    if arguments.job:
        started = time.monotonic()
        count = JOBS[arguments.job](arguments.path)
        print(json.dumps({"seconds": time.monotonic() - started, "peak_mib": peak_mib(), "count": count}))
        return
    quick = arguments.quick
    shards = (arguments.rows or (100_000 if quick else 2_000_000)) // SHARD
    parts = arguments.only or ("exports", "join", "download")
    partly = quick or arguments.rows or arguments.only
    report = Report("export", METHOD, quick=bool(partly), packages=("orjson", "pyarrow", "ijson", "obstore", "moto"))
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="caprl-bench-") as name:
            if part == "exports":
                measure_exports(report, Path(name), shards)
            elif part == "join":
                measure_join(report, Path(name), 12 if quick else sharegpt4v_file.RECORDS // SHARD)
            else:
                measure_download(report, Path(name), 6 if quick else 24, 40_000_000, 2 if quick else 5)
    report.finish()


if __name__ == "__main__":
    main()
