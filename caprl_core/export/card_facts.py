"""What every card tells of a dataset: who captioned what with which words, and what became of every sample."""

from collections import Counter
from collections.abc import Iterable, Mapping

from caprl_core.errors import BadInputError
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


def size_category(rows: int) -> str:
    """The hub's word for a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "n>10M")


def model_facts(dataset: Dataset) -> list[tuple[str, str]]:
    """Captioner, prompt and sampling, as name and Markdown."""
    identity = dataset.record.identity
    model = identity["model"]
    return [
        ("Captioner", f"{code(model['name'])}, revision {model.get('revision') or 'not pinned'}"),
        ("Prompt", f"{code(identity['prompt']['id'])}: {code(identity['prompt']['text'])}"),
        ("Sampling", ", ".join(f"{name} {value:g}" for name, value in identity["sampling"].items())),
    ]


def source_lines(dataset: Dataset, licences: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, kind and licence of every source; a licence nobody stated is called that."""
    return [
        (
            code(source["name"]),
            source["kind"],
            code(licences[source["name"]]) if source["name"] in licences else "not stated",
        )
        for source in dataset.record.identity["sources"]
    ]


def refuse_unknown(dataset: Dataset, licences: Mapping[str, str]) -> None:
    """Raises `BadInputError` for the licence of a source that the dataset does not have."""
    sources = [source["name"] for source in dataset.record.identity["sources"]]
    if unknown := [name for name in licences if name not in sources]:
        raise BadInputError(
            f"--source-licence {unknown[0]}: no source of that name; this dataset has {', '.join(sources)}"
        )


def reason_lines(records: Iterable[CommitRecord]) -> list[tuple[str, str]]:
    """Reason and samples rejected for it, the most frequent first."""
    reasons: Counter[str] = Counter()
    for record in records:
        reasons.update(record.reasons)
    return [
        (code(reason), f"{count:,}") for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]


def table(header: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    rows = [header, ("---",) * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in rows)


def code(text: str) -> str:
    """Text of anybody's as inline code: nothing in it is Markdown, and a table's cell holds it."""
    flat = " ".join(text.split()).replace("|", "\\|")
    longest = max((len(run) for run in _runs(flat)), default=0)
    fence = "`" * (longest + 1)
    room = " " if longest else ""
    return f"{fence}{room}{flat}{room}{fence}" if flat else "(empty)"


def fenced(text: str) -> str:
    """Text of anybody's as a block: nothing in it is Markdown."""
    fence = "`" * max(3, 1 + max((len(run) for run in _runs(text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _runs(text: str) -> list[str]:
    """Every run of backticks."""
    return [run for run in "".join(character if character == "`" else " " for character in text).split() if run]
