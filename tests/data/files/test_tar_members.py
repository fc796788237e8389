"""Hopping over a tar finds what Python's tarfile finds, and notices every cut and every hostile header."""

import io
import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caprl_core.data.files.tars import tar_members
from caprl_core.data.roots.member_index import MemberIndex, Place
from caprl_core.errors import BadInputError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=130).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MEMBERS = st.lists(st.tuples(PATHS, st.binary(max_size=1500)), min_size=1, max_size=6)
FORMATS = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def build(members, tar_format) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as archive:
        for number, (name, data) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            if number % 2:
                other = tarfile.TarInfo(f"link-{number}")
                other.type, other.linkname = tarfile.SYMTYPE, "x" * 200
                archive.addfile(other)
    return out.getvalue()


def found(data: bytes) -> list[tuple[str, bytes]]:
    members = tar_members(io.BytesIO(data), "t.tar", len(data))
    return [(member.name, data[member.offset : member.offset + member.size]) for member in members]


@given(members=MEMBERS, tar_format=FORMATS)
@example(members=[("\x80\n", b"")], tar_format=tarfile.PAX_FORMAT)  # a name may end as a record of it ends
def test_members_are_those_of_tarfile(members, tar_format):
    assert found(build(members, tar_format)) == members


@given(members=MEMBERS, tar_format=FORMATS, share=st.floats(0, 1, exclude_max=True))
def test_a_cut_anywhere_before_the_end_mark_is_noticed(members, tar_format, share):
    data = build(members, tar_format)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.getmembers()
        end = archive.offset
    with pytest.raises(BadInputError, match="t.tar: .*(damaged at byte|not a tar)"):
        found(data[: int(end * share)])


@given(data=st.binary(max_size=3000), members=MEMBERS, at=st.integers(0, 2000))
def test_damage_never_gives_bytes_outside_the_file_or_another_kind_of_error(data, members, at):
    whole = bytearray(build(members, tarfile.PAX_FORMAT))
    whole[at : at + len(data)] = data
    try:
        for member in tar_members(io.BytesIO(whole), "t.tar", len(whole)):
            assert 0 <= member.offset <= member.offset + member.size <= len(whole)
    except BadInputError:
        return


def test_an_extended_header_that_claims_gigabytes_is_refused():
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(BadInputError, match=r"extended header"):
        list(tar_members(io.BytesIO(header), "t.tar", 2**34))


def test_a_compressed_tar_is_told_apart():
    with pytest.raises(BadInputError, match="compressed"):
        found(b"\x1f\x8b" + bytes(range(256)) * 4)


SHORT_PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=7).map("/".join)


@given(names=st.lists(SHORT_PATHS, max_size=12), path=SHORT_PATHS)
def test_the_index_finds_exact_paths_and_endings(names, path):
    index = MemberIndex((name, Place(number, 1)) for number, name in enumerate(names))
    exact = [number for number, name in enumerate(names) if name == path]
    place = index.exact(path)
    assert (place.offset if place else None) == (exact[-1] if exact else None)
    endings = [
        number
        for number, name in enumerate(names)
        if name.endswith(f"/{path}") and name.count("/") - path.count("/") <= 4
    ]
    assert sorted(place.offset for place in index.ending_in(path)) == endings
