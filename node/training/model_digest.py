"""One digest for the arrays that Flower carried down, the same at the coordinator and at every node."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from node.training.ports import TrainingError

Arrays = Mapping[str, npt.NDArray[np.generic]]

ARRAYS_MAX = 4096
_DOMAIN = b"consortium/model/v1"
_DTYPES = frozenset({"float16", "float32", "float64"})


def model_digest(arrays: Arrays) -> bytes:
    """SHA-256 over names, dtypes, shapes and little-endian bytes, in the arrays' order.

    Raises:
        TrainingError: an array is not of floats, or there are too many.
    """
    if not 1 <= len(arrays) <= ARRAYS_MAX:
        raise TrainingError("A model has 1 to 4096 arrays.", where="model", mend="Pack the parameters.")
    digest = hashlib.sha256(_DOMAIN)
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise TrainingError("A model's arrays are of floats.", where="model", mend="Send parameters as float32.")
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        shape = ",".join(str(size) for size in array.shape)
        for part in (name.encode(), array.dtype.name.encode(), shape.encode(), data):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.digest()


def flatten(arrays: Arrays) -> npt.NDArray[np.float64]:
    """All parameters in one vector, in the arrays' order."""
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays.values()])


def unflatten(like: Arrays, values: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.generic]]:
    """The inverse of `flatten`, with names, shapes and dtypes of `like`."""
    result, start = {}, 0
    for name, array in like.items():
        part = values[start : start + array.size]
        result[name] = part.reshape(array.shape).astype(array.dtype)
        start += array.size
    assert start == len(values), "the vector has the length of the model"
    return result


def archive(arrays: Arrays) -> bytes:
    """The arrays as a NumPy `.npz` file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    return buffer.getvalue()


def load_archive(data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of a `.npz` file; pickled objects are refused."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
