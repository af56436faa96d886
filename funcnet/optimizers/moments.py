"""Moments: the named networks that an optimizer keeps between updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from attrs import frozen

from funcnet.core.errors import StructureError
from funcnet.core.records import check_tree
from funcnet.network.layer import N, Network

M = TypeVar("M", bound=Network)

INNER: Final = "inner."
"""The prefix of the names of an inner optimizer's moments."""


@frozen(eq=False, repr=False)
class Moments(Generic[N]):
    """Named networks with the structure of the parameters, such as ``moments["velocity"]``. Iteration yields the names.

    Files and fingerprints contain the networks in order, without the names. The optimizer's ``init`` gives the names.

    Args:
        names: One name for each network. The names are distinct.
        networks: The networks.
        total: The sum of the totals of the gradients that ``Accumulation`` has added since its last update; None for
            other optimizers.

    Raises:
        StructureError: If the names do not match the networks, or an item is not a network.

    Example:
        >>> import funcnet as fn
        >>> moments = Moments.of(mean=fn.dense(fn.Key(0), 2, 1), square=fn.dense(fn.Key(1), 2, 1))
        >>> moments
        Moments(mean=Dense(weight=float32 (2, 1), bias=float32 (1,)), square=Dense(weight=float32 (2, 1), bias=float32 (1,)))
        >>> moments["square"]
        Dense(weight=float32 (2, 1), bias=float32 (1,))
        >>> list(moments), "square" in moments, len(moments)
        (['mean', 'square'], True, 2)
    """  # noqa: E501  # a repr is one line

    names: tuple[str, ...]
    networks: tuple[N, ...]
    total: float | None = None

    def __attrs_post_init__(self) -> None:
        names, networks = self.names, self.networks
        if not isinstance(names, tuple) or not isinstance(networks, tuple) or len(names) != len(networks):
            got = f"got {names!r:.80} and {networks!r:.80}"
            raise StructureError(f"there must be a name for each network, {got}", subject="Moments")
        if len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
            raise StructureError(f"names must be distinct strings, got {names!r:.80}", subject="Moments")
        for network in networks:
            check_tree("Moments", network)

    @staticmethod
    def of(**networks: M) -> Moments[M]:
        """Make moments from networks by name, in the given order.

        Example:
            >>> Moments.of().names
            ()
        """
        return Moments(tuple(networks), tuple(networks.values()))

    def __getitem__(self, name: str) -> N:
        """Return the network with this name.

        Raises:
            StructureError: If there is no such network; the message lists the names.
        """
        if name not in self:
            raise StructureError(f"there is no moment {name!r}; the names are {self.names}", subject="Moments")
        return self.networks[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in order."""
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        """Return whether there is a network with this name."""
        return name in self.names

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.names)

    def around(self, inner: Moments[N]) -> Moments[N]:
        """Append the moments of an inner optimizer, with the prefix ``inner.`` before their names.

        Example:
            >>> Moments.of(average=()).around(Moments.of(velocity=())).names
            ('average', 'inner.velocity')
        """
        names = (*self.names, *(INNER + name for name in inner.names))
        total = inner.total if self.total is None else self.total
        return Moments(names, (*self.networks, *inner.networks), total)

    def inner(self) -> Moments[N]:
        """Return the moments of the inner optimizer under their original names. This undoes ``around``.

        Example:
            >>> Moments.of(average=()).around(Moments.of(velocity=())).inner().names
            ('velocity',)
        """
        names = [name for name in self.names if name.startswith(INNER)]
        networks = tuple(self[name] for name in names)
        return Moments(tuple(name.removeprefix(INNER) for name in names), networks, self.total)

    def __repr__(self) -> str:
        inside = (f"{name}={network!r}" for name, network in zip(self.names, self.networks, strict=True))
        total = () if self.total is None else (f"total={self.total!r}",)
        return f"Moments({', '.join((*inside, *total))})"
