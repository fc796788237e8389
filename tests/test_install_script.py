"""What `make setup` chooses, and how it hands pip's configuration to uv."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "install.py"


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("caprl_install_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def names(install: ModuleType, wish: str = "auto", **facts: bool) -> list[str]:
    machine = install.Machine(**{"gpu": False, "cpu_wheel": False, "cpu_index": False, **facts})
    return [attempt.name for attempt in install.attempts(machine, wish)]


def test_a_gpu_gets_vllm_for_cuda_and_never_the_cpu_build(install: ModuleType) -> None:
    assert names(install, gpu=True) == ["gpu", "no-vllm"]
    [gpu, _] = install.attempts(install.Machine(gpu=True, cpu_wheel=False, cpu_index=False), "auto")
    assert gpu.extras == ("vllm",)
    assert gpu.constraints == ("torch!=2.13.0+cpu",)


def test_a_cpu_wheel_of_torch_that_pip_reaches_is_preferred(install: ModuleType) -> None:
    assert names(install, cpu_wheel=True) == ["cpu-wheel", "no-vllm"]
    [with_vllm, without] = install.attempts(install.Machine(gpu=False, cpu_wheel=True, cpu_index=False), "auto")
    assert with_vllm.overrides == without.overrides
    assert "torchvision==0.16.2" in with_vllm.overrides


def test_without_a_cpu_wheel_the_index_then_the_cuda_torch_is_tried(install: ModuleType) -> None:
    assert names(install, cpu_index=True) == ["cpu-index", "cuda-torch", "no-vllm"]
    assert names(install) == ["cuda-torch", "no-vllm"]


def test_the_user_may_overrule_what_is_there(install: ModuleType) -> None:
    assert names(install, "none", gpu=True) == ["no-vllm"]
    assert names(install, "cpu", gpu=True, cpu_wheel=True) == ["cpu-wheel", "no-vllm"]
    assert names(install, "gpu") == ["gpu", "no-vllm"]


def test_the_last_way_never_needs_vllm_and_brings_torchvision_itself(install: ModuleType) -> None:
    last = install.attempts(install.Machine(gpu=False, cpu_wheel=False, cpu_index=False), "auto")[-1]
    assert last.extras == ()
    assert last.requirements == ("torchvision",)
    assert "vllm" not in last.checks


def test_pips_configuration_is_handed_on(install: ModuleType) -> None:
    listing = "\n".join(
        [
            "global.find-links='/wheels /more'",
            "global.index-url='http://mirror/simple'",
            "install.index-url='http://other/simple'",
            "global.extra-index-url='\\nhttp://a/simple\\nhttp://b/simple'",
            "global.timeout='60'",
        ]
    )
    assert install.uv_settings(listing, {}) == {
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_DEFAULT_INDEX": "http://other/simple",
        "UV_INDEX": "http://a/simple http://b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_pips_environment_wins_over_its_files_and_uvs_own_over_both(install: ModuleType) -> None:
    listing = ":env:.find-links='/from-environment'\nglobal.find-links='/from-file'"
    assert install.uv_settings(listing, {}) == {"UV_FIND_LINKS": "/from-environment"}
    assert install.uv_settings(listing, {"UV_FIND_LINKS": "/mine"}) == {}


def test_a_machine_without_pip_configuration_sets_nothing(install: ModuleType) -> None:
    assert install.uv_settings("", {}) == {}
