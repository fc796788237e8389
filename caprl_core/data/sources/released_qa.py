"""CapRL-QA-75K: parquet files of images with verified questions, as released."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from caprl_core.data.containers import PARQUET, base_folder, container_name, reference
from caprl_core.data.files.reader import Files
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import parquet
from caprl_core.data.sources.fields import bad_record, make_record
from caprl_core.data.sources.hf_parquet import image_column
from caprl_core.data.sources.payloads import with_payload
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import SourceRecipe

REWARD, TRUTH = "reward_model", "ground_truth"


class ReleasedQa:
    """One record a row, its image referred to as `<file>#<row>` and not read; the payload is `questions`, the row's
    ground truth: a list of `question`, `choices` and `answer`, stored as such or as JSON text."""

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """Rows of all files in order."""
        source = self._source
        base = base_folder(source.uri, PARQUET)
        ordinal = 0
        for uri in self._files.expand(source.uri, PARQUET):
            container = container_name(base, uri)
            with parquet.opened(self._files, uri) as table:
                schema = table.schema_arrow
                image_column(schema, uri, source.image_field)  # wrong files are told of before the run
                record_id = source.id_field or "id"
                columns = [_required(schema, uri, record_id), _truth_column(schema, uri)]
                for number, row in enumerate(parquet.rows(table, columns)):
                    where = f"{uri}: row {number}"
                    yield _record(ordinal, reference(container, number), row[record_id], row[REWARD], where)
                    ordinal += 1


def _record(ordinal: int, image: str, record_id: Any, reward: Any, where: str) -> SourceRecord:
    try:
        reward = _parsed(reward)
        questions = _parsed(reward.get(TRUTH)) if isinstance(reward, dict) else None
    except (ValueError, RecursionError) as error:
        return bad_record(ordinal, f"{where}: `{REWARD}` is not JSON ({error})")
    if not isinstance(questions, list):
        return bad_record(ordinal, f"{where}: `{REWARD}.{TRUTH}` is no list of questions")
    record = make_record(ordinal, image=image, record_id=record_id, where=where)
    return with_payload(record, {"questions": questions}, where)


def _parsed(value: Any) -> Any:
    """JSON text as what it says, anything else as it is. Data are never evaluated, whatever they look like."""
    return json.loads(value) if isinstance(value, str) else value


def _required(schema: pa.Schema, uri: str, name: str) -> str:
    if name not in schema.names:
        raise BadInputError(f"{uri}: no column `{name}`; it has {', '.join(schema.names)}")
    return name


def _truth_column(schema: pa.Schema, uri: str) -> str:
    """The column to read: of a struct only the ground truth, beside which there may be anything."""
    kind = schema.field(_required(schema, uri, REWARD)).type
    if not pa.types.is_struct(kind):
        return REWARD
    if kind.get_field_index(TRUTH) < 0:
        names = ", ".join(field.name for field in kind.fields)
        raise BadInputError(f"{uri}: no field `{TRUTH}` in column `{REWARD}`; it has {names}")
    return f"{REWARD}.{TRUTH}"
