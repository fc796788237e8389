"""Arrow types of the columns that the stages of the curation add to their rows: the contract between them."""

import pyarrow as pa

BLOCK_FIELDS = pa.schema([pa.field("block", pa.string(), nullable=False)])
"""Generate: the writer's whole reply."""

WRITER = pa.struct(
    [
        pa.field("model", pa.string()),
        pa.field("revision", pa.string()),
        pa.field("engine", pa.string()),
        pa.field("engine_version", pa.string()),
        pa.field("prompt_id", pa.string()),
        pa.field("attempt", pa.int32()),
    ]
)
"""Who wrote a block; all null for imported ones."""

_QUESTION = [
    pa.field("id", pa.string(), nullable=False),  # question.question_id
    pa.field("stem", pa.string(), nullable=False),
    pa.field("options", pa.list_(pa.string()), nullable=False),  # stored order, without letters
    pa.field("answer", pa.string(), nullable=False),  # letter in the stored order
]

QUESTION_FIELDS = pa.schema(
    [
        pa.field("questions", pa.list_(pa.struct(_QUESTION)), nullable=False),
        pa.field(
            "refused",
            pa.list_(
                pa.struct(
                    [
                        pa.field("number", pa.int32(), nullable=False),  # 1-based place in the block
                        pa.field("reason", pa.string(), nullable=False),  # QuestionReason
                        pa.field("detail", pa.string(), nullable=False),
                        pa.field(
                            "text", pa.string(), nullable=False
                        ),  # the piece of the block, at most 2,000 characters
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field("writer", WRITER, nullable=False),
    ]
)
"""Extract: what was taken over and what was not; a block with no usable question is a row with `questions` empty."""

VOTE = pa.struct(
    [
        pa.field("order", pa.string(), nullable=False),  # "CADB" shows stored option C as (A); "-" is the extra one
        pa.field("letter", pa.string()),  # the letter read from the reply, as presented; null if none could be read
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("reply", pa.string(), nullable=False),
        pa.field("gold_p", pa.float64()),  # logprob mode: probability of the gold letter among the letters offered
        pa.field("failure", pa.string()),  # the request failed; such a vote counts neither for nor against
    ]
)
"""One reply to one rotation of one question."""

ANSWER_FIELDS = pa.schema(
    [
        pa.field(
            "questions",
            pa.list_(
                pa.struct(
                    [
                        *_QUESTION,
                        pa.field("visual", pa.list_(VOTE), nullable=False),  # with the image
                        pa.field("text", pa.list_(VOTE), nullable=False),  # without it
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field("writer", WRITER, nullable=False),
    ]
)
"""Answer: every question with every reply, so that thresholds can be changed without asking a model again."""
