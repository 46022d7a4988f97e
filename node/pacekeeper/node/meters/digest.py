"""The canonical digest of a set of named tensors: what a checkpoint is known by, whatever file it lies in.

SHA-256 over, with every number an unsigned 64-bit big-endian integer and every text length-prefixed UTF-8:

    "pacekeeper/tensors/v1\\n"  count  then for each tensor, ascending by the bytes of its name:
    name  dtype  rank  dimension*  byte-count  bytes

The bytes are the elements in C order, each little-endian. A dtype is named as NumPy and ml_dtypes name it: float32,
bfloat16, int64, bool, complex64, float8_e4m3fn. specs/metering.md has the rule, tests/vectors/metering the vectors.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

_TAG: Final = b"pacekeeper/tensors/v1\n"
_KINDS: Final = frozenset("biufcV")  # V: what ml_dtypes adds (bfloat16, float8_*), told apart by name below


def tensors_digest(tensors: Mapping[str, Any]) -> bytes:
    """Return the 32-byte digest of NumPy arrays, PyTorch tensors or JAX arrays by name; Python numbers as NumPy's.

    SPEC metering-13: the digest depends on names, dtypes, shapes and elements, and on nothing else: not on order,
    device, memory layout, byte order or file. TypeError for what is no dense numeric tensor.
    """
    hasher = hashlib.sha256(_TAG + _number(len(tensors)))
    for encoded, name in sorted((name.encode(), name) for name in tensors):
        dtype, shape, data = _parts(name, tensors[name])
        hasher.update(_text(encoded) + _text(dtype.encode()) + _number(len(shape)))
        hasher.update(b"".join(_number(length) for length in shape) + _number(data.nbytes))
        hasher.update(data)
    return hasher.digest()


def join_path(tokens: Iterator[str] | tuple[str, ...]) -> str:
    """Name a tensor of a nested structure by its path, as a JSON Pointer does: "/" between, "~0" for "~", "~1" for "/".

    SPEC metering-14: two paths never give one name.
    """
    return "/".join(token.replace("~", "~0").replace("/", "~1") for token in tokens)


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _text(encoded: bytes) -> bytes:
    return _number(len(encoded)) + encoded


def _parts(name: str, tensor: Any) -> tuple[str, tuple[int, ...], memoryview]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        return _torch_parts(name, tensor, torch)
    array = np.asarray(tensor)
    if array.dtype.kind not in _KINDS or array.dtype.name.startswith("void") or array.dtype.fields is not None:
        raise TypeError(f'"{name}" is no numeric tensor: {array.dtype}')
    if array.dtype.kind != "V":
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return array.dtype.name, array.shape, flat.data


def _torch_parts(name: str, tensor: Any, torch: Any) -> tuple[str, tuple[int, ...], memoryview]:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise TypeError(f'"{name}" is no dense tensor with elements')
    here = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    flat = here.reshape(-1).view(torch.uint8).numpy()
    dtype = str(here.dtype).removeprefix("torch.")
    if sys.byteorder == "big":
        width = here.element_size() // (2 if here.is_complex() else 1)
        flat = np.ascontiguousarray(flat.reshape(-1, width)[:, ::-1]).reshape(-1)
    return dtype, tuple(here.shape), flat.data
