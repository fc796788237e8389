"""The dataset card: a README.md whose front matter tells `datasets` what the files are, so that
`load_dataset(folder)` works without further arguments.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from caprl_core.errors import BadInputError
from caprl_core.export.card_facts import (
    code,
    model_facts,
    reason_lines,
    refuse_unknown,
    size_category,
    source_lines,
    table,
)
from caprl_core.export.features import features_yaml
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import CommitRecord


def dataset_card(
    dataset: Dataset,
    stage_fields: pa.Schema,
    *,
    licence: str | None = None,
    source_licences: Mapping[str, str] | None = None,
) -> str:
    """The card of what is committed now; write it as README.md beside `shards/`.

    `licence` is the hub's identifier of the captions' and images' terms, for example `cc-by-nc-4.0`: it depends on the
    sources, so there is no default; `source_licences` are those of the sources by name. A revision committed later
    needs a new card. Raises `BadInputError` for a dataset of a stage on the way to something else, which is not what
    one publishes.
    """
    if dataset.record.stage != "caption":
        raise BadInputError(f"{dataset.store.uri}: a card is for captions; these are rows of {dataset.record.stage!r}")
    refuse_unknown(dataset, source_licences or {})
    current = current_commits(dataset)
    rows = sum(record.rows for record in current.records)
    header: dict[str, Any] = {"license": licence} if licence else {}
    header |= {
        "pretty_name": dataset.record.name,
        "task_categories": ["image-to-text"],
        "tags": ["webdataset", "caprl"],
        "size_categories": [size_category(rows)],
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
    return f"---\n{front}---\n\n{_text(dataset, current.records, rows, current.pending, source_licences or {})}"


def _tars(records: Sequence[CommitRecord], name: str) -> list[str]:
    """One pattern while no shard was revised, else every file by name: a superseded revision is never read."""
    if all(record.revision == 0 and record.shard < 1_000_000 for record in records):
        return [f"shards/{name}-{'[0-9]' * 6}.tar"]
    return [record.object("tar").final_key for record in records]


def _text(
    dataset: Dataset, records: Sequence[CommitRecord], rows: int, pending: int, licences: Mapping[str, str]
) -> str:
    rejected = sum(record.rejected for record in records)
    facts = [
        *model_facts(dataset),
        ("Samples", f"{dataset.record.samples:,} planned: {rows:,} rows, {rejected:,} rejected, {pending:,} pending"),
        ("Shards", f"{len(records):,} of {dataset.record.shards:,} committed"),
        ("Fingerprint", code(dataset.record.fingerprint)),
    ]
    reasons = reason_lines(records)
    return f"""# {dataset.record.name}

{table(("", ""), facts)}

{table(("source", "kind", "licence"), source_lines(dataset, licences))}

{table(("rejected because", "samples"), reasons) if reasons else "No sample was rejected."}

Every sample of a shard is three tar members: the image (original bytes), `.json` (the row) and `.txt` (the caption).
Rejected samples and their reasons are in `shards/*.ledger.parquet`.

```python
from datasets import load_dataset

images_and_captions = load_dataset("PATH_OF_THIS_FOLDER", split="train", streaming=True)
rows_only = load_dataset("json", data_files="PATH_OF_THIS_FOLDER/shards/*.jsonl", split="train")
```
"""
