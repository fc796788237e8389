"""Models whose tokens mean something else, and files that are damaged, missing, hostile or in another format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caprl_core.errors import BadInputError
from caprl_core.pretraining.initialise import initialise
from caprl_core.pretraining.sources import ModelSource
from caprl_core.pretraining.vocabulary import check_tokens

Language = Callable[..., Any]


def refusal(donor: Any, words: Any, out: Path) -> str:
    with pytest.raises(BadInputError) as refused:
        initialise(ModelSource.open(str(donor.folder)), ModelSource.open(str(words.folder)), out, dtype="float32")
    assert not out.exists() and not out.with_name("out.partial").exists()
    return str(refused.value)


def edit_tokens(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_token_with_another_number_is_refused(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()

    def swap(tokenizer: dict[str, Any]) -> None:
        first, second = list(tokenizer["model"]["vocab"])[300:302]
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]

    edit_tokens(words.folder, swap)
    said = refusal(donor, words, tmp_path / "out")
    assert "2 tokens differ" in said and "take a language model with the donor's tokenizer" in said


def test_a_number_with_another_token_is_refused(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()

    def rename(tokenizer: dict[str, Any]) -> None:
        next(one for one in tokenizer["added_tokens"] if one["content"] == "<|image_pad|>")["content"] = "<|python|>"

    edit_tokens(words.folder, rename)
    said = refusal(donor, words, tmp_path / "out")
    assert "1 tokens differ" in said and "is '<|image_pad|>' in" in said and "and '<|python|>' in" in said


def test_a_token_that_only_one_has_does_no_harm(donor: Any, language: Language) -> None:
    words = language()
    edit_tokens(words.folder, lambda tokenizer: tokenizer["added_tokens"].pop())
    edit_tokens(
        words.folder,
        lambda tokenizer: tokenizer["added_tokens"].append(
            tokenizer["added_tokens"][0] | {"content": "<|new|>", "id": 1900}
        ),
    )
    check_tokens(ModelSource.open(str(donor.folder)), ModelSource.open(str(words.folder)))


def test_tokens_are_compared_by_the_older_files_too(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    tokenizer = json.loads((words.folder / "tokenizer.json").read_text())
    (words.folder / "tokenizer.json").unlink()
    (words.folder / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    added = {one["content"]: one["id"] for one in tokenizer["added_tokens"]}
    (words.folder / "added_tokens.json").write_text(json.dumps(added))
    check_tokens(ModelSource.open(str(donor.folder)), ModelSource.open(str(words.folder)))
    (words.folder / "added_tokens.json").write_text(json.dumps(added | {"<|im_end|>": 0}))
    assert "tokens differ" in refusal(donor, words, tmp_path / "out")


def test_what_has_no_tokens_cannot_be_compared(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    (words.folder / "tokenizer.json").unlink()
    assert "no tokenizer.json or vocab.json in it" in refusal(donor, words, tmp_path / "out")


def test_a_donor_without_a_chat_template_or_processor_is_refused(
    donor: Any, language: Language, tmp_path: Path
) -> None:
    words = language()
    template = donor.folder / "chat_template.jinja"
    template.rename(tmp_path / "kept")
    assert "no chat template in it" in refusal(donor, words, tmp_path / "out")
    (tmp_path / "kept").rename(template)
    (donor.folder / "preprocessor_config.json").unlink()
    assert "its processor does not load" in refusal(donor, words, tmp_path / "out")


@pytest.mark.parametrize("harm", ["cut", "longer", "garbage", "empty", "header without end"])
def test_a_damaged_file_is_named(donor: Any, language: Language, tmp_path: Path, harm: str) -> None:
    words = language()
    path = words.folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-100],
            "longer": whole + b"more",
            "garbage": b"\x08" + bytes(7) + b"nothing!",
            "empty": b"",
            "header without end": (2**62).to_bytes(8, "little") + whole[8:],
        }[harm]
    )
    said = refusal(donor, words, tmp_path / "out")
    assert f"{words.folder}: model.safetensors is not a whole safetensors file" in said


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("../donor/model.safetensors", "is no safetensors file beside it"),
        ("/etc/passwd", "is no safetensors file beside it"),
        ("model.bin", "is no safetensors file beside it"),
        ("model-00009-of-00002.safetensors", "there is no model-00009-of-00002.safetensors in it"),
        ("model-00001-of-00002.safetensors", "says model-00001-of-00002.safetensors holds"),
    ],
)
def test_an_index_leads_to_files_beside_it_that_hold_what_it_says(
    donor: Any, language: Language, tmp_path: Path, file: str, said: str
) -> None:
    words = language()
    words.store(words.tensors(), shards=2)
    path = words.folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name = next(name for name, where in index["weight_map"].items() if "00002-of" in where)
    index["weight_map"][name] = file
    path.write_text(json.dumps(index))
    assert said in refusal(donor, words, tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_an_index_that_is_none_is_refused(donor: Any, language: Language, tmp_path: Path, text: str) -> None:
    words = language()
    words.store(words.tensors(), shards=2)
    (words.folder / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json" in refusal(donor, words, tmp_path / "out")


def test_a_pickle_is_never_read(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    (words.folder / "model.safetensors").rename(words.folder / "pytorch_model.bin")
    assert "pytorch_model.bin is not read: convert it to safetensors" in refusal(donor, words, tmp_path / "out")


def test_a_tensor_under_two_names_is_refused(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    tensors = words.tensors()
    words.store(tensors | {"model.language_model.norm.weight": tensors["model.norm.weight"].clone()})
    assert "are the same tensor" in refusal(donor, words, tmp_path / "out")


def test_files_that_old_checkpoints_carry_along_are_ignored(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    tensors = words.tensors()
    table = tensors["model.norm.weight"][:16].clone()
    words.store(tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": table})
    initialise(ModelSource.open(str(donor.folder)), ModelSource.open(str(words.folder)), tmp_path / "out")


def test_a_folder_has_no_revision(donor: Any) -> None:
    with pytest.raises(BadInputError, match="a folder has no revision 'main'"):
        ModelSource.open(str(donor.folder), "main")
