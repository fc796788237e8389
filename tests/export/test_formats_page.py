"""Every Python snippet of docs/formats.md runs against a real dataset."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from caprl_core.captioning.stage import CaptionStage
from caprl_core.data.row import COMMON_FIELDS, LEDGER
from caprl_core.export.card import dataset_card
from caprl_core.shards.dataset import Dataset
from support.made_datasets import made

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("made")
    dataset = made(folder, str(folder / "dataset"))
    dataset.store.put("README.md", dataset_card(dataset, CaptionStage.fields).encode())
    return dataset


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(dataset: Dataset, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    code = SNIPPETS[number].replace("/data/caprl-2m", dataset.store.uri).replace("caprl-2m", dataset.record.name)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, f"snippet {number} of {PAGE.name}", "exec"), {"__name__": "snippet"})
    assert printed.getvalue().strip() and "False" not in printed.getvalue()


def test_the_page_names_every_column_of_rows_and_ledger() -> None:
    row, ledger = PAGE.read_text().split("## The row")[1].split("## The ledger")
    named = re.findall(r"`(\w+)`", row)
    assert [name for name in (*COMMON_FIELDS.names, *CaptionStage.fields.names) if name not in named] == []
    assert [name for name in LEDGER.names if name not in re.findall(r"`(\w+)`", ledger.split("## The commit")[0])] == []
