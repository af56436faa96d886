"""A PyTorch ``state_dict`` as modules: the arrays of each module, and the order of the modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, cast

from attrs import frozen

from funcnet.core.errors import ConfigError, listed, quoted
from funcnet.interop.torch_layers import FORMS

Modules: TypeAlias = dict[str, dict[str, object]]
"""The arrays of each module by their own names, in the order of the ``state_dict``."""

COUNTER: Final = "num_batches_tracked"
"""The array of a ``BatchNorm`` that funcnet does not need."""

FROM: Final = "from_torch"

_PARAMETRIZED: Final = re.compile(r"(^|\.)parametrizations\.|(^|\.)(weight|bias)_(g|v|orig|u|mask)$")
_PART: Final = re.compile(r"((?:weight|bias)_(?:ih|hh))(_l(\d+)(_reverse)?)")
_KNOWN: Final = {name.rpartition(".")[2] for form in FORMS.values() for name in form.fields}


def joined(module: str, own: str) -> str:
    """The full name of an array of a module.

    Example:
        >>> joined("0", "weight"), joined("", "weight"), joined("positions", "")
        ('0.weight', 'weight', 'positions')
    """
    return f"{module}.{own}" if module and own else module or own


def all_quoted(names: Iterable[str]) -> str:
    """The first six names in quotation marks."""
    return listed(map(quoted, names))


# ------------------------------------------------------------------------------------------------- modules


def modules_of(state: object) -> Modules:
    """The arrays of each module, without the counters of ``BatchNorm``.

    A bare parameter is a module whose only array has an empty name. An attention has the arrays of its ``out_proj``.

    Raises:
        ConfigError: If state is not a mapping of names, or if weights are parametrized.
    """
    if not isinstance(state, Mapping):
        fix = "; use model.state_dict()" if hasattr(state, "state_dict") else ""
        raise ConfigError(f"state must be a mapping of names to arrays, got {type(state).__name__}{fix}", subject=FROM)
    modules: Modules = {}
    for name, value in cast("Mapping[object, object]", state).items():
        if not isinstance(name, str):
            raise ConfigError(f"state must map names to arrays, got the name {quoted(name)}", subject=FROM)
        if isinstance(value, Mapping):
            fix = f"use state[{quoted(name)}] or another mapping in it"
            raise ConfigError(f"state must map names to arrays, got a mapping at {quoted(name)}; {fix}", subject=FROM)
        module, _, own = name.rpartition(".")
        if own != COUNTER:
            modules.setdefault(module, {})[own] = value
    modules = _with_out_proj(_with_bare_parameters(modules))
    strange = [name for name in array_names(modules) if _PARAMETRIZED.search(name)]
    if strange:
        reason = f"the weights of {all_quoted(strange)} are parametrized (weight or spectral normalization, pruning)"
        fix = "make them plain in PyTorch, with torch.nn.utils.parametrize.remove_parametrizations for example"
        raise ConfigError(f"{reason}; {fix}", subject=FROM)
    return modules


def _with_bare_parameters(modules: Modules) -> Modules:
    """Each array in a module without any name of a layer's array is a module of its own."""
    found: Modules = {}
    for module, own in modules.items():
        is_bare = not any(name in _KNOWN or _PART.fullmatch(name) for name in own)
        found |= {joined(module, name): {"": array} for name, array in own.items()} if is_bare else {module: own}
    return found


def _with_out_proj(modules: Modules) -> Modules:
    """The arrays of ``nn.MultiheadAttention`` with those of its second projection."""
    found: Modules = {}
    for module, own in modules.items():
        outer, _, last = module.rpartition(".")
        if last == "out_proj" and "in_proj_weight" in modules.get(outer, {}):
            found[outer] = found[outer] | {f"out_proj.{name}": array for name, array in own.items()}
        else:
            found[module] = own
    return found


def array_names(modules: Modules, chosen: Iterable[str] | None = None) -> list[str]:
    """The full names of the arrays of some modules."""
    return [joined(name, own) for name in (modules if chosen is None else chosen) for own in modules[name]]


# --------------------------------------------------------------------------------------------------- order


def in_order(modules: Modules) -> list[str]:
    """The names of the modules in the order of numbers if only numbers distinguish them, or as they are listed.

    Raises:
        ConfigError: If they are listed by the alphabet.
    """
    if differ_in_numbers(modules):
        return sorted(modules, key=_natural)
    if _may_be_alphabetical(modules):
        reason = "state lists its names by the alphabet, as a safetensors file does, and words do not show an order"
        order = f"which may differ from {all_quoted(sorted(modules, key=_natural))}"
        fix = f"pass names=, the modules in the order in which the model applies them, {order}"
        raise ConfigError(f"{reason}; {fix}", subject=FROM)
    return list(modules)


def differ_in_numbers(names: Iterable[str]) -> bool:
    """Whether the parts in which dotted names first differ are all numbers.

    Example:
        >>> differ_in_numbers(["0.a", "1.b"]), differ_in_numbers(["0.a", "0.b"])
        (True, False)
    """
    inside: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        parts = tuple(name.split("."))
        for depth, part in enumerate(parts):
            inside.setdefault(parts[:depth], set()).add(part)
    return all(len(parts) == 1 or all(part.isdecimal() for part in parts) for parts in inside.values())


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts "fc10" behind "fc2": numbers by their length, then by their digits."""
    parts: list[str] = re.findall(r"\d+|\D+", name)
    return [(len(part) if part.isdecimal() else -1, part) for part in parts]


def _may_be_alphabetical(modules: Modules) -> bool:
    """Whether the names may have been sorted: PyTorch lists weights before biases, the alphabet after them."""
    kinds = [["bias" in name for name in own if "bias" in name or "weight" in name] for own in modules.values()]
    pairs = [biases for biases in kinds if len(set(biases)) == 2]
    if pairs:
        return any(biases[0] for biases in pairs)
    return list(modules) == sorted(modules)


# --------------------------------------------------------------------------------------------------- parts


@frozen(eq=False)
class Part:
    """The arrays of one layer: a module, or one level and direction of a recurrent module.

    Attributes:
        module: The name of the module.
        arrays: The arrays by the names that ``FORMS`` has.
        full: Their names in the ``state_dict``.
        suffix: What follows the names in a recurrent module, such as ``_l1_reverse``; else "".
    """

    module: str
    arrays: dict[str, object]
    full: dict[str, str]
    suffix: str = ""

    @property
    def reverse(self) -> bool:
        """Whether it is the part of a recurrent module that reads backward."""
        return self.suffix.endswith("_reverse")


def parts_of(module: str, own: Mapping[str, object]) -> list[Part]:
    """The parts of a module: those of a recurrent one in the order of its levels, each forward and then backward.

    Example:
        >>> [part.full for part in parts_of("gru", {"weight_ih_l1": 1, "weight_ih_l0": 1})]
        [{'weight_ih': 'gru.weight_ih_l0'}, {'weight_ih': 'gru.weight_ih_l1'}]
    """
    found: dict[tuple[int, bool], Part] = {}
    plain = Part(module, {}, {})
    for name, array in own.items():
        match = _PART.fullmatch(name)
        place = (int(match[3]), bool(match[4])) if match else None
        part = plain if place is None else found.setdefault(place, Part(module, {}, {}, match[2] if match else ""))
        part.arrays[match[1] if match else name or "weight"] = array
        part.full[match[1] if match else name or "weight"] = joined(module, name)
    parts = [found[place] for place in sorted(found)]
    if parts:  # such as the projections of an LSTM, which no layer has
        parts[0].arrays.update(plain.arrays)
        parts[0].full.update(plain.full)
    return parts or [plain]


def texts(subject: str, names: object) -> list[str]:
    """The names that the caller gives, after a check that they are a sequence of texts.

    Equal names must be next to each other: they are the levels and directions of one recurrent module.

    Raises:
        ConfigError: If they are something else.
    """
    shown, is_sequence = names, isinstance(names, Sequence) and not isinstance(names, str | bytes)
    given = [*cast("Sequence[object]", names)] if is_sequence else []
    found = [name for name in given if isinstance(name, str)]
    runs = [name for i, name in enumerate(found) if i == 0 or found[i - 1] != name]
    if not is_sequence or len(found) < len(given) or len(set(runs)) < len(runs):
        wanted = "a sequence of the names of modules, all different"
        raise ConfigError(f"names must be {wanted}, got {quoted(shown)}", subject=subject)
    return found
