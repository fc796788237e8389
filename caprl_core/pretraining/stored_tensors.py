"""Where each tensor of a model lies: file, place, shape. Only headers are read, and only of files that are needed."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from caprl_core.errors import BadInputError
from caprl_core.pretraining.sources import ModelSource

WEIGHTS: Final = "model.safetensors"
INDEX: Final = f"{WEIGHTS}.index.json"
"""Names that transformers gives them; it looks for the first first."""
DTYPES: Final = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Data types of weights: torch's names, and those in safetensors' headers."""


class StoredTensor(NamedTuple):
    """A tensor on disk. name: canonical (see `part_names`); file: path; start: its first byte in the file; length: in
    bytes; dtype: torch's name; shape: of the tensor; stored_as: its name in the file."""

    name: str
    file: Path
    start: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    stored_as: str


def stored_tensors(source: ModelSource, canonical: Callable[[str], str | None]) -> dict[str, StoredTensor]:
    """The tensors that `canonical` gives a name to, by that name, in the order they lie on disk.

    Of a model in several files, those without such a tensor are not fetched. Raises `BadInputError` for weights in
    another format (a pickle is never read), damaged or missing files, quantised tensors, and one name for two tensors.
    """
    found: dict[str, StoredTensor] = {}
    for file, wanted in sorted(_files(source, canonical).items()):
        tensors = list(_read_header(source, file, canonical))
        if wanted and (lost := set(wanted) - {one.stored_as for one in tensors}):
            raise BadInputError(f"{source.shown}: {INDEX} says {file} holds {min(lost)}, and it does not")
        for one in sorted(tensors, key=lambda tensor: tensor.start):
            if wanted is not None and one.stored_as not in wanted:
                continue  # the index sends its readers to another file for it
            if one.name in found:
                raise BadInputError(
                    f"{source.shown}: {found[one.name].stored_as} and {one.stored_as} are the same tensor"
                )
            found[one.name] = one
    return found


def _files(source: ModelSource, canonical: Callable[[str], str | None]) -> dict[str, tuple[str, ...] | None]:
    """Weight files with the stored names that are wanted of each; None: whatever is in it."""
    if WEIGHTS in source.names:
        return {WEIGHTS: None}
    if INDEX not in source.names:
        others = sorted(name for name in source.names if name.endswith((".bin", ".pt", ".pth", ".gguf")))
        hint = f"; {others[0]} is not read: convert it to safetensors" if others else ""
        raise BadInputError(f"{source.shown}: there is neither {WEIGHTS} nor {INDEX} in it{hint}")
    places = source.json(INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise BadInputError(f"{source.shown}: {INDEX} has no weight_map of names to files")
    wanted: dict[str, list[str]] = {}
    for name, file in places.items():
        if PurePosixPath(file).name != file or not file.endswith(".safetensors"):
            raise BadInputError(
                f"{source.shown}: {INDEX} sends {name} to {file!r}, which is no safetensors file beside it"
            )
        if canonical(name) is not None:
            wanted.setdefault(file, []).append(name)
    return {file: tuple(names) for file, names in wanted.items()}


def _read_header(source: ModelSource, file: str, canonical: Callable[[str], str | None]) -> Iterable[StoredTensor]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    path = source.file(file)
    try:
        # The format's own reader insists on everything its specification says: sizes, places without holes, the length
        # of the file. It does not tell the places, but they can be relied on after it.
        with safe_open(path, framework="numpy"), path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header: dict[str, Any] = json.loads(opened.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInputError(f"{source.shown}: {file} is not a whole safetensors file: {error}") from error
    names = {stored: dtype for dtype, stored in DTYPES.items()}
    for stored_as, one in header.items():
        name = None if stored_as == "__metadata__" else canonical(stored_as)
        if name is None:
            continue
        if one["dtype"] not in names:
            raise BadInputError(
                f"{source.shown}: {stored_as} is {one['dtype']}, not one of {', '.join(names)}; "
                "take the model as it was before it was quantised"
            )
        start, end = one["data_offsets"]
        yield StoredTensor(
            name, path, 8 + length + start, end - start, names[one["dtype"]], tuple(one["shape"]), stored_as
        )
