"""GPUs are handed out by id, and no id to two lanes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.engines.devices import device_groups, visible_devices
from caprl_core.errors import BadInputError


@pytest.mark.parametrize(
    ("named", "devices"),
    [("0,2", ["0", "2"]), (" GPU-a , GPU-b ", ["GPU-a", "GPU-b"]), ("", []), ("-1", []), ("1,1", ["1"])],
)
def test_the_variable_names_the_devices(named: str, devices: list[str]) -> None:
    assert visible_devices({"CUDA_VISIBLE_DEVICES": named}) == devices


@given(st.integers(1, 16), st.integers(1, 8), st.integers(0, 16))
def test_no_device_is_in_two_groups(devices: int, each: int, lanes: int) -> None:
    ids = [str(number) for number in range(devices)]
    fit = devices // each
    if fit == 0 or lanes > fit:
        with pytest.raises(BadInputError, match="two lanes never share one"):
            device_groups(ids, each, lanes)
        return
    groups = device_groups(ids, each, lanes)
    assert len(groups) == (lanes or fit)
    used = [device for group in groups if group is not None for device in group.split(",")]
    assert len(used) == len(set(used)) == len(groups) * each
    assert set(used) <= set(ids)


def test_without_gpus_the_user_says_how_many_lanes() -> None:
    assert device_groups([], 1, 3) == [None, None, None]
    with pytest.raises(BadInputError, match="say how many"):
        device_groups([], 1, 0)
