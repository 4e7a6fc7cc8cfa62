"""Which device and precision are chosen."""

import pytest
import torch

from plankton_embed.errors import SettingError
from plankton_embed.network.device import autocast, choose_device, has_fast_bfloat16, skips_on_device

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_a_device_is_found(name):
    assert torch.ones(1, device=choose_device(name)).sum() == 1


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(SettingError, match=rf"'{name}'.*auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_is_what_the_products_are_computed_in(precision, dtype):
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_bfloat16_where_it_is_fast(monkeypatch, fast, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    with autocast(CPU, "auto"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_that_a_gpu_only_emulates_is_not_fast(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert has_fast_bfloat16(torch.device("cuda")) == native


@pytest.mark.parametrize(("name", "skips"), [("cpu", True), ("cuda:1", True), ("mps", False), ("xpu", False)])
def test_where_the_optimizer_leaves_out_marked_steps_itself(name, skips):
    assert skips_on_device(torch.device(name)) == skips
