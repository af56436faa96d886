"""The environment: the versions, kernels and settings that the bits of a run may depend on."""

from __future__ import annotations

import platform
import re
from functools import cache
from importlib import import_module, metadata
from types import ModuleType
from typing import Any, Final

import attrs
from attrs import field, frozen

from funcnet.arithmetic import Name, in_force
from funcnet.core.errors import quoted
from funcnet.core.html import table
from funcnet.core.names import LATER, register_name
from funcnet.tracing import native

_UNKNOWN: Final = "not checked"
_FACTOR: Final = re.compile(r"(\w+)='([ -&(-~]{1,200})'")
_FACTORS: Final[dict[Name, tuple[str, ...]]] = {
    "native": ("python", "numpy", "funcnet", "blas", "blas_threads", "simd", "platform"),
    "portable": ("funcnet",),
}
"""The factors that the bits of each arithmetic may depend on."""


@frozen
class Environment:
    """The factors that bits may depend on, in words; see ``environment``. "not checked" marks an unknown value.

    ``replay`` says whether programs run as Python functions or in the native interpreter, with the same bits. Beside
    "python" it says why an interpreter that was found is not used.
    """

    python: str
    numpy: str
    attrs: str
    funcnet: str
    blas: str
    blas_threads: str
    simd: str
    platform: str
    arithmetic: str
    replay: str = field(default="python", metadata=LATER)

    def entries(self) -> dict[str, str]:
        """Return the entries by name, as files and rows have them: those added later are left out at their default."""
        own = attrs.fields(Environment)
        values = {each.name: getattr(self, each.name) for each in own}
        return {each.name: values[each.name] for each in own if values[each.name] != each.default}

    def __str__(self) -> str:
        return f"Environment({', '.join(f'{name}={value!r}' for name, value in self.entries().items())})"

    def _repr_html_(self) -> str:
        return table(("factor", "value"), attrs.asdict(self).items(), "lt")


register_name(Environment, "funcnet.Environment")


def environment() -> Environment:
    """Describe this process: versions, BLAS kernels and threads, NumPy's SIMD level, platform, arithmetic and replay.

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
        platform=system(),
        arithmetic=in_force(),
        replay=native.STATE,
    )


def differences(before: str, now: str, arithmetic: Name) -> dict[str, tuple[str, str]]:
    """Return the factors in which two environments differ, of those that the bits of an arithmetic may depend on.

    Args:
        before: An environment, as ``str`` gives it and rows record it.
        now: Another one.
        arithmetic: The arithmetic; portable bits depend on the version of funcnet alone.

    Returns:
        The value in each environment, by the name of the factor.

    Example:
        >>> differences("blas='openblas', simd='X86_V2'", "blas='openblas', simd='X86_V3'", "native")
        {'simd': ('X86_V2', 'X86_V3')}
    """
    one, other = (dict(_FACTOR.findall(text)) for text in (before, now))
    pairs = {name: (one.get(name, _UNKNOWN), other.get(name, _UNKNOWN)) for name in _FACTORS[arithmetic]}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def other_environment(before: str, now: str, arithmetic: Name) -> str:
    """Say why the bits of two environments may differ, as the beginning of a message; empty if they must not.

    Example:
        >>> other_environment("funcnet='0.1.0', numpy='1.26.4'", "funcnet='0.1.0', numpy='2.0.0'", "portable")
        ''
    """
    found = differences(before, now, arithmetic)
    facts = [f"{name} was {quoted(old)} and is {new!r} here" for name, (old, new) in found.items()]
    if arithmetic == "native":
        unknown = [name for name in _FACTORS["native"] if name not in found and f"{name}='{_UNKNOWN}'" in now]
        facts += [f"{name} is not known" for name in unknown]
    scope = "environments" if arithmetic == "native" else "versions of funcnet"
    return f"{', '.join(facts)}, and {arithmetic} bits need not be equal across {scope}: " if facts else ""


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _UNKNOWN


@cache
def system() -> str:
    """Return the operating system, the architecture and the C library, as far as Python knows them."""
    try:
        libc = platform.libc_ver()
    except OSError:  # it reads the interpreter's file, which does not exist in WebAssembly
        libc = ("", "")
    return " ".join(part for part in (platform.system(), platform.machine(), *libc) if part)


def _blas() -> tuple[str, str]:
    try:
        found: list[dict[str, Any]] = import_module("threadpoolctl").threadpool_info()
    except (ImportError, OSError):  # it is not installed, or the system does not list the libraries of a process
        return _UNKNOWN, _UNKNOWN
    libraries = [library for library in found if library["user_api"] == "blas"]
    own = [library for library in libraries if "numpy" in library["filepath"]] or libraries
    names = [f"{each['internal_api']} {each['version']} {each.get('architecture', '')}".strip() for each in own]
    return ", ".join(names) or _UNKNOWN, ", ".join(str(each["num_threads"]) for each in own) or _UNKNOWN


def simd_features() -> frozenset[str]:
    """Return the SIMD features that NumPy finds in this processor, by NumPy's names; empty if it names none.

    Example:
        >>> simd_features() >= {"AVX", "SVE"}  # of different processors
        False
    """
    features: dict[str, bool] = getattr(_numpy_core(), "__cpu_features__", {})
    return frozenset(name for name, found in features.items() if found)


@cache
def _simd() -> str:
    """The SIMD levels that NumPy was built for and that this processor supports."""
    module, found = _numpy_core(), simd_features()
    levels = (*getattr(module, "__cpu_baseline__", ()), *getattr(module, "__cpu_dispatch__", ()))
    return " ".join(level for level in levels if level in found) or _UNKNOWN


@cache
def _numpy_core() -> ModuleType | None:
    """NumPy's extension module, whose name depends on the version of NumPy."""
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None
