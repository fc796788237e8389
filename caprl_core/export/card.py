"""The dataset card: a README.md whose front matter tells `datasets` what the files are, so that
`load_dataset(folder)` works without further arguments.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import yaml

from caprl_core.errors import BadInputError
from caprl_core.export.features import features_yaml
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import CommitRecord

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""The hub's size categories, by rows below."""


def dataset_card(dataset: Dataset, stage_fields: pa.Schema, *, licence: str | None = None) -> str:
    """The card of what is committed now; write it as README.md beside `shards/`.

    `licence` is the hub's identifier of the captions' and images' terms, for example `cc-by-nc-4.0`: it depends on the
    sources, so there is no default. A revision committed later needs a new card. Raises `BadInputError` for a dataset
    of a stage on the way to something else, which is not what one publishes.
    """
    if dataset.record.stage != "caption":
        raise BadInputError(f"{dataset.store.uri}: a card is for captions; these are rows of {dataset.record.stage!r}")
    current = current_commits(dataset)
    rows = sum(record.rows for record in current.records)
    header: dict[str, Any] = {"license": licence} if licence else {}
    header |= {
        "pretty_name": dataset.record.name,
        "task_categories": ["image-to-text"],
        "tags": ["webdataset", "caprl"],
        "size_categories": [next((name for limit, name in SIZES if rows < limit), "n>10M")],
        # One configuration only: `datasets` reads all of a folder with the same reader, here that of tars.
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": _tars(current.records, dataset.record.name)}],
            }
        ],
        "dataset_info": {"features": features_yaml(stage_fields)},
    }
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n\n{_text(dataset, current.records, rows, current.pending)}"


def _tars(records: Sequence[CommitRecord], name: str) -> list[str]:
    """One pattern while no shard was revised, else every file by name: a superseded revision is never read."""
    if all(record.revision == 0 and record.shard < 1_000_000 for record in records):
        return [f"shards/{name}-{'[0-9]' * 6}.tar"]
    return [record.object("tar").final_key for record in records]


def _text(dataset: Dataset, records: Sequence[CommitRecord], rows: int, pending: int) -> str:
    identity = dataset.record.identity
    rejected = sum(record.rejected for record in records)
    facts = [
        ("Captioner", f"`{identity['model']['name']}`, revision {identity['model'].get('revision') or 'not pinned'}"),
        ("Prompt", f"`{identity['prompt']['id']}`: {identity['prompt']['text']!r}"),
        ("Sampling", ", ".join(f"{name} {value:g}" for name, value in identity["sampling"].items())),
        ("Sources", ", ".join(f"`{source['name']}` ({source['kind']})" for source in identity["sources"])),
        ("Samples", f"{dataset.record.samples:,} planned: {rows:,} rows, {rejected:,} rejected, {pending:,} pending"),
        ("Shards", f"{len(records):,} of {dataset.record.shards:,} committed"),
        ("Fingerprint", f"`{dataset.record.fingerprint}`"),
    ]
    lines = "\n".join(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in facts)
    return f"""# {dataset.record.name}

| | |
|---|---|
{lines}

Every sample of a shard is three tar members: the image (original bytes), `.json` (the row) and `.txt` (the caption).
Rejected samples and their reasons are in `shards/*.ledger.parquet`.

```python
from datasets import load_dataset

images_and_captions = load_dataset("PATH_OF_THIS_FOLDER", split="train", streaming=True)
rows_only = load_dataset("json", data_files="PATH_OF_THIS_FOLDER/shards/*.jsonl", split="train")
```
"""
