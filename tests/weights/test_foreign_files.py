"""A file that is not a weight file is described, in one line, before torch reads it."""

import gzip
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from md2dist.errors import WeightsError
from md2dist.networks.resnet import ResNetEncoder
from md2dist.weights import load_imagenet, load_model
from md2dist.weights.files import read_weights

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 5\n"


def zip_of(compression=zipfile.ZIP_STORED, **members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


def saved(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def torchscript():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Identity(), torch.ones(1)), stream)
    return stream.getvalue()


def array():
    stream = io.BytesIO()
    np.save(stream, np.zeros(9))
    return stream.getvalue()


def compressed():
    plain = saved({"a": torch.zeros(100)})
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(plain)) as source, zipfile.ZipFile(stream, "w") as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


KINDS = {
    "nothing": (lambda: b"", "is not a weight file: it is empty; copy or download it again"),
    "zeros": (lambda: b"\0" * 999, "is nothing but zeros at its beginning"),
    "a web page": (lambda: b"\n <!DOCTYPE html><html>", "a web page, .*; download the file itself"),
    "a page with a mark": (lambda: b"\xef\xbb\xbf<html lang=en>", "is a web page"),
    "an answer": (lambda: b"<?xml version='1.0'?><Error/>", "is an XML document"),
    "Git LFS": (lambda: POINTER, "is a Git LFS pointer; fetch .* git lfs pull"),
    "a text": (lambda: b"404: Not Found\n", "is a text that begins with '404: Not Found'"),
    "a long text": (lambda: "ä".encode() * 999, r"is a text that begins with '\\xe4"),
    "JSON": (lambda: b'{"message": "no"}', r"is a text that begins with '\{"),
    "a zip": (
        lambda: zip_of(**{"mono__encoder.pth": b"1", "mono__depth.pth": b"2"}),
        r"zip archive of other files \(mono/encoder\.pth, mono/depth\.pth\); extract it",
    ),
    "an empty zip": (zip_of, "is an empty zip archive"),
    "gzip": (lambda: gzip.compress(saved({})), "is compressed by gzip; decompress it"),
    "TorchScript": (torchscript, "is a TorchScript program; save the state_dict"),
    "an array": (array, "is a NumPy array"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n...", "is a PNG image"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n...", "is an HDF5 file"),
    "MXNet": (lambda: struct.pack("<QQ", 0x112, 0) + b"...", r"parameter file of MXNet \("),
    "noise": (lambda: bytes(range(128, 256)) * 9, "is damaged or not a weight file"),
    "half a zip": (lambda: saved({"a": torch.zeros(999)})[:2000], "is damaged or not a weight"),
    "half a pickle": (lambda: pickle.dumps({"a": [1] * 99})[:-9], "is damaged or not a weight"),
    "a pickle without tensors": (lambda: pickle.dumps({"a": {1, 2}}, 4), "pickle cannot be read"),
    "an array within": (lambda: saved({"a": np.zeros(9)}), "refers to numpy.*could run code"),
    "an old pickle of code": (
        lambda: saved(nn.Linear(1, 1), _use_new_zipfile_serialization=False),
        r"refers to torch\.nn\.modules\.linear\.Linear, which could run code; .*state_dict\(\)",
    ),
    "a pickle of code": (lambda: saved(nn.Linear(1, 1)), "refers to .*Linear, which could run"),
    "a forged number": (
        lambda: saved({"a": np.float64(1)}).replace(b"f8", b"O8"),
        "is damaged or not a weight file",
    ),
    "compressed members": (compressed, "its members are compressed, as torch does not"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_foreign_file_is_said_in_one_line(tmp_path, kind):
    make, words = KINDS[kind]
    path = tmp_path / "encoder.pth"
    path.write_bytes(make())
    model = nn.ModuleDict({"encoder": ResNetEncoder(18)})
    readers = [read_weights, load_model, lambda path: load_model(path.parent)]
    for read in (*readers, lambda path: load_imagenet(model, str(path))):
        with pytest.raises(WeightsError, match=rf"encoder\.pth .*{words}") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)


def test_safetensors_without_the_library_name_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    with pytest.raises(WeightsError, match="in the format safetensors; install the package"):
        read_weights(path)


def test_numbers_of_numpy_become_plain_ones(tmp_path):
    numbers = {
        "a": np.int64(-3), "b": np.float32(0.5), "c": np.bool_(True), "d": np.uint8(200),
        "e": np.float16(0.25), "f": np.array([5.0], ">f8")[0],
    }  # fmt: skip
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        (tmp_path / "x.pth").write_bytes(saved(numbers, **options))
        found = read_weights(tmp_path / "x.pth")
        assert found == numbers
        assert {type(value) for value in found.values()} == {int, float, bool}
