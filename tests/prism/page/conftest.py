"""What the page of a run may hold that other pages do not: buttons without a script."""

import pytest

from support import page_reader


@pytest.fixture(autouse=True)
def buttons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Radio buttons and their labels are elements of ours on this page."""
    monkeypatch.setattr(page_reader, "ALLOWED", page_reader.ALLOWED | {"input", "label", "fieldset", "legend"})
