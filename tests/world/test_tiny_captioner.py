"""The tiny captioner is a complete, small, deterministic Qwen2.5-VL whose captions look like text."""

import subprocess
import sys
from pathlib import Path

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from caprl_core.world.tiny_captioner import WORDS, build_tiny_captioner


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_weights(tmp_path: Path) -> None:
    first = contents(build_tiny_captioner(tmp_path / "a"))
    subprocess.run([sys.executable, "-m", "caprl_core.world.tiny_captioner", str(tmp_path / "b")], check=True)
    assert first == contents(tmp_path / "b")
    assert contents(build_tiny_captioner(tmp_path / "a")) == first
    other = contents(build_tiny_captioner(tmp_path / "c", seed=1))
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}
    assert sum(map(len, first.values())) < 5_000_000


def test_transformers_finds_every_weight_where_it_expects_it(tmp_path: Path) -> None:
    folder = build_tiny_captioner(tmp_path / "model")
    assert AutoConfig.from_pretrained(folder).model_type == "qwen2_5_vl"
    _, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_the_tokenizer_takes_any_text_and_knows_each_word_as_one_token(tmp_path: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(build_tiny_captioner(tmp_path / "model")).tokenizer
    for text in ("Please describe this image in detail.", "naïve 图像 🙂\n\ttabs"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert [len(tokenizer(" " + word)["input_ids"]) for word in WORDS] == [1] * len(WORDS)


def test_the_chat_template_places_each_image_once_and_ends_with_the_models_turn(tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(build_tiny_captioner(tmp_path / "model"))
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe."}]}
    text = processor.apply_chat_template([user], add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|vision_end|>Describe.<|im_end|>\n<|im_start|>assistant\n")
    assert text.count("<|image_pad|>") == 1
    system = {"role": "system", "content": "Be brief."}
    assert processor.apply_chat_template([system, {"role": "user", "content": "Hi"}]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    )
