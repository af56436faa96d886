"""What a layer is: a record of parameters with a registered rule, its pure forward and backward functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

from attrs import frozen

from funcnet.arithmetic import Operation as Operation  # noqa: PLC0414  # for others
from funcnet.arrays import Array
from funcnet.errors import ConfigError, StructureError
from funcnet.keys import Key
from funcnet.records import Record, check_tree, fields_of, register_name


@frozen(eq=False)
class Layer(Record):
    """The base of every layer: a frozen record whose fields' roles are their annotations."""


Network: TypeAlias = "Layer | tuple[Network, ...]"
"""A layer, or a tuple of networks."""

N = TypeVar("N", bound=Network)
L = TypeVar("L", bound=Layer)


@frozen(eq=False)
class Pullback(Generic[N]):
    """What ``vjp`` returns beside y: a pure function ``g -> (grad_x, grad_params)``.

    ``params_only(g)`` is the same without ``grad_x``, for the place where nobody needs it; ``grad_x(g)`` is ``grad_x``
    alone, for what is frozen.
    """

    both: Callable[[Array], tuple[Array, N]]
    params_only: Callable[[Array], N]
    x_only: Callable[[Array], Array] | None = None

    def __call__(self, g: Array) -> tuple[Array, N]:
        """The gradients of ``<g, y>`` by x and by every parameter."""
        return self.both(g)

    def grad_x(self, g: Array) -> Array:
        """The gradient by x; by ``x_only``, if the layer has it, without computing the others."""
        return self.both(g)[0] if self.x_only is None else self.x_only(g)


Shape: TypeAlias = tuple[int, ...]
"""The shape of a row, an array's without the batch: ``(784,)``, ``(28, 28, 1)``."""


@frozen(eq=False)
class Plan(Generic[N]):
    """A network bound to buffers, for a fold over batches of one shape.

    ``forward`` computes ``output`` from the buffer of the input. ``backward(g, grads, into)`` gives the operations that
    compute the parameters' gradients into ``grads`` and, unless ``into`` is None, the input's gradient into ``into``.
    ``enter(params)`` begins a step with the network as it is in that step: the same arrays, other keys.
    ``x_only(g, into)`` gives the operations that compute the input's gradient alone, if there are fewer of them.
    """

    output: Array
    forward: Sequence[Operation]
    backward: Callable[[Array, N, Array | None], Sequence[Operation]]
    enter: Callable[[N], None] = lambda _: None
    x_only: Callable[[Array, Array], Sequence[Operation]] | None = None


@frozen(eq=False)
class Rule(Generic[L]):
    """The functions of a record type; see ``register_layer``."""

    forward: Callable[[L, Array], Array]
    backward: Callable[[L, Array, Array], tuple[Array, L]]
    vjp: Callable[[L, Array], tuple[Array, Pullback[L]]]
    training: Callable[[L, Key], L] | None
    is_training: Callable[[L], bool]
    calibrated: Callable[[L, Array], L] | None
    plan: Callable[[L, Array], Plan[L]] | None
    output_shape: Callable[[L, Shape], Shape] | None


_RULES: Final[dict[type[Layer], Rule[Any]]] = {}


def register_layer(
    record: type[L],
    *,
    forward: Callable[[L, Array], Array],
    backward: Callable[[L, Array, Array], tuple[Array, L]],
    vjp: Callable[[L, Array], tuple[Array, Pullback[L]]] | None = None,
    training: Callable[[L, Key], L] | None = None,
    is_training: Callable[[L], bool] | None = None,
    calibrated: Callable[[L, Array], L] | None = None,
    plan: Callable[[L, Array], Plan[L]] | None = None,
    output_shape: Callable[[L, Shape], Shape] | None = None,
    name: str | None = None,
) -> None:
    """Make a record type a layer: the open door for layers of your own.

    Forward and backward are all that an author must write; both are pure.

    Args:
        record: A class ``@frozen(eq=False) class Name(fn.Layer)``. A field annotated ``fn.Array`` or ``fn.Weight`` is
            trained.
        forward: ``(params, x) -> y``; y is C-contiguous.
        backward: ``(params, x, g) -> (grad_x, grad_params)``: the gradients of ``<g, y>``; ``grad_params`` is the
            record with its trained fields replaced, ``evolve(params, ...)``.
        vjp: ``(params, x) -> (y, pullback)``: optional, shares work between the two, with the same bits.
        training: ``(params, key) -> params`` in its training form, such as with the key: for layers that do something
            else in training. Keep the key in a field of its own: ``Repeat`` replaces it by one a repetition.
        is_training: ``params -> bool``, whether it is in that form: goes with ``training``.
        calibrated: ``(params, x) -> params`` with x's statistics, in its plain form: for layers with statistics of what
            reaches them; and for combinators, ``evolve(params, net=calibrate(params.net, x))``.
        plan: ``(params, x) -> Plan`` for the buffers params and x: optional, saves a fold the making of arrays, with
            the same bits.
        output_shape: ``(params, shape of x's rows) -> shape of y's rows``, or a ShapeError: optional, saves running it.
        name: The name in files; default module and qualified name.

    Raises:
        ConfigError: If the record is no frozen attrs class, compares by value, or is registered already; if one of
            ``training`` and ``is_training`` is given without the other.

    Example:
        See ``examples/own_layer.py``.
    """
    _check_record(record)
    if (training is None) != (is_training is None):
        raise ConfigError(f"{record.__name__} must have both of training= and is_training=, or none")
    register_name(record, name)
    _RULES[record] = Rule(
        forward=forward,
        backward=backward,
        vjp=vjp or _vjp_of(forward, backward),
        training=training,
        is_training=is_training or (lambda _: False),
        calibrated=calibrated,
        plan=plan,
        output_shape=output_shape,
    )


def _vjp_of(
    forward: Callable[[L, Array], Array], backward: Callable[[L, Array, Array], tuple[Array, L]]
) -> Callable[[L, Array], tuple[Array, Pullback[L]]]:
    def vjp(params: L, x: Array) -> tuple[Array, Pullback[L]]:
        def both(g: Array) -> tuple[Array, L]:
            return checked_pair(params, backward(params, x, g))

        return forward(params, x), Pullback(both, lambda g: both(g)[1])

    return vjp


def checked_pair(layer: L, result: tuple[Array, L]) -> tuple[Array, L]:
    """What a layer's backward returned, if it is a pair.

    Raises:
        StructureError: Says what it got.
    """
    if type(result) is not tuple or len(result) != 2:
        got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        wanted = f"backward must return (grad_x, grad_params), got {got}"
        raise StructureError(wanted, subject=type(layer).__name__)
    return result


def _check_record(record: type[Layer]) -> None:
    fix = f"write @frozen(eq=False) class {getattr(record, '__name__', record)}(Layer)"
    if not (isinstance(record, type) and issubclass(record, Layer)):
        raise ConfigError(f"register_layer needs a subclass of Layer, got {record!r}; {fix}")
    if "__attrs_attrs__" not in record.__dict__ or record.__setattr__ is object.__setattr__:
        raise ConfigError(f"{record.__name__} must be a frozen attrs class; {fix}")
    if record.__eq__ is not object.__eq__:
        raise ConfigError(f"{record.__name__} must not compare by value, its fields may be arrays; {fix}")
    fields_of(record)


def rule_of(layer: L) -> Rule[L]:
    """The rule of a layer's exact type.

    Raises:
        StructureError: If the value is no layer.
        ConfigError: If its type is not registered.
    """
    rule = _RULES.get(type(layer))
    if rule is None:
        raise _no_rule(layer)
    return rule


def _no_rule(layer: Layer) -> ConfigError | StructureError:
    try:
        check_tree("", layer)
    except StructureError as error:
        return error
    kind = type(layer).__name__
    return ConfigError(f"{kind} has no rule; call register_layer({kind}, forward=..., backward=...)")
