"""Filtering stored answers anew: 375,000 questions from a local folder and from S3, beside parsing the same bytes."""

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from bench.measuring import Report, options
from bench.s3_server import BUCKET, S3Server
from caprl_core.data.row import Result
from caprl_core.qa.question import Question, question_fields, question_id
from caprl_core.qa.sets.curated import curate
from caprl_core.recipe.qa import FilterRecipe
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import Dataset, DatasetRecord, open_dataset
from caprl_core.shards.pack import pack
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.storage.commit import CommitRecord, CommittedObject, Usage, commit
from caprl_core.storage.layout import DATASET, Attempt, Unit
from caprl_core.storage.publish import publish
from caprl_core.storage.store import Store

METHOD = """An answer dataset of 75 committed shards of 1,000 images of five questions, four rotations with the image
and four without, every vote stored (written by the project's own pack and commit). refilter: read and check every byte,
decide, write parquet, JSONL, stats and manifest, and put them; default filter with a tenth held out. Peer: the same
bytes fetched and checked the same way and parsed by orjson, nothing else. Each run is a process of its own, its peak
memory that of the whole process; threads fetch, so processor time may exceed the time. S3 is moto in a process of its
own on the same cores."""
QUESTIONS = 5
MOST_MIB = 1024
MOST_S = 60
WORDS = ("amber", "seven", "cable", "river", "north", "gate", "metal", "print", "stone", "wheel", "lemon", "cloud")


class _Text:
    def text(self, fields: Any) -> str:
        return str(fields["key"])


def votes(rng: random.Random, right: float, extra: str) -> list[dict[str, Any]]:
    """Four votes, each right with the probability given."""
    made = []
    for _ in range(4):
        correct = rng.random() < right
        letter = rng.choice("ABCD")
        reply = f"The answer is {letter}." if rng.random() < 0.2 else letter
        made.append(
            {"order": f"CADB{extra}", "letter": letter, "correct": correct, "reply": reply, "gold_p": None}
            | {"failure": "503: overloaded" if rng.random() < 0.002 else None}
        )
    return made


def answer_row(rng: random.Random, shard: int, index: int) -> dict[str, Any]:
    """A row as the answer stage writes it."""
    key = f"pool-{hashlib.blake2b(f'{shard}/{index}'.encode(), digest_size=12).hexdigest()}"
    questions = []
    for _ in range(QUESTIONS):
        stem = f"What is written on the {' '.join(rng.choices(WORDS, k=8))} at the left of the picture?"
        question = Question(stem, tuple(" ".join(rng.sample(WORDS, 3)) for _ in range(4)), rng.randrange(4))
        # About the shares of a usable writer: half are answered with the image, a third without it.
        visual, text = (0.98 if rng.random() < 0.5 else 0.5), (0.9 if rng.random() < 0.35 else 0.1)
        fields = {"id": question_id(key, question), **question_fields(question)}
        questions.append({**fields, "visual": votes(rng, visual, "-"), "text": votes(rng, text, "")})
    return {
        "key": key, "source": "questions", "image": f"set-generate-{shard:06d}.tar#{key}.jpg", "record_id": None,
        "original_caption": None, "image_sha256": hashlib.sha256(key.encode()).hexdigest(), "image_size": 150_000,
        "image_format": "JPEG", "image_width": 1024, "image_height": 768, "image_frames": 1, "image_notes": [],
        "engine_width": 1036, "engine_height": 756, "model": "Qwen/Qwen2.5-VL-3B-Instruct", "model_revision": None,
        "engine": "vllm", "engine_version": "0.32.0", "prompt_id": "answer-letter-v1", "temperature": 0.1,
        "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.05, "max_tokens": 16, "seed": 0, "attempt": 1,
        "finish_reason": "stop", "prompt_tokens": 52_000, "completion_tokens": 80, "latency_s": 1.5,
        "questions": questions,
        "writer": {
            "model": "Qwen/Qwen2.5-VL-72B-Instruct", "revision": None, "engine": "openai", "engine_version": "1",
            "prompt_id": "five-questions-v1", "attempt": 1,
        },
    }  # fmt: skip


def synthesise(uri: str, shards: int, images: int) -> None:
    """Commit the dataset; the store's credentials are in the environment."""
    store = Store(uri)
    rng = random.Random(0)
    record = DatasetRecord(
        name="set-answer", stage="answer", fingerprint="0" * 64, identity={"answerer": {"rotations": 4}},
        plan_key="plan/none.parquet", plan_sha256="0" * 64, samples=shards * images, shards=shards, created="2026",
    )  # fmt: skip
    store.put(DATASET, record.model_dump_json().encode())
    for number in range(shards):
        unit = Unit(number, 0)
        attempt = Attempt.begin(unit)
        results = [_result(index, answer_row(rng, number, index)) for index in range(images)]
        with tempfile.TemporaryDirectory(prefix="caprl-bench-") as folder:
            packed = pack(results, lambda _: b"", _Text(), Path(folder))  # type: ignore[arg-type]
            for item in packed:
                store.put_file(attempt.object_key(item.role), item.path)
        objects = tuple(
            CommittedObject.model_validate(
                {
                    "role": item.role,
                    "attempt_key": attempt.object_key(item.role),
                    "final_key": unit.final_key("set-answer", item.role),
                    "size": item.size,
                    "sha256": item.sha256,
                }
            )
            for item in packed
        )
        committed = CommitRecord(
            dataset="set-answer", stage="answer", fingerprint="0" * 64, shard=number, revision=0, supersedes=None,
            attempt=attempt.id, samples=images, rows=images, rejected=0, reasons={}, attempts={"1": images},
            objects=objects, usage=Usage(), created="2026",
        )  # fmt: skip
        commit(store, committed)
        publish(store, committed)
        store.delete([item.attempt_key for item in objects])


def _result(index: int, row: dict[str, Any]) -> Result:
    ledger = {
        "key": row["key"], "index": index, "source": "questions", "image": row["image"], "status": "row",
        "reason": None, "detail": None, "attempt": 1, "earlier": [], "finish_reason": "stop", "prompt_tokens": 1,
        "completion_tokens": 1, "latency_s": 1.0, "image_sha256": row["image_sha256"], "image_size": 1,
    }  # fmt: skip
    return Result(row["key"], index, ledger, row)


def copied(source: Store, target: Store) -> None:
    """The dataset as it is, object by object."""
    for item in source.list(""):
        target.put(item.key, source.get(item.key))


def measured(job: str, uri: str, out: str) -> dict[str, float]:
    """One job in a process of its own."""
    command = [sys.executable, "-m", "bench.refilter", "--job", job, "--uri", uri, "--out", out]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_job(job: str, uri: str, out: str) -> None:
    """What `measured` starts; prints its figures."""
    dataset: Dataset = open_dataset(Store(uri))
    started, began = time.perf_counter(), time.process_time()
    figures: dict[str, float] = {}
    if job == "curate":
        report = curate(dataset, FilterRecipe(held_out=0.1), Store(out))
        figures |= {"questions": report.stats.parsed, "kept": report.stats.funnel["kept"]}
        figures["fresh"] = float(report.fresh)
    else:
        for shard in shard_lines(dataset.store, current_commits(dataset).records, threads=8):
            for line in shard.lines:
                orjson.loads(line)
    figures["s"] = time.perf_counter() - started
    figures["cpu_s"] = time.process_time() - began
    figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


def main() -> None:
    parser = options(__doc__)
    for name in ("job", "uri", "out"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        run_job(arguments.job, arguments.uri, arguments.out)
        return
    shards, images = (3, 200) if arguments.quick else (75, 1000)
    report = Report("refilter", METHOD, quick=arguments.quick, packages=("pyarrow", "orjson", "obstore"))
    with tempfile.TemporaryDirectory(prefix="caprl-bench-", dir=os.environ.get("TMPDIR")) as folder, S3Server():
        local, remote = f"{folder}/answer", f"s3://{BUCKET}/answer"
        synthesise(local, shards, images)
        store = Store(local)
        for item in list(store.list("shards")):
            if item.key.endswith(".tar"):
                store.delete([item.key])  # nobody reads them here, and the S3 server keeps everything in memory
        copied(store, Store(remote))
        size = sum(item.size for item in store.list("shards") if item.key.endswith(".jsonl"))
        report.figure("questions", shards * images * QUESTIONS, "")
        report.figure("JSONL", size / 1e6, "MB")
        for place, uri, out in (("disk", local, f"{folder}/set"), ("S3", remote, f"s3://{BUCKET}/set")):
            peer, ours, again = (measured(job, uri, out) for job in ("parse", "curate", "curate"))
            assert ours["fresh"] and not again["fresh"] and ours["questions"] == shards * images * QUESTIONS
            report.figure(f"{place}: fetched, checked and parsed only", peer["s"], "s")
            report.figure(f"{place}: refilter", ours["s"], "s")
            report.figure(f"{place}: refilter / parsed only", ours["s"] / peer["s"], "x")
            report.figure(f"{place}: processor time, parsed only", peer["cpu_s"], "s")
            report.figure(f"{place}: processor time, refilter", ours["cpu_s"], "s")
            report.figure(f"{place}: the same again (verified)", again["s"], "s")
            report.figure(f"{place}: questions kept", ours["kept"], "")
            report.require(f"{place}: peak memory, MiB", ours["peak_mib"], most=MOST_MIB)
            report.require(f"{place}: refilter, s", ours["s"], most=MOST_S)
    report.finish()


if __name__ == "__main__":
    main()
