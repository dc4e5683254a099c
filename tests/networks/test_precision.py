import pytest
import torch

from md2dist.networks.precision import choose_dtype, name_dtype


@pytest.mark.parametrize("is_native", [False, True])
def test_the_type_is_bf16_only_where_the_device_has_instructions_for_it(monkeypatch, is_native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: is_native)
    assert choose_dtype("auto") == (torch.bfloat16 if is_native else torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not is_native)
    assert choose_dtype("auto") == (torch.float32 if is_native else torch.bfloat16)


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_a_type_that_is_asked_for_is_taken_on_any_machine(name):
    assert name_dtype(choose_dtype(name)) == name
    bits = torch.finfo(choose_dtype(name)).bits
    assert bits == int(name[2:])
