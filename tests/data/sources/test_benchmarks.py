"""Benchmarks in each form, and files of captions beside them: what is read, and which row is to blame."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import open_source
from caprl_core.data.sources.benchmark_forms import LETTERS, captionqa, plain, released
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import SourceRecipe, StorageExecution

CHAT = (
    "<|im_start|>system\nThink in tags.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
    "How many bars?\nA. two\nB. three<|im_end|>\n<|im_start|>assistant\n"
)


def messages(*paths: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [*({"type": "image", "image": p} for p in paths), {"type": "text", "text": "?"}]}
    ]


def read(form: str, uri: str, **fields: Any) -> list[SourceRecord]:
    source = SourceRecipe.model_validate({"name": "bench", "kind": f"benchmark_{form}", "uri": uri, **fields})
    return list(open_source(source, StorageExecution()).records())


def payload(record: SourceRecord) -> dict[str, Any]:
    assert record.problem is None, record.problem
    return dict(json.loads(record.payload or ""))


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# The released files


def test_a_released_prompt_is_taken_apart_and_its_image_tokens_are_gone(place):
    uri = place.put("chart.json", json.dumps([{"image": messages("a/1.png"), "prompt": CHAT, "answer": "B"}]).encode())
    (record,) = read("released", uri)
    assert record.image == "a/1.png"
    assert payload(record)["questions"] == [
        {
            "id": "row-0",
            "text": "How many bars?\nA. two\nB. three",
            "options": [],
            "answers": ["B"],
            "system": "Think in tags.",
        }
    ]


def test_questions_about_one_image_are_one_record_in_the_order_of_the_file(place):
    rows = [
        {"image": messages(image), "prompt": f"<image>\nQuestion {number}", "answer": number, "id": f"q{number}"}
        for number, image in enumerate(["b.png", "a.png", "b.png"])
    ]
    records = read("released", place.put("bench.jsonl", lines(*rows)))
    assert [record.image for record in records] == ["b.png", "a.png"]
    found = [[(one["id"], one["text"], one["answers"]) for one in payload(r)["questions"]] for r in records]
    assert found == [[("q0", "Question 0", ["0"]), ("q2", "Question 2", ["2"])], [("q1", "Question 1", ["1"])]]


@pytest.mark.parametrize(
    "image",
    ["/mnt/x/bench/a.png", "file:///mnt/x/bench/a.png", ["/mnt/x/bench/a.png"], messages("/mnt/x/bench/a.png")],
)
def test_absolute_paths_lose_their_slash_so_that_a_root_may_name_their_beginning(place, image):
    (record,) = read("released", place.put("b.jsonl", lines({"image": image, "prompt": "x?", "answer": "1"})))
    assert record.image == "mnt/x/bench/a.png"


def test_a_question_about_two_images_is_accounted_for_and_not_asked(place):
    row = {"image": messages("a.png", "b.png"), "prompt": "Which is older?", "answer": "A"}
    (record,) = read("released", place.put("b.jsonl", lines(row)))
    assert record.problem is not None
    assert "2 images" in record.problem


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"prompt": None}, "`prompt` is no text"),
        ({"prompt": "<|im_start|>system\nx<|im_end|>"}, "0 turns of a user"),
        ({"prompt": CHAT + CHAT}, "2 turns of a user"),
        ({"prompt": "<|vision_start|><|image_pad|><|vision_end|>"}, "the question is empty"),
        ({"prompt": "What <|box_start|> is it?"}, "chat token <|box_start|>"),
        ({"answer": None}, "an answer is missing"),
        ({"answer": []}, "there is no answer"),
        ({"answer": ["a", ""]}, "there is no answer"),
        ({"answer": {"eval": "1"}}, "an answer is a dict"),
        ({"image": None}, "`image` names no image"),
        ({"image": [{"type": "text", "text": "a.png"}]}, "`image` names no image"),
    ],
)
def test_a_row_that_is_no_question_is_named(place, change, wrong):
    good = {"image": messages("a.png"), "prompt": CHAT, "answer": "B"}
    uri = place.put("bench.jsonl", lines(good, good | change))
    with pytest.raises(BadInputError) as error:
        read("released", uri)
    assert "bench.jsonl: line 2" in str(error.value)
    assert wrong in str(error.value)


# The plain form


@pytest.mark.parametrize(
    ("options", "answer", "answers"),
    [
        (None, "a dog", ["a dog"]),
        (None, ["a dog", "dog"], ["a dog", "dog"]),
        (None, 3.5, ["3.5"]),
        (["red", "blue"], "B", ["B"]),
        (["red", "blue"], "(b)", ["B"]),
        (["red", "blue"], "blue", ["B"]),
        (["A", "B"], "B", ["B"]),
        ([1, 2, 3], "3", ["C"]),
        ([1, 2, 3], 3, ["C"]),
    ],
)
def test_plain_questions_open_or_with_options(place, options, answer, answers):
    row = {"image": "a.png", "question": "What?", "answer": answer} | ({"options": options} if options else {})
    (record,) = read("questions", place.put("b.jsonl", lines(row)))
    (question,) = payload(record)["questions"]
    assert question["answers"] == answers
    assert question["options"] == [str(option) for option in options or ()]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"answer": "C"}, "neither a letter of the 2 options nor one's text"),
        ({"answer": "green"}, "neither a letter"),
        ({"options": ["red"]}, "1 options"),
        ({"options": ["red", "red"]}, "the same text"),
        ({"options": list("abcdefghijk")}, "11 options"),
        ({"options": "red blue"}, "`options` is no list"),
        ({"options": ["red", None]}, "an option is missing"),
        ({"question": 7}, "`question` is no text"),
    ],
)
def test_a_plain_question_that_cannot_be_scored_is_named(place, change, wrong):
    row = {"image": "a.png", "question": "What?", "options": ["red", "blue"], "answer": "A"} | change
    with pytest.raises(BadInputError, match=wrong):
        read("questions", place.put("b.jsonl", lines(row)))


def test_ids_are_unique_even_where_the_file_repeats_them(place):
    rows = [{"id": "1", "image": "a.png", "question": f"{n}?", "answer": "x"} for n in range(3)]
    (record,) = read("questions", place.put("b.jsonl", lines(*rows)))
    assert [one["id"] for one in payload(record)["questions"]] == ["1", "row-1", "row-2"]


def test_limit_counts_images(place):
    rows = [{"image": f"{n // 2}.png", "question": f"{n}?", "answer": "x"} for n in range(6)]
    records = read("questions", place.put("b.jsonl", lines(*rows)), limit=2)
    assert [len(payload(record)["questions"]) for record in records] == [2, 2]


# CaptionQA


def test_captionqa_choices_are_in_a_drawn_order_that_stays(place):
    asked = [{"question": f"What {n}?", "choices": ["red", "blue", "green"], "answer": "A"} for n in range(12)]
    uri = place.put("captionqa.jsonl", lines({"id": "nat_001", "image": "nat_001.png", "questions": asked}))
    (record,), (again,) = read("captionqa", uri), read("captionqa", uri)
    assert record == again
    assert record.record_id == "nat_001"
    questions = payload(record)["questions"]
    assert {one["options"][LETTERS.index(one["answers"][0])] for one in questions} == {"red"}
    assert len({one["answers"][0] for one in questions}) == 3, "the gold stands in every place"


# Captions of a file

ROWS = [{"id": f"n{n}", "image": f"folder/{n}.png", "question": "What?", "answer": "x"} for n in range(3)]


@pytest.mark.parametrize(
    ("match", "content"),
    [
        ("path", [{"image": "folder/1.png", "caption": "one"}, {"image": "other.png", "caption": "z"}]),
        ("path", [{"image": "/folder/1.png", "captions": ["one"]}]),
        ("name", [{"image": "elsewhere/1.png", "caption": "one"}]),
        ("stem", [{"image": "1.webp", "text": "one"}]),
        ("stem", {"1": "one", "99": "z"}),
        ("id", {"n1": "one", "n77": "z"}),
        ("id", [{"id": "n1", "description": "one"}]),
        ("path", [{"images": "x", "image": "folder/1.png", "conversations": [{"from": "gpt", "value": "one"}]}]),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_captions_are_found_by_path_name_stem_or_id(place, match, content, indent):
    uri = place.put("b.jsonl", lines(*ROWS))
    captions = {
        "name": "theirs",
        "uri": place.put("c.json", json.dumps(content, indent=indent).encode()),
        "match": match,
    }
    records = read("questions", uri, captions=captions)
    assert payload(records[1])["captions"] == ["one"]
    assert all("no caption of it" in (records[n].problem or "") for n in (0, 2))


def test_several_rows_of_an_image_add_up_and_an_empty_caption_is_one(place):
    rows = [{"image": "folder/0.png", "caption": text} for text in ("a", "", "c")]
    captions = {"name": "theirs", "uri": place.put("c.jsonl", lines(*rows))}
    (record, *_) = read("questions", place.put("b.jsonl", lines(*ROWS)), captions=captions)
    assert payload(record)["captions"] == ["a", "", "c"]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ([{"image": "1.png", "caption": "x"}], "none of its 1 rows is about an image"),
        ([{"image": "folder/1.png", "caption": 7}], "record 1: no caption"),
        ([{"picture": "folder/1.png", "caption": "x"}], "no `image` that names an image"),
        ([{"image": "folder/1.png", "captions": ["x"] * 65}], "more than 64 captions"),
    ],
)
def test_a_file_of_captions_that_does_not_fit_is_named(place, content, wrong):
    captions = {"name": "theirs", "uri": place.put("c.json", json.dumps(content).encode())}
    with pytest.raises(BadInputError) as error:
        read("questions", place.put("b.jsonl", lines(*ROWS)), captions=captions)
    assert "c.json" in str(error.value)
    assert wrong in str(error.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("image", "prompt", "answer", "question", "options", "choices", "questions", "id", "system", "content", "type")


@pytest.mark.parametrize("form", [released, plain, captionqa])
@given(row=st.dictionaries(st.sampled_from(KEYS), json_values))
def test_any_row_gives_questions_or_says_what_is_wrong(form, row):
    try:
        for asked in form(row):
            assert asked.images
            assert asked.question["text"]
            assert asked.question["answers"]
    except ValueError as error:
        assert str(error)
