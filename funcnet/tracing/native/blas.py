"""The BLAS that NumPy uses: the addresses of its products of matrices."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

import numpy as np

_NAMES: Final = ("sgemm", "dgemm", "sgemv", "dgemv")
_FORMS: Final = (("scipy_", "64_", 1), ("", "64_", 1), ("scipy_", "", 0), ("", "", 0))
"""Prefix and suffix of the names, and whether the integers have 64 bits: those of NumPy's wheels come first."""
_MODULES: Final = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")


def products() -> dict[str, int]:
    """Return the address of each product, and as ``"wide"`` whether its integers have 64 bits; {} if it is not found.

    NumPy's extension module is opened again: the system then looks for the names in the libraries that NumPy is linked
    with, and not in those of other packages. Names without a suffix are used if they are OpenBLAS's with integers of 32
    bits. Windows finds no names in this way.
    """
    config: Any = getattr(np.__config__, "CONFIG", {})
    blas = config.get("Build Dependencies", {}).get("blas", {})
    is_narrow = "openblas" in blas.get("name", "") and "USE64BITINT" not in str(blas.get("openblas configuration", ""))
    for name in _MODULES:
        with suppress(ImportError, OSError):
            library = ctypes.CDLL(str(import_module(name).__file__))
            for prefix, suffix, wide in _FORMS:
                if wide or is_narrow:
                    with suppress(AttributeError):
                        found = [getattr(library, f"{prefix}cblas_{each}{suffix}") for each in _NAMES]
                        addresses = [ctypes.cast(each, ctypes.c_void_p).value or 0 for each in found]
                        return {**dict(zip(_NAMES, addresses, strict=True)), "wide": wide}
    return {}


PRODUCTS: Final = products()
