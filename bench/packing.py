"""Packing a shard: ours (tar, JSONL, ledger, all hashed) beside `webdataset.ShardWriter` (tar only, no hash).

The peer gets the same member bytes ready-made and passes them through; ours also encodes rows and writes the ledger.
"""

import gc
import hashlib
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import webdataset

from bench.measuring import Report, middle, options
from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.row import Result, encode_line
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.pack import DeterministicTar, HashingWriter, pack

METHOD = """Shards of 1,000 samples with images of about 150 kB (log-normal sizes), written to a local folder, new for
each run. Contestants take turns, medians of the rounds. MB/s counts the tar's bytes. `pack` is all that the
runner does: rows encoded, tar and JSONL written and hashed, ledger parquet written and hashed. `tar` is its tar alone,
hashed. The peer is webdataset.ShardWriter(encoder=False, mtime=0): members passed through, no hash."""


WORDS = ("a", "red", "house", "beside", "calm", "water")


def samples(count: int, mean_bytes: int) -> list[tuple[Result, bytes]]:
    rng = random.Random(0)
    made = []
    for number in range(count):
        image = rng.randbytes(max(1000, int(rng.lognormvariate(0, 0.6) * mean_bytes * 0.835)))
        key = f"coco-{number:024x}"
        digest = hashlib.sha256(image).hexdigest()
        row: dict[str, Any] = {
            "key": key,
            "image": f"coco/train2017/{number:012d}.jpg",
            "image_file": f"{key}.jpg",
            "image_sha256": digest,
            "member_sha256": digest,
            "model": "internlm/CapRL-3B",
            "prompt_id": "detail",
            "caption": "The picture shows " + " ".join(rng.choices(WORDS, k=200)),
        }
        ledger = {
            "key": key,
            "index": number,
            "source": "coco",
            "image": row["image"],
            "status": "row",
            "reason": None,
            "detail": None,
            "attempt": 1,
            "earlier": [],
            "finish_reason": "stop",
            "prompt_tokens": 1300,
            "completion_tokens": 260,
            "latency_s": 4.2,
            "image_sha256": digest,
            "image_size": len(image),
        }
        made.append((Result(key, number, ledger, row), image))
    return made


def stage() -> CaptionStage:
    return CaptionStage(
        CaptionRecipe.model_validate(
            {
                "name": "bench",
                "sources": [{"name": "coco", "kind": "folder", "uri": "x"}],
                "model": {"name": "m"},
                "prompt": {"id": "detail", "text": "Describe."},
                "execution": {"output": "x", "engine": {"kind": "transformers"}},
            }
        )
    )


def main() -> None:
    arguments = options(__doc__).parse_args()
    count, rounds = (100, 2) if arguments.quick else (1000, 9)
    report = Report("packing", METHOD, quick=arguments.quick, packages=("webdataset", "pyarrow", "orjson"))
    made = samples(count, 150_000)
    images = {result.key: image for result, image in made}
    results = [result for result, _ in made]
    captions = stage()
    members = [(result.row["image_file"], image) for result, image in made if result.row is not None]
    ready = [
        {
            "__key__": result.key,
            "jpg": image,
            "json": encode_line(result.row),
            "txt": result.row["caption"].encode(),
        }
        for result, image in made
        if result.row is not None
    ]

    def ours(folder: Path) -> None:
        pack(results, lambda result: images[result.key], captions, folder)

    def tar_only(folder: Path) -> None:
        with (folder / "data.tar").open("wb", buffering=1 << 20) as file:
            out = HashingWriter(file)
            tar = DeterministicTar(out)
            for sample, (name, image) in zip(ready, members, strict=True):
                tar.add(name, image)
                tar.add(f"{sample['__key__']}.json", sample["json"])
                tar.add(f"{sample['__key__']}.txt", sample["txt"])
            tar.close()

    def peer(folder: Path) -> None:
        with webdataset.ShardWriter(
            f"{folder}/data-%06d.tar", maxcount=10**9, maxsize=10**15, encoder=False, mtime=0, verbose=0
        ) as writer:
            for sample in ready:
                writer.write(sample)

    def peer_hashed(folder: Path) -> None:
        peer(folder)
        with (folder / "data-000000.tar").open("rb") as file:
            hashlib.file_digest(file, "sha256")

    contestants = {
        "caprl pack (tar + JSONL + ledger, hashed)": ours,
        "caprl tar alone, hashed": tar_only,
        "webdataset.ShardWriter": peer,
        "webdataset.ShardWriter, then a sha256 pass": peer_hashed,
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, contestant in contestants.items():
            with tempfile.TemporaryDirectory(prefix="caprl-bench-") as folder:
                gc.collect()
                started = time.perf_counter()
                contestant(Path(folder))
                seconds = time.perf_counter() - started
                size = max(path.stat().st_size for path in Path(folder).iterdir())
            speeds[name].append(size / 1e6 / seconds)
    medians = {name: middle(values[1:]) for name, values in speeds.items()}  # the first round warms caches
    for name, value in medians.items():
        report.figure(name, value, "MB/s")
    base = medians["webdataset.ShardWriter"]
    report.require("pack / ShardWriter", medians["caprl pack (tar + JSONL + ledger, hashed)"] / base, least=1.0)
    report.figure("tar alone / ShardWriter", medians["caprl tar alone, hashed"] / base, "x")
    report.finish()


if __name__ == "__main__":
    main()
