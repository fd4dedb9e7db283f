"""Keras on its PyTorch backend, unless another runs in this process already; Keras asks once, when it is imported."""

import os

_BACKEND = "KERAS_BACKEND"

_before = os.environ.get(_BACKEND)
os.environ[_BACKEND] = "torch"
try:
    import keras
finally:
    if _before is None:
        del os.environ[_BACKEND]
    else:
        os.environ[_BACKEND] = _before

__all__ = ["keras"]
