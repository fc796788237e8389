"""The cache of readings forgets what was used least recently, and never grows beyond its size."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from caprl_core.reward.cache import ReadingCache
from caprl_core.reward.reading import Reading


def reading(letter: str) -> Reading:
    return Reading(letter, abstained=False, reply=letter)


def test_the_least_recently_used_is_forgotten_first() -> None:
    cache = ReadingCache(2)
    cache.put(b"a", reading("A"))
    cache.put(b"b", reading("B"))
    assert cache.get(b"a") == reading("A")
    cache.put(b"c", reading("C"))
    assert [cache.get(name) for name in (b"a", b"b", b"c")] == [reading("A"), None, reading("C")]


@given(st.integers(0, 4), st.lists(st.tuples(st.booleans(), st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]))))
def test_it_is_a_bounded_dictionary(entries: int, uses: list[tuple[bool, bytes]]) -> None:
    cache, model = ReadingCache(entries), OrderedDict[bytes, Reading]()
    for put, name in uses:
        if put:
            cache.put(name, reading(name.decode()))
            model[name] = reading(name.decode())
            model.move_to_end(name)
            while len(model) > entries:
                model.popitem(last=False)
        else:
            assert cache.get(name) == model.get(name)
            if name in model:
                model.move_to_end(name)
        assert len(cache) == len(model) <= entries
