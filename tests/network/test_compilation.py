"""A module that can be compiled, and modules whose forward or backward pass cannot."""

import pytest
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from plankton_embed.errors import SettingError
from plankton_embed.network.compilation import compile_module


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()


def run_as_it_is(graph, inputs):
    return make_boxed_func(graph.forward)


def fail(graph, inputs):
    raise ValueError("no such kernel\nand more lines")


BACKENDS = {
    "forward": aot_autograd(fw_compiler=fail, bw_compiler=run_as_it_is),
    "backward": aot_autograd(fw_compiler=run_as_it_is, bw_compiler=fail),
}


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh())


@pytest.mark.parametrize("compile", ["auto", "on"])
def test_a_compiled_module_computes_the_same_and_learns(compile):
    module, inputs = build(), torch.randn(5, 3)
    forward = compile_module(module, compile, "x", backend=aot_autograd(fw_compiler=run_as_it_is))
    outputs = forward(inputs)
    assert torch.equal(outputs, module(inputs))
    outputs.sum().backward()
    gradient = module[0].weight.grad.clone()
    module.zero_grad()
    module(inputs).sum().backward()
    torch.testing.assert_close(gradient, module[0].weight.grad)


@pytest.mark.parametrize("part", BACKENDS)
def test_auto_goes_on_with_the_module_itself_and_warns_once(part, caplog):
    module, inputs = build(), torch.randn(5, 3)
    forward = compile_module(module, "auto", "x", backend=BACKENDS[part])
    for _ in range(2):
        outputs = forward(inputs)
        assert torch.equal(outputs, module(inputs))
        outputs.sum().backward()
    (message,) = [record.message for record in caplog.records if record.name.startswith("plankton_embed")]
    assert message.startswith("the network cannot be compiled here, and is used as it is: ")
    assert message.endswith("ValueError: no such kernel")


@pytest.mark.parametrize("part", BACKENDS)
def test_on_is_one_error_in_the_first_call(part):
    forward = compile_module(build(), "on", "training.compile", backend=BACKENDS[part])
    with pytest.raises(SettingError, match=r"^training\.compile: the network .*no such kernel\); leave it out$"):
        forward(torch.randn(5, 3))
