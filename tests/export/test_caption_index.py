"""Captions by key on disk, repeats of an image with them."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caprl_core.export.caption_index import CaptionIndex
from support.hostile_captions import HOSTILE

KEYS = st.from_regex(r"s-[0-9a-f]{3}(-[0-9]{1,2})?", fullmatch=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(captions=st.dictionaries(KEYS, st.sampled_from([text for text in HOSTILE if "\ud83d" not in text])))
def test_every_caption_is_found_by_its_key_and_no_other(tmp_path: Path, captions: dict[str, str]) -> None:
    (tmp_path / "x.sqlite").unlink(missing_ok=True)
    with CaptionIndex(tmp_path / "x.sqlite") as index:
        assert index.fill(captions.items()) == len(captions)
        assert {key: index.of(key) for key in captions} == captions
        assert index.of("s-zzz") is None
        for key in {key[:5] for key in captions}:
            repeats = {int(k[6:]): text for k, text in captions.items() if k.startswith(f"{key}-")}
            assert set(index.repeats(key)) == set(repeats)
