"""Patterns expand as a shell would, and references hang from the folder before the first wildcard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.data.files.reader import Files
from caprl_core.data.files.uris import base_folder, expand_braces, join, literal_folder
from caprl_core.data.roots.prefixes import Prefixes
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import StorageExecution


def test_braces():
    assert expand_braces("a-{000..002}.tar") == ["a-000.tar", "a-001.tar", "a-002.tar"]
    assert expand_braces("{x,y}/{2..1}") == ["x/2", "x/1", "y/2", "y/1"]
    assert expand_braces("plain") == ["plain"]


@pytest.mark.parametrize("pattern", ["{0..99999999}", "{0..999}{0..999}"])
def test_braces_cannot_fill_the_memory(pattern):
    with pytest.raises(ValueError, match="expands to more"):
        expand_braces(pattern)


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("/data/x.tar", "/data"),
        ("/data/*/x.tar", "/data"),
        ("/data/p-{0..9}.tar", "/data"),
        ("/data", "/data"),
        ("/data/", "/data"),
        ("x.tar", ""),
        ("/x.tar", "/"),
        ("s3://b/x.tar", "s3://b"),
        ("s3://b/d/**/*.tar", "s3://b/d"),
        ("s3://b", "s3://b"),
        ("https://h/d/x.tar", "https://h/d"),
    ],
)
def test_base_folder(uri, base):
    assert base_folder(uri, (".tar",)) == base


def test_a_containers_address_is_its_base_and_its_name():
    for uri in ("/data/x.tar", "x.tar", "/x.tar", "s3://b/d/x.tar"):
        assert join(literal_folder(uri), "x.tar") == uri


def test_wildcards_match_within_a_component_and_double_stars_across(place):
    files = Files(StorageExecution())
    for name in ("a/1.tar", "a/b/2.tar", "3.tar", "x.txt"):
        place.put(name, b"x")
    assert files.expand(f"{place.uri}/*.tar", ()) == [f"{place.uri}/3.tar"]
    assert files.expand(f"{place.uri}/*/*.tar", ()) == [f"{place.uri}/a/1.tar"]
    everything = [f"{place.uri}/{name}" for name in ("3.tar", "a/1.tar", "a/b/2.tar")]
    assert sorted(files.expand(f"{place.uri}/**/*.tar", ())) == everything
    assert files.expand(place.uri, (".tar",)) == everything
    with pytest.raises(BadInputError, match=r"no file matches"):
        files.expand(f"{place.uri}/*.zip", ())
    with pytest.raises(BadInputError, match="ftp://"):
        files.size("ftp://h/x")


PARTS = st.lists(st.sampled_from(["a", "b", "ab", "c"]), min_size=1, max_size=4).map(tuple)


@given(prefixes=st.sets(PARTS, max_size=6), path=PARTS)
def test_the_longest_prefix_wins_component_by_component(prefixes, path):
    match = Prefixes({"/".join(prefix): prefix for prefix in prefixes}).match(path)
    fitting = [prefix for prefix in prefixes if path[: len(prefix)] == prefix and len(path) > len(prefix)]
    if not fitting:
        assert match is None
    else:
        best = max(fitting, key=len)
        assert match == (best, path[len(best) :])
