"""The laws for your own layer: ``check_layer`` checks all of them in one call."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Final, ParamSpec, TypeVar, cast

import numpy as np
from attrs import frozen

from funcnet.arithmetic import sum_all
from funcnet.core.arrays import AnyArray, Array, Input, describe, is_ids, lock
from funcnet.core.checks import check_count, check_input
from funcnet.core.errors import GradientError, LawError, StructureError
from funcnet.core.html import as_printed, table
from funcnet.core.trees import Leaf, astype, check_alike, equal, leaves, same_bits
from funcnet.network.layer import Layer, checked_pair, rule_of
from funcnet.random.draws import normal
from funcnet.random.keys import Key
from funcnet.testing.arithmetic_lint import advice, past_the_door
from funcnet.testing.gradients import NOT_DIFFERENTIATED, point_of, targets_nearby, targets_of
from funcnet.testing.slopes import ATOL, RTOL, Settings, Slope, Target, element_slopes, looks_like, scales, slope

T = TypeVar("T")
P = ParamSpec("P")

_KEY: Final = Key(0).child("check_layer")
_ROUNDING: Final = 1e-13
_TWO_RESULTS: Final = "called twice gives two different results: it draws at random or keeps a state"


@frozen
class Check:
    """The result of checking one law: the place, the worst error, its tolerance, and its index.

    A tolerance of 0 means that the bits must be equal. ``kinks`` counts the places where the slopes to the left and to
    the right differ; they are compared at a point nearby, and ``skipped`` counts those that are at a kink there, too.
    """

    law: str
    where: str
    error: float = 0.0
    tolerance: float = 0.0
    index: tuple[int, ...] = ()
    kinks: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        law, where, error, tolerance, at, kinks = self.cells()
        return f"{law:12} {where:24} {error:>9} {tolerance:>9}  {at:8} {kinks:>5}".rstrip()

    def cells(self) -> tuple[str, ...]:
        """Return the texts of its line in a table."""
        numbers = (f"{self.error:.1e}", f"{self.tolerance:.1e}") if self.tolerance else ("holds", "")
        at = f"[{', '.join(map(str, self.index))}]" if self.index and self.error else ""
        return self.law, self.where, *numbers, at, str(self.kinks or "")


@frozen
class LayerReport:
    """One check per law and field; prints as a table."""

    checks: tuple[Check, ...]

    _repr_pretty_ = as_printed

    def __str__(self) -> str:
        heading = f"{'law':12} {'where':24} {'error':>9} {'tolerance':>9}  {'worst at':8} kinks"
        return "\n".join((heading, *map(str, self.checks)))

    def _repr_html_(self) -> str:
        head = ("law", "where", "error", "tolerance", "worst at", "kinks")
        return table(head, (check.cells() for check in self.checks), "llrrlr")


def check_layer(layer: Layer, x: Input, *, own_arithmetic: bool = False) -> LayerReport:
    """Check that a layer obeys the laws, in float64: one line in a test of your own layer.

    The laws are: correct shapes, for several batch sizes, and in float32, too, where every result keeps the dtype;
    purity; determinism, independent of earlier calls; linearity in g; the adjoint identity; every gradient equals its
    central difference, where a kink such as ReLU's at 0 is not an error; and the source takes its products, sums,
    exponentials and maxima of two arrays from ``funcnet.arithmetic``.

    Args:
        layer: One layer, in a form that obeys every law: a Dropout needs its key, for example.
        x: Inputs, shape (B, ...), at least one row. Ids are not differentiated: their gradient must be 0, and the laws
            about gradients are checked for the parameters alone.
        own_arithmetic: Allow the layer to compute products, sums and exponentials itself. Portable arithmetic and
            row-wise prediction then promise nothing for this layer.

    Returns:
        The worst error, its tolerance and its index, for each law and field.

    Raises:
        StructureError: If ``layer`` is a network.
        LawError: If a law is broken; the message has the law, the place, the finding, and a likely cause.

    Example:
        >>> import funcnet as fn
        >>> print(check_layer(fn.ReLU(), np.array([[1.0, -2.0, 0.0]])))
        law          where                        error tolerance  worst at kinks
        shapes       batches of 1, 2, 0           holds
        purity       x, g, parameters             holds
        determinism  twice, and after another     holds
        linearity    grad_x                     0.0e+00   3.9e-06
        gradient     x                          4.4e-13   1.4e-06  [0, 0]       1
        adjoint      x and parameters           0.0e+00   1.0e-08               1
        arithmetic   source                       holds
    """
    if isinstance(layer, tuple):
        raise StructureError("takes one layer; for a network use check_gradients", subject="check_layer")
    check_input("check_layer", "x", x)
    check_count("check_layer", "the number of elements of x", x.size)
    net = astype(layer, np.float64)
    point = point_of(x)
    with np.errstate(all="ignore"):  # an overflow breaks the law that it occurs in
        g = lock(normal(_KEY.child("g"), _guarded("shapes", "forward", _forward, net, point).shape))
        checks = [_shapes(net, point, g.dtype), _purity(net, point, g), _determinism(net, point, g)]
        checks += [*_linearity(net, point, g), *_gradients(net, point, g)]
        single = point if is_ids(point) else lock(point.astype(np.float32))
        _shapes(astype(layer, np.float32), single, np.dtype(np.float32))  # a float64 constant promotes here
    return LayerReport((*checks, _source(net, own_arithmetic=own_arithmetic)))


def _forward(layer: Layer, x: Array) -> Array:
    return rule_of(layer).forward(layer, x)


def _backward(layer: Layer, x: Array, g: Array) -> tuple[Array, Layer]:
    return checked_pair(layer, rule_of(layer).backward(layer, x, g))


def _guarded(law: str, where: str, f: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Return the result of f; an exception that f raises becomes a breach of a law."""
    try:
        return f(*arguments, **keywords)
    except Exception as error:
        if "read-only" in str(error):
            raise _breach("purity", f"{where} writes into an array in place: {error}") from error
        hint = f"{where} raised {type(error).__name__}: {error}"
        hint += "; a wrong broadcast: the batch's axis is the first one" if "broadcast" in str(error) else ""
        raise _breach(law, hint) from error


def _of(leaf: Leaf) -> str:
    return f"the gradient with respect to {leaf.path}"


def _breach(law: str, reason: str) -> LawError:
    return LawError(f"{law}: {reason}", subject="check_layer")


def _shapes(layer: Layer, x: Array, dtype: np.dtype[np.floating]) -> Check:
    sizes = (len(x), 2 * len(x), 0)
    for size in sizes:
        batch = lock(np.concatenate([x, x])[:size])
        y = _guarded("shapes", f"forward of a batch of {size}", _forward, layer, batch)
        if type(y) is not np.ndarray or y.shape[:1] != (size,) or y.dtype != dtype or not y.flags.c_contiguous:
            got = f"{_shown(y)}{_promoted(y, dtype)}"
            raise _breach("shapes", f"y must be a C-contiguous {dtype} array of {size} rows, got {got}")
        _said_shape(layer, x, y)
        grad_x, grads = _guarded("shapes", f"backward of a batch of {size}", _backward, layer, batch, np.ones_like(y))
        if type(grad_x) is not np.ndarray or grad_x.shape != batch.shape or grad_x.dtype != dtype:
            wanted = f"{dtype} {batch.shape}, {'zeros for ids' if is_ids(x) else 'like x'}"
            raise _breach("shapes", f"grad_x must be {wanted}, got {_shown(grad_x)}{_promoted(grad_x, dtype)}")
        _one_structure(layer, grads)
    return Check("shapes", f"batches of {', '.join(map(str, sizes))}")


def _promoted(got: object, dtype: np.dtype[np.floating]) -> str:
    if isinstance(got, np.ndarray) and is_ids(cast("AnyArray", got)):
        return "; x holds ids: for a layer of floats, use x.astype(np.float64)"
    wider = isinstance(got, np.ndarray) and cast("AnyArray", got).dtype == np.float64 != dtype
    return "; a constant of float64 promotes: give it x.dtype" if wider else ""


def _said_shape(layer: Layer, x: Array, y: Array) -> None:
    said = rule_of(layer).output_shape
    if said is not None:
        shape = _guarded("shapes", "output_shape", said, layer, x.shape[1:])
        if shape != y.shape[1:]:
            raise _breach(
                "shapes", f"output_shape must return {y.shape[1:]}, the shape of forward's rows, got {shape!r:.80}"
            )


def _one_structure(layer: Layer, grads: Layer) -> None:
    arrays, others = list(_guarded("shapes", "reading the gradient", leaves, grads)), list(leaves(layer))
    if [leaf.path for leaf in arrays] == [leaf.path for leaf in others]:
        for leaf, other in zip(arrays, others, strict=True):
            if leaf.trained and leaf.array.shape != other.array.shape:
                turned = leaf.array.ndim == 2 and leaf.array.T.shape == other.array.shape
                got = f"{_shown(leaf.array)}{': it is transposed' if turned else ''}"
                raise _breach("shapes", f"{_of(leaf)} must be {_shown(other.array)}, got {got}")
            if leaf.trained and leaf.array.dtype != other.array.dtype:
                got = f"{_shown(leaf.array)}{_promoted(leaf.array, other.array.dtype)}"
                raise _breach("shapes", f"{_of(leaf)} must be {_shown(other.array)}, got {got}")
    _guarded("shapes", "walking over params and gradient", check_alike, layer, grads)


def _shown(value: object) -> str:
    return describe(cast("AnyArray", value)) if isinstance(value, np.ndarray) else f"{value!r:.80}"


def _purity(layer: Layer, x: Array, g: Array) -> Check:
    inside = [leaf.array.tobytes() for leaf in leaves(layer)]
    for locked in (True, False):
        copies = x.copy(), g.copy()
        for copy in copies:
            copy.flags.writeable = not locked
        _guarded("purity", "forward", _forward, layer, copies[0])
        _guarded("purity", "backward", _backward, layer, *copies)
        for name, copy, original in zip(("x", "g"), copies, (x, g), strict=True):
            if not same_bits(copy, original):
                raise _breach("purity", f"{name} was changed")
    for leaf, before in zip(leaves(layer), inside, strict=True):
        if leaf.array.tobytes() != before:
            raise _breach("purity", f"{leaf.path} was changed")
    return Check("purity", "x, g, parameters")


def _determinism(layer: Layer, x: Array, g: Array) -> Check:
    y, (grad_x, grads) = _forward(layer, x), _backward(layer, x, g)
    if not same_bits(y, _forward(layer, x)):
        raise _breach("determinism", f"forward {_TWO_RESULTS}")
    again_x, again = _backward(layer, x, g)
    if not (same_bits(grad_x, again_x) and equal(grads, again)):
        raise _breach("determinism", f"backward {_TWO_RESULTS}")
    _forward(layer, lock(0 * x if is_ids(x) else 1 - 2 * x))
    after_x, after = _backward(layer, x, g)
    if not (same_bits(grad_x, after_x) and equal(grads, after)):
        raise _breach("determinism", "backward depends on an earlier call, not only on x: it caches an input")
    return Check("determinism", "twice, and after another")


def _linearity(layer: Layer, x: Array, g: Array) -> Iterator[Check]:
    other = lock(normal(_KEY.child("other"), g.shape))
    (a_x, a), (b_x, b) = _backward(layer, x, g), _backward(layer, x, other)
    sum_x, total = _backward(layer, x, lock(2 * g + other))
    yield _compared("grad_x", 2 * a_x + b_x, sum_x)
    for one, two, leaf, own in zip(leaves(a), leaves(b), leaves(total), leaves(layer), strict=True):
        if leaf.trained:
            if own.array.any() and same_bits(one.array, own.array) and same_bits(two.array, own.array):
                raise _breach("gradient", f"{_of(leaf)} is the parameter itself; was it forgotten in evolve?")
            yield _compared(leaf.path, 2 * one.array + two.array, leaf.array)


def _compared(where: str, wanted: Array, got: Array) -> Check:
    if not wanted.size:
        return Check("linearity", where)
    largest = float(np.maximum.reduce(np.abs(wanted), axis=None))
    error = np.abs(got - wanted)
    allowed = max(ATOL * min(largest, 1.0), _ROUNDING * largest) + RTOL * np.abs(wanted)
    share = np.where(error == 0, 0.0, np.nan_to_num(error / allowed, nan=np.inf))
    index = tuple(int(i) for i in np.unravel_index(int(share.argmax()), share.shape))
    if share[index] > 1:
        at = f"{where}[{', '.join(map(str, index))}]"
        raise _breach("linearity", f"backward of 2 g + h gives {got[index]:.8g} at {at}, not {wanted[index]:.8g}")
    return Check("linearity", where, float(error[index]), float(allowed[index]), index)


def _gradients(layer: Layer, x: Array, g: Array) -> Iterator[Check]:
    """Compare every gradient with differences, and then all of them along random directions."""
    targets = _targets(layer, x, g)
    if is_ids(x):
        yield Check("gradient", NOT_DIFFERENTIATED)
    settings = Settings(strict=_elementwise(layer, x))
    nearby = targets_nearby(layer, x, g, _forward, _backward)
    for number, target in enumerate(targets):
        found = element_slopes(target, nearby(number), settings)
        yield _gradient(target, found, targets, len(x))
    yield _adjoint(targets, "parameters" if is_ids(x) else "x and parameters")


def _elementwise(layer: Layer, x: Array) -> bool:
    """Whether another order of a row's elements gives the same order of y's."""
    if is_ids(x):
        return False
    draw = lock(normal(_KEY.child("draw"), x.shape))
    y, turned = (_forward(layer, lock(each)).ravel() for each in (draw, draw.ravel()[::-1].reshape(x.shape)))
    return y.shape == turned.shape == (x.size,) and same_bits(y, turned[::-1].copy())


def _targets(layer: Layer, x: Array, g: Array) -> list[Target]:
    finite = np.isfinite(y := _forward(layer, x))
    if not finite.all():
        index = np.unravel_index(int(finite.argmin()), y.shape)
        at = ", ".join(map(str, index))
        raise _breach("gradient", f"y[{at}] is {y[index]}: choose an x at which the layer's output is finite")
    try:
        return targets_of(layer, x, g, _forward, _backward)
    except GradientError as error:
        raise _breach("gradient", error.message) from error


def _adjoint(targets: list[Target], where: str) -> Check:
    """Compare ``<g, J v>`` with ``<J' g, v>`` along a random direction v of each array."""
    worst, kinks = Slope(0.0, 0.0, 0.0, ATOL), 0
    for target in targets:
        v = scales(target.array) * normal(_KEY.child("v", target.name), target.array.shape)

        def along(t: float, target: Target = target, v: Array = v) -> Array:
            return target.f(lock(target.array + t * v))

        products = target.gradient * v
        found = slope(along, sum_all(products), atol=ATOL * min(sum_all(np.abs(products)), 1.0))
        if found.kink:  # a line may cross several kinks; a slope then need not lie between the two
            kinks += 1
        elif found.share > worst.share:
            worst = found
    if worst.share > 1:
        numbers = f"{worst.error:.1e}, where {worst.tolerance:.1e} is allowed"
        raise _breach("adjoint", f"<g, J v> and <J' g, v> differ by {numbers}")
    return Check("adjoint", where, worst.error, worst.tolerance, kinks=kinks)


def _gradient(target: Target, found: dict[tuple[int, ...], Slope], targets: list[Target], rows: int) -> Check:
    worst = max(found, key=lambda index: found[index].share, default=())
    if worst not in found:
        return Check("gradient", target.name)
    one = found[worst]
    if one.share > 1:
        at = f"{target.name}[{', '.join(map(str, worst))}]"
        reason = f"the gradient with respect to {at} must be {one.value:.8g}, got {one.got:.8g}"
        others = ((other.name, _wanted(other)) for other in targets if other is not target)
        guess = looks_like(target.gradient, _wanted(target), rows, others)
        raise _breach("gradient", f"{reason}; {guess}" if guess else reason)
    kinks, skipped = (sum(getattr(each, name) for each in found.values()) for name in ("kink", "skipped"))
    return Check("gradient", target.name, one.error, one.tolerance, worst, kinks, skipped)


def _wanted(target: Target) -> Array:
    wanted = np.empty(target.array.shape)
    for index, found in element_slopes(target, (), Settings()).items():
        wanted[index] = found.value
    return wanted


# --------------------------------------------------------------------------------------------------- source


def _source(layer: Layer, *, own_arithmetic: bool) -> Check:
    if own_arithmetic:
        return Check("arithmetic", "the layer's own")
    rule, seen = rule_of(layer), "source"
    for name, function in (("forward", rule.forward), ("backward", rule.backward)):
        for each in _functions(function, []):
            try:
                found = past_the_door(textwrap.dedent(inspect.getsource(each)), each.__globals__)
            except (OSError, TypeError, SyntaxError):
                seen = "source, as far as found"
                continue
            if found:
                fix = f"{advice(found)}, or pass own_arithmetic=True"
                raise _breach("arithmetic", f"{name} does {', '.join(sorted(set(found)))} itself; {fix}")
    return Check("arithmetic", seen)


def _functions(function: object, seen: list[object]) -> list[FunctionType]:
    """A function and the functions that it closes over or names, recursively; funcnet's own have a separate test."""
    if not isinstance(function, FunctionType) or function in seen:
        return []
    seen.append(function)
    inner: list[object] = [cell.cell_contents for cell in function.__closure__ or ()]
    ours = _module(function).startswith("funcnet.")
    if not ours:
        inner += [function.__globals__.get(name) for name in function.__code__.co_names]
    theirs = [each for one in inner if _is_theirs(one, ours=ours) for each in _functions(one, seen)]
    return theirs if ours else [function, *theirs]


def _is_theirs(value: object, *, ours: bool) -> bool:
    """Whether to follow a function: always from a funcnet closure; otherwise only one outside of funcnet and NumPy."""
    return isinstance(value, FunctionType) and (ours or not _module(value).startswith(("funcnet.", "numpy")))


def _module(function: FunctionType) -> str:
    """The name of a function's module; empty for a function without one, such as one typed in."""
    return getattr(function, "__module__", None) or ""
