"""The environment: the versions, kernels and settings that the bits of a run may depend on."""

from __future__ import annotations

import platform
from functools import cache
from importlib import import_module, metadata
from typing import Any, Final

from attrs import frozen

from funcnet.arithmetic import in_force
from funcnet.core.names import register_name

_UNKNOWN: Final = "not checked"


@frozen
class Environment:
    """The factors that bits may depend on, in words; see ``environment``. "not checked" marks an unknown value."""

    python: str
    numpy: str
    attrs: str
    funcnet: str
    blas: str
    blas_threads: str
    simd: str
    platform: str
    arithmetic: str


register_name(Environment, "funcnet.Environment")


def environment() -> Environment:
    """Describe this process: versions, BLAS kernels and threads, NumPy's SIMD level, platform and arithmetic.

    BLAS is inspected with threadpoolctl, which ``pip install funcnet[audit]`` installs.

    Example:
        >>> import funcnet as fn
        >>> fn.environment().arithmetic
        'native'
    """
    blas, threads = _blas()
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        numpy=_version("numpy"),
        attrs=_version("attrs"),
        funcnet=_version("funcnet"),
        blas=blas,
        blas_threads=threads,
        simd=_simd(),
        platform=_platform(),
        arithmetic=in_force(),
    )


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _UNKNOWN


@cache
def _platform() -> str:
    return " ".join(part for part in (platform.system(), platform.machine(), *platform.libc_ver()) if part)


def _blas() -> tuple[str, str]:
    try:
        found: list[dict[str, Any]] = import_module("threadpoolctl").threadpool_info()
    except ImportError:
        return _UNKNOWN, _UNKNOWN
    libraries = [library for library in found if library["user_api"] == "blas"]
    own = [library for library in libraries if "numpy" in library["filepath"]] or libraries
    names = [f"{each['internal_api']} {each['version']} {each.get('architecture', '')}".strip() for each in own]
    return ", ".join(names) or _UNKNOWN, ", ".join(str(each["num_threads"]) for each in own) or _UNKNOWN


@cache
def _simd() -> str:
    """The SIMD levels that NumPy was built for and that this processor supports."""
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            module = import_module(name)
        except ImportError:
            continue
        levels = (*getattr(module, "__cpu_baseline__", ()), *getattr(module, "__cpu_dispatch__", ()))
        features: dict[str, bool] = getattr(module, "__cpu_features__", {})
        return " ".join(level for level in levels if features.get(level)) or _UNKNOWN
    return _UNKNOWN
