"""Arrow types of the columns that the two Prism stages add to their rows: the contract between them and the results."""

import pyarrow as pa

CAPTION = pa.struct(
    [
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string()),  # "stop", "length" (cut at max_tokens), …; null for captions of a file
        pa.field("tokens", pa.int32()),  # of the captioner; null for captions of a file
    ]
)
"""One caption of an image."""

QUESTION = [
    pa.field("id", pa.string(), nullable=False),  # unique within the benchmark
    pa.field("text", pa.string(), nullable=False),
    pa.field("options", pa.list_(pa.string()), nullable=False),
    pa.field("answers", pa.list_(pa.string()), nullable=False),
    pa.field("system", pa.string()),
]
"""`question.BenchmarkQuestion`."""

REPLY = pa.struct(
    [
        pa.field("reply", pa.string(), nullable=False),  # the judge's whole reply; empty if the request failed
        pa.field("finish_reason", pa.string()),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("failure", pa.string()),  # the request failed: neither right nor wrong, counted apart
    ]
)
"""What the judge said of one question, told one caption."""

CAPTION_FIELDS = pa.schema(
    [
        pa.field("captions", pa.list_(CAPTION), nullable=False),
        pa.field("questions", pa.list_(pa.struct(QUESTION)), nullable=False),
    ]
)
"""Caption: every caption as it came; none is refused for its text, as a bad caption is what is being measured."""

JUDGE_FIELDS = pa.schema(
    [
        pa.field("benchmark", pa.string(), nullable=False),  # the `source` of the captions' row
        pa.field("captions", pa.list_(CAPTION), nullable=False),
        pa.field(
            "questions",
            # replies: one for each caption, in their order
            pa.list_(pa.struct([*QUESTION, pa.field("replies", pa.list_(REPLY), nullable=False)])),
            nullable=False,
        ),
        pa.field("captioner", pa.string()),  # model of the captions; null for captions of a file
        pa.field("captioner_revision", pa.string()),
    ]
)
"""Judge: every reply to every question, so that scores can be changed without asking a model again. `model`,
`temperature`, `prompt_id` and the like of such a row are the judge's."""
