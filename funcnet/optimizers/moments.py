"""Moments: the networks that an optimizer keeps between two updates, each with a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from attrs import frozen

from funcnet.core.errors import StructureError
from funcnet.core.records import check_tree
from funcnet.network.layer import N, Network

M = TypeVar("M", bound=Network)

INNER: Final = "inner."
"""The names of an inner optimizer's moments begin with it."""


@frozen(eq=False, repr=False)
class Moments(Generic[N]):
    """Networks of the parameters' structure, by name: ``moments["velocity"]``. Iteration goes over the names.

    Files and fingerprints hold the networks in their order, without the names: an optimizer says them in ``init``.

    Args:
        names: A name for each network; no two are the same.
        networks: The networks.

    Raises:
        StructureError: If the names do not fit the networks, or something is no network.

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

    def __attrs_post_init__(self) -> None:
        names, networks = self.names, self.networks
        if not isinstance(names, tuple) or not isinstance(networks, tuple) or len(names) != len(networks):
            got = f"got {names!r:.80} and {networks!r:.80}"
            raise StructureError(f"there must be a name for each network, {got}", subject="Moments")
        if len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
            raise StructureError(f"names must be strings, all different, got {names!r:.80}", subject="Moments")
        for network in networks:
            check_tree("Moments", network)

    @staticmethod
    def of(**networks: M) -> Moments[M]:
        """Networks by name, in this order.

        Example:
            >>> Moments.of().names
            ()
        """
        return Moments(tuple(networks), tuple(networks.values()))

    def __getitem__(self, name: str) -> N:
        """The network of a name.

        Raises:
            StructureError: If there is none; says which names there are.
        """
        if name not in self:
            raise StructureError(f"there is no moment {name!r}; the names are {self.names}", subject="Moments")
        return self.networks[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        """The names, in order."""
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        """Whether there is a network of this name."""
        return name in self.names

    def __len__(self) -> int:
        """How many networks there are."""
        return len(self.names)

    def around(self, inner: Moments[N]) -> Moments[N]:
        """These, and then those of an inner optimizer, whose names now begin with ``inner.``.

        Example:
            >>> Moments.of(average=()).around(Moments.of(velocity=())).names
            ('average', 'inner.velocity')
        """
        return Moments((*self.names, *(INNER + name for name in inner.names)), (*self.networks, *inner.networks))

    def inner(self) -> Moments[N]:
        """Those of the inner optimizer, with the names that it gave them: what ``around`` put together.

        Example:
            >>> Moments.of(average=()).around(Moments.of(velocity=())).inner().names
            ('velocity',)
        """
        names = [name for name in self.names if name.startswith(INNER)]
        return Moments(tuple(name.removeprefix(INNER) for name in names), tuple(self[name] for name in names))

    def __repr__(self) -> str:
        inside = (f"{name}={network!r}" for name, network in zip(self.names, self.networks, strict=True))
        return f"Moments({', '.join(inside)})"
