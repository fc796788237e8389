"""A starting checkpoint: whose every tensor is whose, what goes with it, and when it appears."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger

from caprl_core.errors import BadInputError
from caprl_core.pretraining.initialise import HANDED_ON, initialise
from caprl_core.pretraining.sources import ModelSource

Language = Callable[..., Any]


def made(donor: Any, words: Any, out: Path, **options: Any) -> dict[str, Any]:
    sources = ModelSource.open(str(donor.folder)), ModelSource.open(str(words.folder))
    return initialise(*sources, out, **{"dtype": "float32"} | options)


def of(donor: Any, folder: Path) -> dict[str, torch.Tensor]:
    return type(donor)(folder).tensors()


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit, also where a comparison of numbers would be lenient."""
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("tied", [True, False], ids=["tied head", "own head"])
@pytest.mark.parametrize("shards", [1, 3], ids=["one file", "three files"])
@pytest.mark.parametrize("layout", ["released", "newer"])
def test_every_tensor_is_the_towers_the_language_models_or_fresh(
    donor: Any, language: Language, tmp_path: Path, tied: bool, shards: int, layout: str
) -> None:
    words = language(tied=tied)
    for model in (donor, words):
        model.store(model.tensors(), shards=shards, layout=layout)
    out = tmp_path / "out"
    made(donor, words, out, shard_bytes=1_000_000_000 if shards == 1 else 150_000)
    result, tower, text = of(donor, out), donor.tensors(), words.tensors()
    merger = {name for name in result if name.startswith("visual.merger.")}
    seen = {name for name in result if name.startswith("visual.")} - merger
    assert result.keys() == {name for name in tower if name.startswith("visual.")} | text.keys()
    assert ("lm_head.weight" in result) is not tied
    assert seen and all(same(result[name], tower[name]) for name in seen)
    assert all(same(result[name], text[name]) for name in text)
    assert len(merger) == 5 and not any(torch.equal(result[name], tower[name]) for name in merger)
    assert len(list(out.glob("*.safetensors"))) > 1 or shards == 1
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is tied


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_finds_every_weight_and_reads_text_as_the_language_model_does(
    donor: Any, language: Language, tmp_path: Path, tied: bool
) -> None:
    words = language(tied=tied)
    made(donor, words, tmp_path / "out", shard_bytes=150_000)
    model, found = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(found.values()), found
    alone = AutoModelForCausalLM.from_pretrained(words.folder)
    ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = model(input_ids=ids).logits, alone(input_ids=ids).logits
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_seed_is_a_merger(donor: Any, language: Language, tmp_path: Path) -> None:
    words, state = language(), torch.get_rng_state()
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        made(donor, words, tmp_path / name, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    first, other = of(donor, tmp_path / "a"), of(donor, tmp_path / "c")
    changed = {name for name in first if not same(first[name], other[name])}
    assert changed == {f"visual.merger.mlp.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}


def test_a_merger_is_what_its_module_makes_of_itself(donor: Any, language: Language, tmp_path: Path) -> None:
    made(donor, language(), tmp_path / "out", seed=5)
    torch.manual_seed(5)
    expected = Qwen2_5_VLPatchMerger(dim=64, context_dim=64, spatial_merge_size=2).state_dict()
    result = of(donor, tmp_path / "out")
    assert all(same(result[f"visual.merger.{name}"], value) for name, value in expected.items())
    weights = result["visual.merger.mlp.0.weight"]
    assert weights.abs().max() <= 256**-0.5 and weights.std() == pytest.approx(256**-0.5 / 3**0.5, rel=0.02)
    assert torch.equal(result["visual.merger.ln_q.weight"], torch.ones(64))


def test_one_seed_is_one_merger_in_every_data_type(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    for dtype in ("float32", "bfloat16", "float16"):
        made(donor, words, tmp_path / dtype, dtype=dtype)
    exact = of(donor, tmp_path / "float32")
    for dtype in ("bfloat16", "float16"):
        result = of(donor, tmp_path / dtype)
        assert all(same(result[name], exact[name].to(getattr(torch, dtype))) for name in exact)


def test_weights_that_have_the_data_type_keep_every_bit(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language(tied=False)
    for model in (donor, words):
        model.cast(torch.bfloat16, shards=2)
    tensors = donor.tensors()
    tensors["visual.blocks.0.norm2.weight"][:2] = torch.tensor([-0.0, torch.nan])
    donor.store(tensors, shards=2)
    lineage = made(donor, words, tmp_path / "out", dtype="bfloat16")
    result = of(donor, tmp_path / "out")
    sources = words.tensors() | {name: value for name, value in donor.tensors().items() if "visual.blocks" in name}
    assert all(same(result[name], sources[name]) for name in sources)
    assert lineage["converted_tensors"] == 0
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert {config.get("dtype"), config.get("torch_dtype")} - {None} == {"bfloat16"}


def test_a_number_that_the_data_type_does_not_know_stops_it(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language(tied=False)
    tensors = words.tensors()
    tensors["lm_head.weight"][3, 3] = 1e6
    words.store(tensors)
    with pytest.raises(BadInputError, match=r"lm_head\.weight holds numbers that are none in float16"):
        made(donor, words, tmp_path / "made/out", dtype="float16")
    assert not list((tmp_path / "made").iterdir())
    made(donor, words, tmp_path / "made/out", dtype="bfloat16")


def test_the_donors_files_go_along_byte_for_byte(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    (donor.folder / "LICENSE").write_text("the tower's")
    (words.folder / "LICENSE").write_text("the words'")
    (words.folder / "chat_template.jinja").write_text("for text alone")
    (donor.folder / "secret.txt").write_text("not to be passed on")
    made(donor, words, tmp_path / "out")
    handed_on = {path.name for path in donor.folder.iterdir()} & set(HANDED_ON)
    assert len(handed_on) == 6
    for name in handed_on:
        assert (tmp_path / "out" / name).read_bytes() == (donor.folder / name).read_bytes()
    assert {path.name for path in (tmp_path / "out").iterdir()} - handed_on == {
        "config.json",
        "model.safetensors",
        "lineage.json",
        "README.md",
        "vision.LICENSE",
        "language.LICENSE",
    }
    assert (tmp_path / "out/language.LICENSE").read_text() == "the words'"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o644}


def test_the_lineage_names_every_file_by_its_digest(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    words.store(words.tensors(), shards=3)
    lineage = made(donor, words, tmp_path / "out", seed=3, shard_bytes=150_000)
    assert json.loads((tmp_path / "out/lineage.json").read_text()) == lineage
    for part, model in (("vision", donor), ("language", words)):
        files = lineage[part]["files"]
        assert files.keys() == {path.name for path in model.folder.glob("model*")} | {"config.json", "tokenizer.json"}
        assert {name: content(model.folder)[name] for name in files} == files
        assert (lineage[part]["name"], lineage[part]["revision"]) == (model.folder.name, None)
    weights = {name for name in content(tmp_path / "out") if name.startswith("model")}
    assert lineage["weights"] == {name: content(tmp_path / "out")[name] for name in weights}
    assert lineage["merger"]["seed"] == 3
    assert str(tmp_path) not in json.dumps(lineage)


def test_the_card_says_what_it_is_made_of(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language()
    (donor.folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Donor\n")
    (words.folder / "README.md").write_text("---\nlicense: other\n---\n# Words\n")
    made(donor, words, tmp_path / "out", seed=3)
    card = (tmp_path / "out/README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"
    assert "licence: apache-2.0" in card and "seed 3" in card and "tied to the embeddings" in card
    assert "`max_position_embeddings` 2048 (was 4096)" in card
    assert str(tmp_path) not in card


def test_safetensors_own_reader_takes_the_files(donor: Any, language: Language, tmp_path: Path) -> None:
    made(donor, language(tied=False), tmp_path / "out", shard_bytes=150_000)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    found = {}
    for path in sorted((tmp_path / "out").glob("*.safetensors")):
        with safe_open(path, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
            sizes = [opened.get_tensor(name).nbytes for name in opened.keys()]  # noqa: SIM118 - not a dictionary
            assert sum(sizes) <= 150_000 or len(sizes) == 1
            found |= dict.fromkeys(opened.keys(), path.name)
            index["metadata"]["total_size"] -= sum(sizes)
    assert index == {"metadata": {"total_size": 0}, "weight_map": found}


def test_an_existing_folder_is_left_alone(donor: Any, language: Language, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInputError, match="out: it exists"):
        made(donor, language(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_place_that_cannot_be_written_to_is_said(donor: Any, language: Language, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="out: it could not be made"):
        made(donor, language(), tmp_path / "file/out")


def test_a_model_that_the_disk_has_no_room_for_is_not_begun(
    donor: Any, language: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(BadInputError, match="bytes are needed there, and 1,000 are free"):
        made(donor, language(), tmp_path / "made/out")
    assert not list((tmp_path / "made").iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from caprl_core.pretraining.initialise import initialise
from caprl_core.pretraining.sources import ModelSource

def tell(line):
    if "language" in line:
        os.kill(os.getpid(), signal.SIGKILL)

initialise(ModelSource.open(sys.argv[1]), ModelSource.open(sys.argv[2]), Path(sys.argv[3]), dtype="float32", tell=tell)
"""


def test_a_killed_run_leaves_no_model_and_does_not_hinder_the_next(
    donor: Any, language: Language, tmp_path: Path
) -> None:
    words, out = language(), tmp_path / "made/out"
    command = [sys.executable, "-c", KILLED, str(donor.folder), str(words.folder), str(out)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9
    assert [path.name for path in out.parent.iterdir()] == ["out.partial"]
    made(donor, words, out)
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    made(donor, words, tmp_path / "undisturbed")
    assert content(out) == content(tmp_path / "undisturbed")


def test_a_vision_language_model_can_give_its_words_too(donor: Any, tmp_path: Path) -> None:
    made(donor, donor, tmp_path / "out")
    result, whole = of(donor, tmp_path / "out"), donor.tensors()
    changed = {name for name in whole if not same(result[name], whole[name])}
    assert changed == {name for name in whole if name.startswith("visual.merger.")}
    assert json.loads((tmp_path / "out/lineage.json").read_text())["taken_from_language_model"] == {}
