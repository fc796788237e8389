"""Write a synthetic file in the ShareGPT4V format, streaming: 1,246,000 records of about 1.2 kB make 1.5 GB.

python bench/sharegpt4v_file.py OUT.json [--records 1246000]
"""

import argparse
import json
import random
from pathlib import Path

RECORDS = 1_246_000  # share-captioner_coco_lcs_sam_1246k_1107.json
CAPTION_CHARACTERS = 980  # 1.2 kB a record with the rest of it, as in the real file

# The three image roots of the real file in their shares: 558k of LCS, 118k of COCO, the rest of SA-1B.
FOLDERS = (("llava/llava_pretrain/images", 558), ("coco/train2017", 118), ("sam/images", 570))
PHRASES = (
    "the image shows a small red house",
    "beside calm water under low grey clouds",
    "two people walk along a stone path",
    "warm evening light catches the leaves",
    "while “distant” hills fade into blue mist",
    "a sign in the foreground reads “1,246 m”",
)


def phrases(rng: random.Random, characters: int = 2**20) -> str:
    """A long text to cut captions from: drawing each word anew would take longer than writing the file."""
    return ", ".join(rng.choice(PHRASES) for _ in range(characters // 35))


def record(number: int, rng: random.Random, text: str) -> dict[str, object]:
    """One record; image paths are unique over the file."""
    folder = rng.choices([name for name, _ in FOLDERS], [share for _, share in FOLDERS])[0]
    start = rng.randrange(len(text) - 4000)
    caption = text[start : start + max(80, int(rng.gauss(CAPTION_CHARACTERS, 150)))]
    return {
        "id": f"{number:012d}",
        "image": f"{folder}/{number // 1000:05d}/{number:012d}.jpg",
        "conversations": [
            {"from": "human", "value": "Describe this image in detail.\n<image>"},
            {"from": "gpt", "value": caption},
        ],
    }


def write(path: Path, records: int, seed: int = 0) -> None:
    """Write `records` records to `path`, one at a time."""
    rng = random.Random(seed)
    text = phrases(rng)
    with path.open("w", encoding="utf-8") as file:
        for number in range(records):
            file.write("[\n" if number == 0 else ",\n")
            file.write(json.dumps(record(number, rng, text), ensure_ascii=False))
        file.write("\n]\n" if records else "[]\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--records", type=int, default=RECORDS)
    arguments = parser.parse_args()
    write(arguments.out, arguments.records)
    print(f"{arguments.out}: {arguments.records:,} records, {arguments.out.stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
