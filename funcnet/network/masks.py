"""Masks as data: ``masked`` returns a network whose layers ignore the padded steps of a batch of sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from funcnet.core.arrays import Array, adopt
from funcnet.core.checks import check_array, first_true
from funcnet.core.errors import ConfigError, DTypeError, ShapeError
from funcnet.core.records import check_nesting, check_tree, fields_of, replace_unchecked
from funcnet.core.trees import leaves
from funcnet.network.layer import N, Network


def masked(params: N, mask: Array | None) -> N:
    """The network with a mask in each layer that ignores padded steps, or without masks for ``masked(net, None)``.

    A mask is data, as a mode is: each field ``mask: Mask | None`` of a layer gets it, also in a combinator.
    A network without such layers is returned unchanged. ``Masked(net)`` makes the mask from the network's own input.

    Args:
        params: The network.
        mask: 1.0 for a valid step and 0.0 for a padded step, shape (B, T), in the network's dtype; or None. The numbers
            of padded steps must be finite and of ordinary size, such as 0.

    Raises:
        ShapeError, DTypeError: If the mask does not have shape (B, T) and the network's dtype.
        ConfigError: If an element of the mask is neither 0 nor 1.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> x, mask = np.array([[[1.0], [3.0], [99.0]]]), np.array([[1.0, 1.0, 0.0]])
        >>> fn.forward(fn.masked(fn.MeanOverTime(), mask), x)
        array([[2.]])
    """
    check_tree("masked", params)
    if mask is not None:
        check_array("masked", "mask", mask, ("B", "T"))
        bad = (mask != 0) & (mask != 1)
        if bad.any():
            first, where = first_true(bad)
            raise ConfigError(f"mask must be 0.0 or 1.0, got mask[{where}] = {mask[first]}", subject="masked")
        for leaf in leaves(params):
            if leaf.field not in fields_of(type(leaf.record)).masks and leaf.array.dtype != mask.dtype:
                got = f"got {mask.dtype}; use mask.astype(np.{leaf.array.dtype})"
                raise DTypeError(f"mask must be {leaf.array.dtype} to match {leaf.path}, {got}", subject="masked")
        mask = adopt(mask)
    return with_mask(params, mask)


def with_mask(params: N, mask: Array | None) -> N:
    """``masked`` without checks, for a mask that is known to be valid and locked."""
    return map_masks(lambda _: mask, params)


def map_masks(function: Callable[[Array | None], Array | None], params: N) -> N:
    """The network in which each mask, or None, is replaced by ``function(mask)``, without checks."""
    check_nesting("masked", params)
    return cast("N", _mapped(function, params))


def _mapped(function: Callable[[Array | None], Array | None], params: Network) -> Network:
    if isinstance(params, tuple):
        return tuple(_mapped(function, inner) for inner in params)
    fields = fields_of(type(params))
    changes: dict[str, Any] = {name: _mapped(function, getattr(params, name)) for name in fields.every_network}
    changes |= {name: function(getattr(params, name)) for name in fields.masks}
    return replace_unchecked(params, changes) if changes else params


def masks_of(params: Network) -> Iterator[Array | None]:
    """Yield the mask, or None, of each layer that has the field, also in combinators."""
    if isinstance(params, tuple):
        for inner in params:
            yield from masks_of(inner)
        return
    fields = fields_of(type(params))
    yield from (getattr(params, name) for name in fields.masks)
    for name in fields.every_network:
        yield from masks_of(getattr(params, name))


def check_mask(subject: str, mask: Array | None, x: Array) -> None:
    """Check in a layer's forward that the layer's mask has one element for each step. Shapes: mask (B, T), x (B, T, C).

    Raises:
        ShapeError: If the mask was made for other sequences.
    """
    if mask is not None and mask.shape != x.shape[:2]:
        wanted = f"mask must have shape {x.shape[:2]} to match x {x.shape}, got {mask.shape}"
        fix = "use fn.masked(net, mask) with the mask of these sequences"
        if len(mask) == len(x):
            fix += ", and put layers that change the number of steps after this one"
        raise ShapeError(f"{wanted}; {fix}", subject=subject)


def check_steps(subject: str, x: Array) -> None:
    """Check that sequences have a step. Shapes: x (B, T, C).

    Raises:
        ShapeError: If T is 0.
    """
    if x.shape[1] == 0:
        raise ShapeError(f"x must have at least one step, got {x.shape}", subject=subject)


def check_mask_field(subject: str, mask: Array | None) -> None:
    """Check in a record's ``check`` that a mask, if there is one, has shape (B, T).

    Raises:
        ShapeError: If it has another rank.
    """
    if mask is not None:
        check_array(subject, "mask", mask, ("B", "T"))
