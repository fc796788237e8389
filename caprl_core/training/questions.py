"""Questions with their pictures, taken from parquet once, checked, and kept beside the run for random access."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from caprl_core.errors import BadInputError
from caprl_core.qa.question import Question, question_fields, question_id, question_of
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.reward.questions import read_questions
from caprl_core.training.picture_rows import Rows, picture_rows

_PICTURES = pa.schema([pa.field("key", pa.string()), pa.field("picture", pa.binary())])


@dataclass(frozen=True, slots=True)
class TaughtSet:
    """Pictures and the questions about them.

    uri:       where they came from.
    arrow:     local Arrow stream of (key, picture), the files' own bytes, in order.
    questions: by key.
    pictures:  sha256 of each picture's file by key.
    digest:    sha256 of keys, pictures and questions; equal for equal content wherever it lies.
    refused:   what could not be used, with the reason, the first hundred.
    """

    uri: str
    arrow: Path
    questions: Mapping[str, tuple[Question, ...]]
    pictures: Mapping[str, str]
    digest: str
    refused: tuple[str, ...]

    def summary(self) -> dict[str, object]:
        """As recorded with the run."""
        return {
            "uri": self.uri,
            "images": len(self.questions),
            "questions": sum(map(len, self.questions.values())),
            "sha256": self.digest,
            "refused": list(self.refused),
        }


def taught_sets(recipe: TrainingRecipe, folder: Path) -> tuple[TaughtSet, TaughtSet]:
    """The training set and the held-out set, kept below `folder`: made once, found again by later calls.

    Found again means as it was made, whatever became of its source since: a resumed run goes on with the same set.
    Raises `BadInputError` when there are no questions with pictures, or a picture is in both sets.
    """
    questions = recipe.questions
    everything = _kept(recipe, questions.train, folder / "train")
    if questions.held_out is not None:
        held_out = _kept(recipe, questions.held_out, folder / "held_out")
        if len(held_out.questions) > questions.pictures:
            held_out = _part(held_out, _drawn(held_out.questions, questions.pictures), folder / "held_out-part")
        _refuse_shared_pictures(everything, held_out)
        return everything, held_out
    apart = set(_drawn(everything.questions, min(questions.pictures, len(everything.questions) // 2)))
    shown = {everything.pictures[key] for key in apart}
    # A picture that is there twice, under two keys, is held out with both.
    apart |= {key for key, picture in everything.pictures.items() if picture in shown}
    rest = everything.questions.keys() - apart
    if not apart or not rest:
        raise BadInputError(f"{questions.train}: one picture alone cannot be divided; name `questions.held_out`")
    return _part(everything, rest, folder / "train-part"), _part(everything, apart, folder / "held_out-part")


def _refuse_shared_pictures(train: TaughtSet, held_out: TaughtSet) -> None:
    pictures = set(train.pictures.values())
    shared = [key for key, one in held_out.pictures.items() if key in train.questions or one in pictures]
    if shared:
        raise BadInputError(
            f"{held_out.uri}: {len(shared)} of its pictures are in {train.uri}, too, by key or by content, such as "
            f"{min(shared)}; a held-out picture must not be trained on"
        )


def _drawn(keys: Collection[str], count: int) -> list[str]:
    """`count` keys, decided by the keys alone."""
    return sorted(keys, key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest())[:count]


def _kept(recipe: TrainingRecipe, uri: str, folder: Path) -> TaughtSet:
    """The set at `uri`."""
    if (known := _found_again(uri, folder, made_of=uri)) is not None:
        return known
    bank = read_questions(uri, recipe.execution.storage)
    refused = [f"{one.where}: {one.reason}" for one in bank.refused]
    return _written(uri, folder, picture_rows(recipe, uri, bank, refused), bank, refused, made_of=uri)


def _part(whole: TaughtSet, keys: Collection[str], folder: Path) -> TaughtSet:
    """The rows of these keys as a set of its own."""
    made_of = hashlib.sha256(json.dumps([whole.digest, sorted(keys)]).encode()).hexdigest()
    if (known := _found_again(whole.uri, folder, made_of)) is not None:
        return known
    with pa.memory_map(str(whole.arrow)) as file, pa.ipc.open_stream(file) as stream:
        rows = (
            (key.as_py(), picture.as_py())
            for batch in stream
            for key, picture in zip(batch.column(0), batch.column(1), strict=True)
            if key.as_py() in keys
        )
        return _written(whole.uri, folder, rows, whole.questions, whole.refused, made_of=made_of)


def _found_again(uri: str, folder: Path, made_of: str) -> TaughtSet | None:
    """The set kept in `folder`, if it was made of the same. Never written again: other processes may have it mapped."""
    record = folder / "set.json"
    if not record.exists():
        return None
    known = json.loads(record.read_text("utf-8"))
    if known["made_of"] != made_of:
        return None
    questions = {key: tuple(map(question_of, some)) for key, some in known["questions"].items()}
    refused = tuple(known["refused"])
    return TaughtSet(uri, folder / "pictures.arrow", questions, known["pictures"], known["digest"], refused)


def _written(
    uri: str,
    folder: Path,
    rows: Rows,
    questions: Mapping[str, tuple[Question, ...]],
    refused: Collection[str],
    *,
    made_of: str,
) -> TaughtSet:
    """Write pictures and questions; the record comes last, so a folder that has one is whole.

    `refused` may grow while the rows are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "set.json").unlink(missing_ok=True)
    digest = hashlib.sha256()
    taken: dict[str, tuple[Question, ...]] = {}
    pictures: dict[str, str] = {}
    with pa.OSFile(str(folder / "pictures.arrow"), "wb") as file, pa.ipc.new_stream(file, _PICTURES) as stream:
        for key, picture in rows:
            taken[key] = questions[key]
            pictures[key] = hashlib.sha256(picture).hexdigest()
            ids = [question_id(key, question) for question in taken[key]]
            digest.update(json.dumps([key, pictures[key], ids]).encode())
            stream.write_batch(pa.record_batch([[key], [picture]], schema=_PICTURES))
    some_refused = tuple(refused)[:100]
    if not taken:
        first = f"; the first that could not be used: {some_refused[0]}" if some_refused else ""
        raise BadInputError(f"{uri}: no picture with questions{first}")
    found = TaughtSet(uri, folder / "pictures.arrow", taken, pictures, digest.hexdigest(), some_refused)
    stored = {key: [question_fields(question) for question in some] for key, some in taken.items()}
    record = {
        "made_of": made_of,
        "digest": found.digest,
        "refused": some_refused,
        "pictures": pictures,
        "questions": stored,
    }
    partial = folder / "set.partial"
    partial.write_text(json.dumps(record), "utf-8")
    partial.replace(folder / "set.json")
    return found
