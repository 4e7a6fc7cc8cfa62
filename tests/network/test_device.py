"""Which device and precision are chosen."""

import pytest
import torch

from plankton_embed.errors import SettingError
from plankton_embed.network.device import autocast, choose_device

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
