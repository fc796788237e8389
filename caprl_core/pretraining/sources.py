"""The two models a starting checkpoint is made of: a folder here, or a model of the hub of which single files come."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from caprl_core.errors import BadInputError


@dataclass(frozen=True, eq=False)
class ModelSource:
    """The files of one model, all of one revision.

    name: hub id, or the name of a folder here without the path to it, which is this machine's affair. revision: the
    hub's commit; None for a folder. names: of all files. shown: how messages call it.
    """

    name: str
    revision: str | None
    names: frozenset[str]
    shown: str
    _fetch: Callable[[str], Path]

    @classmethod
    def open(cls, given: str, revision: str | None = None) -> Self:
        """A folder of that path, else a model of the hub at `revision` (branch, tag or commit; None: its main branch).

        Raises `BadInputError` when it is neither, or the hub does not answer.
        """
        folder = Path(given)
        if folder.is_dir():
            if revision is not None:
                raise BadInputError(
                    f"{given}: a folder has no revision {revision!r}; leave it out, or name a hub model"
                )
            names = frozenset(path.name for path in folder.iterdir() if path.is_file())
            return cls(folder.resolve().name, None, names, given, lambda name: folder / name)
        return cls._of_hub(given, revision)

    @classmethod
    def _of_hub(cls, given: str, revision: str | None) -> Self:
        from huggingface_hub import HfApi, hf_hub_download  # noqa: PLC0415 - half a second to import

        try:
            known = HfApi().model_info(given, revision=revision)
        except Exception as error:  # the hub's client lets its HTTP library's errors through, whichever that is
            raise BadInputError(
                f"{given}: no such folder, and the hub does not give it either: {error}; "
                "where the hub cannot be reached, download it elsewhere and name its folder"
            ) from error
        commit = str(known.sha)

        def fetch(name: str) -> Path:
            try:
                return Path(hf_hub_download(given, name, revision=commit))
            except Exception as error:
                raise BadInputError(f"{given}: the hub does not give {name}: {error}") from error

        names = frozenset(file.rfilename for file in known.siblings or ())
        return cls(given, commit, names, f"{given}@{commit[:12]}", fetch)

    def file(self, name: str) -> Path:
        """Where a file lies here, fetched if need be. Raises `BadInputError` when there is none of that name."""
        if name not in self.names:
            raise BadInputError(f"{self.shown}: there is no {name} in it")
        return self._fetch(name)

    def json(self, name: str) -> dict[str, Any]:
        """A file's JSON object. Raises `BadInputError` when it is none."""
        path = self.file(name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadInputError(f"{self.shown}: {name} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise BadInputError(f"{self.shown}: {name} is not a JSON object")
        return value
