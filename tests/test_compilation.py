"""Compiled networks and loss, against the same code as it is."""

import logging
import os
from dataclasses import replace

import pytest
import torch
from test_model import make_batch, make_model

from md2dist.compilation import Compiled, choose_compilation, keep_compiled_code
from md2dist.errors import ConfigError
from md2dist.kernel_style import few_kernels_everywhere
from md2dist.objective import draw_noise

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_auto_compiles_on_a_gpu_alone(monkeypatch):
    monkeypatch.setattr("md2dist.compilation._find_obstacle", lambda device: None)
    for setting, on_cpu, on_gpu in (("auto", False, True), (True, True, True), (False,) * 3):
        assert choose_compilation(setting, CPU, is_synchronised=False) == on_cpu
        assert choose_compilation(setting, GPU, is_synchronised=False) == on_gpu


@pytest.mark.parametrize("is_synchronised", [False, True])
def test_what_cannot_be_compiled_is_one_line_or_an_error(monkeypatch, caplog, is_synchronised):
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    reason = "use_sync_batchnorm=true" if is_synchronised else "no compiler is found"
    with caplog.at_level(logging.WARNING):
        assert not choose_compilation("auto", GPU, is_synchronised=is_synchronised)
    (line,) = caplog.messages
    assert reason in line
    with pytest.raises(ConfigError, match=reason):
        choose_compilation(True, CPU, is_synchronised=is_synchronised)


def fail(x):
    torch._dynamo.graph_break()
    return x + 1


def test_a_function_that_does_not_compile_runs_as_it_is_or_is_an_error(caplog):
    function = Compiled(fail, is_required=False)
    assert [function(torch.ones(1)).item() for _ in range(2)] == [2, 2]
    assert len(caplog.messages) == 1
    with pytest.raises(ConfigError, match=r"precision\.compile=true, but compiling failed"):
        Compiled(fail, is_required=True)(torch.ones(1))


def test_compiled_code_is_kept_where_nothing_else_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", "elsewhere")
    keep_compiled_code(tmp_path)
    assert os.environ.pop("TORCHINDUCTOR_CACHE_DIR") == str(tmp_path)
    assert os.environ["TRITON_CACHE_DIR"] == "elsewhere"


def model_and_arguments():
    model, batch = make_model("data.use_stereo=true"), make_batch(3)
    settings = replace(model.loss_config, tie_noise=1e-5)
    with few_kernels_everywhere():
        noise = draw_noise(batch, settings, False, torch.Generator().manual_seed(1))
    return model, (batch, settings, noise)


@pytest.mark.slow
def test_networks_and_loss_are_one_graph():
    model, arguments = model_and_arguments()
    torch._dynamo.reset()
    report = torch._dynamo.explain(model.compute)(*arguments)
    assert report.graph_count == 1
    assert report.graph_break_count == 0


@pytest.mark.slow
def test_the_compiled_step_has_the_loss_and_the_gradients_of_the_eager_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    (model, arguments), (compiled, _) = model_and_arguments(), model_and_arguments()
    names = list(compiled.state_dict())
    torch._dynamo.reset()
    compiled.compiled = Compiled(compiled.compute, is_required=True)
    with few_kernels_everywhere():
        expected = model.compute(*arguments)
        expected.loss.backward()
    output = compiled.compiled(*arguments)
    output.loss.backward()
    assert list(compiled.state_dict()) == names
    assert torch.allclose(output.loss, expected.loss, rtol=1e-5)
    assert torch.allclose(output.warped, expected.warped, atol=1e-4)
    for (name, a), b in zip(model.named_parameters(), compiled.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() <= 1e-5 * max(1, a.grad.abs().max()), name
    for (name, a), b in zip(model.named_buffers(), compiled.buffers(), strict=True):
        assert torch.allclose(a, b, atol=1e-5), name
    # A new process would find its code in the folder: here, after a reset.
    counters = torch._dynamo.utils.counters["aot_autograd"]
    before = counters["autograd_cache_miss"]
    torch._dynamo.reset()
    Compiled(compiled.compute, is_required=True)(*arguments)
    assert counters["autograd_cache_hit"] > 0
    assert counters["autograd_cache_miss"] == before
