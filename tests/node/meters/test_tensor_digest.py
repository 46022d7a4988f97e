"""The canonical tensor digest: the vectors, what it depends on, and what it does not."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from requirements import require

np = require("numpy")

from pacekeeper.node.meters.digest import join_path, tensors_digest  # noqa: E402

VECTORS = Path(__file__).parents[2] / "vectors" / "metering" / "tensor-digest.json"
CASES: list[dict[str, Any]] = [
    {"why": "no tensors at all", "tensors": []},
    {
        "why": "a scalar, an empty tensor and a name with a slash; given out of order",
        "tensors": [
            {"name": "z/w", "dtype": "float32", "shape": [], "data": "0000803f"},
            {"name": "a", "dtype": "int64", "shape": [0, 3], "data": ""},
        ],
    },
    {
        "why": "names sort by their UTF-8 bytes, not by letters; bfloat16 and bool",
        "tensors": [
            {"name": "é", "dtype": "bfloat16", "shape": [2], "data": "803f0040"},
            {"name": "z", "dtype": "bool", "shape": [3], "data": "010001"},
        ],
    },
    {
        "why": "a matrix in C order, little-endian",
        "tensors": [{"name": "m", "dtype": "uint16", "shape": [2, 3], "data": "010002000300040005000600"}],
    },
]


def preimage(tensors: list[dict[str, Any]]) -> bytes:
    """specs/metering.md written out a second time, by hand."""

    def number(value: int) -> bytes:
        return value.to_bytes(8, "big")

    out = b"pacekeeper/tensors/v1\n" + number(len(tensors))
    for item in sorted(tensors, key=lambda item: item["name"].encode()):
        name, dtype, data = item["name"].encode(), item["dtype"].encode(), bytes.fromhex(item["data"])
        out += number(len(name)) + name + number(len(dtype)) + dtype + number(len(item["shape"]))
        out += b"".join(number(length) for length in item["shape"]) + number(len(data)) + data
    return out


def with_expectation(case: dict[str, Any]) -> dict[str, Any]:
    message = preimage(case["tensors"])
    return {**case, "preimage": message.hex(), "digest": hashlib.sha256(message).hexdigest()}


def array(item: dict[str, Any]) -> Any:
    dtype = np.dtype(require("ml_dtypes").bfloat16) if item["dtype"] == "bfloat16" else np.dtype(item["dtype"])
    return np.frombuffer(bytes.fromhex(item["data"]), dtype).reshape(item["shape"])


def test_the_vectors_have_not_drifted() -> None:
    """SPEC metering-13: rewritten with PACEKEEPER_WRITE_VECTORS=1, and equal byte for byte otherwise."""
    text = json.dumps([with_expectation(case) for case in CASES], indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("PACEKEEPER_WRITE_VECTORS") == "1":
        VECTORS.write_text(text)
    assert VECTORS.read_text() == text


@pytest.mark.parametrize("number", range(len(CASES)))
def test_numpy_arrays_have_the_vectors_digest(number: int) -> None:
    """SPEC metering-13."""
    case = json.loads(VECTORS.read_text())[number]
    assert tensors_digest({item["name"]: array(item) for item in case["tensors"]}).hex() == case["digest"]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_torch_tensors_have_the_vectors_digest(number: int) -> None:
    """SPEC metering-13."""
    torch = require("torch")
    case = json.loads(VECTORS.read_text())[number]
    tensors = {}
    for item in case["tensors"]:
        data = torch.tensor(list(bytes.fromhex(item["data"])), dtype=torch.uint8)
        tensors[item["name"]] = data.view(getattr(torch, item["dtype"])).reshape(item["shape"])
    assert tensors_digest(tensors).hex() == case["digest"]


def test_jax_arrays_have_the_digest_of_their_numpy_form() -> None:
    """SPEC metering-13: bfloat16 included."""
    jnp = require("jax").numpy
    values = jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)
    assert tensors_digest({"a": values}) == tensors_digest({"a": np.asarray(values)})


def test_layout_order_device_and_byte_order_do_not_matter() -> None:
    """SPEC metering-13."""
    matrix = np.arange(12, dtype=np.float64).reshape(3, 4)
    digest = tensors_digest({"a": matrix, "b": np.ones(2)})
    assert tensors_digest({"b": np.ones(2), "a": np.asfortranarray(matrix)}) == digest
    assert tensors_digest({"a": matrix.astype(">f8"), "b": np.ones(4)[::2]}) == digest
    torch = require("torch")
    tensor = torch.arange(12, dtype=torch.float64).reshape(4, 3).t().contiguous().t().t()
    tensor.copy_(torch.from_numpy(matrix))
    assert tensors_digest({"a": tensor.requires_grad_(), "b": torch.ones(2, dtype=torch.float64)}) == digest


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.zeros((2, 3), np.float32)[:, ::-1] + 1},
        {"a": np.zeros((3, 2), np.float32)},
        {"a": np.zeros((2, 3), np.int32)},
        {"b": np.zeros((2, 3), np.float32)},
        {"a": np.zeros((2, 3), np.float32), "b": np.zeros(0, np.float32)},
        {"a": -np.zeros((2, 3), np.float32)},
    ],
)
def test_elements_shape_dtype_names_and_number_matter(other: dict[str, Any]) -> None:
    """SPEC metering-13."""
    assert tensors_digest(other) != tensors_digest({"a": np.zeros((2, 3), np.float32)})


def test_what_is_no_numeric_tensor_is_refused() -> None:
    """SPEC metering-13."""
    for wrong in (np.array(["text"]), np.array([object()]), np.zeros(2, [("x", "i4")]), np.zeros(2, "V4")):
        with pytest.raises(TypeError, match='"a" is no numeric tensor'):
            tensors_digest({"a": wrong})
    torch = require("torch")
    for bad in (torch.empty(2, device="meta"), torch.zeros(2, 2).to_sparse()):
        with pytest.raises(TypeError, match="no dense tensor"):
            tensors_digest({"a": bad})


def test_two_paths_never_have_one_name() -> None:
    """SPEC metering-14."""
    assert join_path(("a", "b")) == "a/b"
    assert join_path(("a/b",)) == "a~1b"
    assert join_path(("a~1b",)) == "a~01b"
