"""Layers: records of parameters with a registered rule, which holds the pure forward and backward functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Never, TypeAlias, TypeVar, cast

from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.checks import check_callable
from funcnet.core.errors import ConfigError, FuncnetError, StructureError, plural
from funcnet.core.html import network_table
from funcnet.core.names import give_name, is_replaced
from funcnet.core.records import Record, check_tree, fields_of
from funcnet.random.keys import Key
from funcnet.tracing import recording
from funcnet.tracing.replay import discard_programs

_FUNCTIONS: Final = {
    "forward": "fn.forward(net, x)",
    "backward": "fn.backward(net, x, g)",
    "predict": "fn.predict(net, x, task)",
    "fit": "fn.train_epoch(step, net, batches)",
    "train": "fn.training(net, key)",
    "eval": "fn.plain(net)",
    "parameters": "fn.trained_arrays(net)",
}
"""The functions that take the place of the methods of layers in other libraries."""


@frozen(eq=False)
class Layer(Record):
    """The base class of every layer: a frozen record. The annotation of a field defines the role of the field."""

    def _repr_html_(self) -> str:
        return network_table(self)

    if not TYPE_CHECKING:  # a type checker refuses these calls by itself

        def __getattr__(self, name: str) -> Never:
            fix = _FUNCTIONS.get(name)
            advice = f"; a layer is a record of parameters, so use {fix}" if fix else ""
            reason = f"{type(self).__name__!r} object has no attribute {name!r}{advice}"
            raise AttributeError(reason, name=name, obj=self)


Network: TypeAlias = "Layer | tuple[Network, ...]"
"""A layer, or a tuple of networks."""

N = TypeVar("N", bound=Network)
L = TypeVar("L", bound=Layer)


@frozen(eq=False)
class Pullback(Generic[N]):
    """The second result of ``vjp``: a pure function ``g -> (grad_x, grad_params)``.

    ``params_only(g)`` computes only ``grad_params`` and skips everything that it does not need.
    """

    both: Callable[[Array], tuple[Array, N]]
    params_only: Callable[[Array], N]

    def __call__(self, g: Array) -> tuple[Array, N]:
        """The gradients of ``<g, y>`` by x and by every parameter."""
        return self.both(g)


Shape: TypeAlias = tuple[int, ...]
"""The shape of a row, which is an array's shape without the batch: ``(784,)``, ``(28, 28, 1)``."""


@frozen(eq=False)
class Rule(Generic[L]):
    """The functions of a record type; see ``register_layer``."""

    forward: Callable[[L, Array], Array]
    backward: Callable[[L, Array, Array], tuple[Array, L]]
    training: Callable[[L, Key], L] | None
    is_training: Callable[[L], bool]
    plain: Callable[[L], L] | None
    calibrated: Callable[[L, Array], L] | None
    output_shape: Callable[[L, Shape], Shape] | None


_RULES: Final[dict[type[Layer], Rule[Any]]] = {}


def register_layer(
    record: type[L],
    *,
    forward: Callable[[L, Array], Array],
    backward: Callable[[L, Array, Array], tuple[Array, L]],
    training: Callable[[L, Key], L] | None = None,
    is_training: Callable[[L], bool] | None = None,
    plain: Callable[[L], L] | None = None,
    calibrated: Callable[[L, Array], L] | None = None,
    output_shape: Callable[[L, Shape], Shape] | None = None,
    name: str | None = None,
    **removed: Never,
) -> None:
    """Register a record type as a layer; use it for your own layers.

    An author must write only forward and backward. Both must be pure. In ``__main__``, which is a notebook or the
    prompt, a class of the same qualified name replaces the earlier one, whose layers are then refused.

    Args:
        record: A class ``@frozen(eq=False) class Name(fn.Layer)``. A field annotated ``fn.Array`` or ``fn.Weight`` is
            trained.
        forward: ``(params, x) -> y``; y must be C-contiguous.
        backward: ``(params, x, g) -> (grad_x, grad_params)``, the gradients of ``<g, y>``; ``grad_params`` is the
            record with its trained fields replaced, ``evolve(params, ...)``. If x holds ids, ``grad_x`` is
            ``np.zeros(x.shape, g.dtype)``.
        training: ``(params, key) -> params`` returns the layer in its training form, for example with the key. It is
            for layers that behave differently in training. Store the key in a separate field: ``Repeat`` replaces it.
        is_training: ``params -> bool`` returns whether the layer is in its training form; required with ``training``.
        plain: ``params -> params`` returns the layer that ``training`` was called with. It is needed only if
            ``training`` does more than to set fields whose plain value is their default, such as ``key: Key | None =
            None``: the function ``plain`` returns those fields to their defaults.
        calibrated: ``(params, x) -> params`` returns the layer in its plain form with the statistics of x. It is for
            layers with statistics of their inputs. For combinators: ``evolve(params, net=calibrate(params.net, x))``.
        output_shape: ``(params, shape of x's rows) -> shape of y's rows``, or a ShapeError. Optional; without it, the
            layer is run on an empty batch of floats, so a layer of ids needs it.
        name: The name in files. The default is the module and the qualified name.
        removed: The keywords of earlier versions, ``vjp`` and ``plan``. They are refused with the advice to delete
            them.

    Raises:
        ConfigError: If the record is not a frozen attrs class, compares by value, or is already registered; if forward
            or backward is not a function; if only one of ``training`` and ``is_training`` is given, or ``plain``
            without them.

    Example:
        See ``examples/own_layer.py``.
    """
    check_keywords("register_layer", removed, ("vjp", "plan"), "forward and backward are all that a layer needs")
    _check_record(record)
    check_callable("register_layer", "forward", forward)
    check_callable("register_layer", "backward", backward)
    if (training is None) != (is_training is None):
        raise ConfigError(f"{record.__name__} must have both training= and is_training=, or neither")
    if plain is not None and training is None:
        raise ConfigError(f"{record.__name__} has plain= without a training form; give training= and is_training=")
    old = give_name(record, name)
    if old is not None:
        _RULES.pop(cast("type[Layer]", old), None)
        discard_programs()
    _RULES[record] = Rule(
        forward=forward,
        backward=backward,
        training=training,
        is_training=is_training or (lambda _: False),
        plain=plain,
        calibrated=calibrated,
        output_shape=output_shape,
    )


def check_keywords(function: str, given: Iterable[str], removed: tuple[str, ...], reason: str) -> None:
    """Refuse unknown keywords; for a removed keyword, the message says why the caller can delete it.

    Raises:
        ConfigError: If a keyword was removed.
        TypeError: If a keyword never existed.
    """
    for keyword in given:
        if keyword in removed:
            raise ConfigError(f"{function} does not take {keyword}=; delete it: {reason}")
        raise TypeError(f"{function}() got an unexpected keyword argument {keyword!r}")


def checked_pair(layer: L, result: tuple[Array, L]) -> tuple[Array, L]:
    """The result of a layer's backward, after a check that it is a pair.

    Raises:
        StructureError: If it is not a pair.
    """
    if type(result) is not tuple or len(result) != 2:
        got = plural(len(result), "value") if isinstance(result, tuple) else type(result).__name__
        wanted = f"backward must return (grad_x, grad_params), got {got}"
        raise StructureError(wanted, subject=type(layer).__name__)
    return result


class entering:  # noqa: N801  # Callers use it like a function.
    """``with entering(position)`` marks the work of a fold at one position of a tuple of networks.

    An error that leaves the block gets the position in front of its path. A trace records the path.
    """

    __slots__ = ("position", "tape")

    def __init__(self, position: int) -> None:
        self.position = position
        self.tape = recording()

    def __enter__(self) -> None:
        if self.tape is not None:
            self.tape.path.append(str(self.position))

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self.tape is not None:
            self.tape.path.pop()
        if isinstance(error, FuncnetError):
            error.enter(self.position)


def _check_record(record: type[Layer]) -> None:
    fix = f"write @frozen(eq=False) class {getattr(record, '__name__', record)}(Layer)"
    if not (isinstance(record, type) and issubclass(record, Layer)):
        raise ConfigError(f"register_layer needs a subclass of Layer, got {record!r}; {fix}")
    if "__attrs_attrs__" not in record.__dict__ or record.__setattr__ is object.__setattr__:
        raise ConfigError(f"{record.__name__} must be a frozen attrs class; {fix}")
    if record.__eq__ is not object.__eq__:
        raise ConfigError(f"{record.__name__} must not compare by value, because its fields may be arrays; {fix}")
    fields_of(record)


def rule_of(layer: L) -> Rule[L]:
    """The rule of a layer's exact type.

    Raises:
        StructureError: If the value is not a layer.
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
    if is_replaced(type(layer)):
        return ConfigError(f"{kind} was defined again after this layer was created; create the layer again")
    return ConfigError(f"{kind} has no rule; call register_layer({kind}, forward=..., backward=...)")
