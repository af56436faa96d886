"""MPI: one training run on many processes or machines, with the bits of one process.

Every rank runs the same program: it holds the state, cuts the same batches, and computes its own shards::

    mpiexec -n 4 python -m mpi4py train.py

``-m mpi4py`` ends the job on all ranks when one of them raises; without it, the others would wait forever. A killed
rank ends the job, too. After a cut network, MPI may wait forever: ``timeout -k 10 3600 mpiexec ...`` limits the time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import attrs
import numpy as np
from attrs import Factory, field, frozen

from funcnet.arithmetic import in_force
from funcnet.core.arrays import ARRAY_TYPES, AnyArray, Array
from funcnet.core.errors import ConfigError, FuncnetError, StructureError, quoted
from funcnet.loops.reducers import joined, own_shards, subtrees, tree_sum
from funcnet.runs.environment import differences, environment
from funcnet.runs.fingerprints import fingerprint
from funcnet.tracing.structure import is_leaf

if find_spec("mpi4py") is None:  # a reducer imports it: the import initializes MPI
    raise ImportError("mpi4py 4 or newer is needed; use pip install 'mpi4py>=4' mpich")
if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

_NAME: Final = "MPIReducer"
_CALLS: Final = ("gather", "reduce", "check")


def _communicator(comm: Intracomm | None) -> Intracomm:
    try:
        from mpi4py import MPI  # noqa: PLC0415  # the import initializes MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"mpi4py does not find an MPI library; use pip install mpich: {error}") from error
    if comm is None:
        return MPI.COMM_WORLD
    if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
        raise ConfigError(f"comm must be an mpi4py.MPI.Intracomm, got {quoted(comm)}", subject=_NAME)
    return comm


def _rank(reducer: MPIReducer) -> int:
    return reducer.comm.Get_rank()


def _size(reducer: MPIReducer) -> int:
    return reducer.comm.Get_size()


@frozen(eq=False)
class MPIReducer:
    """The reducer of the processes ("ranks") that ``mpiexec`` has started; the bits do not depend on their number.

    Give it to a step, and run the program as ``mpiexec -n 4 python -m mpi4py train.py``. Everything else is the program
    for one process: each rank makes the same state and the same batches. Only rank 0 should save and print::

        reducer = fn.MPIReducer()
        step = fn.train_step(loss, shard_size=64, reducer=reducer)
        for state, log in fn.train(step, state, data, epochs=range(25)):
            if reducer.rank == 0:
                fn.save("run.safetensors", state)

    In a step, a rank adds the gradients of its own shards as far as they are neighbors in the tree of ``tree_sum``.
    Rank r gets block r of each of these sums from every rank (Alltoallv) and adds them, and every rank gets all blocks
    (Allgatherv). A rank sends about 2P (1 - 1/R) numbers for P parameters and R ranks if its shards are one part of the
    tree, and at most 5P for any number of shards: see ``bytes_sent``. More than 2**31 parameters need an MPI library of
    version 4 or newer.

    Before each exchange, the ranks compare what they are about to do: ranks with different numbers of batches, shards
    or parameters raise a ``ConfigError`` instead of waiting for each other. They also compare the epochs and the other
    settings of a run at its start, a checksum of the batch in each step, and the step, the state and the log in each
    epoch. A rank that ends before the others, by a ``break`` out of the loop or an exit, leaves them waiting.

    A reducer belongs to its process: a copy is the same object, and it cannot be pickled.

    Args:
        comm: The communicator, an ``mpi4py.MPI.Intracomm``; None is ``MPI.COMM_WORLD``, all processes.

    Raises:
        ConfigError: If comm is not a communicator.
        ImportError: If there is no MPI library.

    Source: Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH",
    International Journal of High Performance Computing Applications 19 (2005), for the sum in two phases.

    Example:
        >>> reducer = MPIReducer()
        >>> reducer
        MPIReducer(rank=0, size=1)
        >>> reducer.reduce([np.array([1.0, 2.0]), np.array([3.0, 4.0])], 2, 2, np.dtype(np.float64))
        array([4., 6.])
    """

    comm: Intracomm = field(default=None, converter=_communicator, repr=False)
    rank: int = field(init=False, default=Factory(_rank, takes_self=True))
    size: int = field(init=False, default=Factory(_size, takes_self=True))

    def own(self, count: int) -> range:
        """Return the numbers of the shards that this rank computes: a contiguous part of ``count`` shards.

        Example:
            >>> MPIReducer().own(8)
            range(0, 8)
        """
        return own_shards(self.rank, self.size, count)

    def gather(self, values: Sequence[float], count: int) -> list[float]:
        """Return each shard's number, in the order of the shards, on every rank.

        Args:
            values: The numbers of this rank's shards.
            count: The number of shards of all ranks.

        Raises:
            ConfigError: If the ranks differ in the number of shards, or call different methods; every rank raises it.

        Example:
            >>> MPIReducer().gather([0.5, 0.25], 2)
            [0.5, 0.25]
        """
        if len(values) != len(self.own(count)):
            wanted = f"{len(self.own(count))} numbers, one for each shard of this rank"
            raise ConfigError(f"values must be {wanted}, got {len(values)}", subject=_NAME)
        self._meet("gather", count)
        numbers = np.empty(count)
        lengths = [len(own_shards(rank, self.size, count)) for rank in range(self.size)]
        self.comm.Allgatherv(np.array(values, np.float64), [numbers, lengths])
        return numbers.tolist()

    def reduce(self, rows: Sequence[Array], size: int, count: int, dtype: np.dtype[np.floating]) -> Array:
        """Return the sum of the vectors of all shards, with the bits of ``tree_sum``, on every rank.

        Args:
            rows: The vectors of this rank's shards, each of shape (P,).
            size: P.
            count: The number of shards of all ranks.
            dtype: The dtype of the vectors, float32 or float64.

        Raises:
            ConfigError: If the ranks differ in P, the number of shards or the dtype, or call different methods; every
                rank raises it.

        Example:
            >>> MPIReducer().reduce([np.ones(3, np.float32)] * 1, 3, 1, np.dtype(np.float32))
            array([1., 1., 1.], dtype=float32)
        """
        own = self.own(count)
        _check_rows(rows, len(own), size, dtype)
        self._meet("reduce", count, size, dtype.itemsize)
        if self.size == 1:
            return tree_sum(rows, np.add)
        parts = [subtrees(own_shards(rank, self.size, count), count) for rank in range(self.size)]
        sums = [tree_sum(rows[part.start - own.start : part.stop - own.start], np.add) for part in parts[self.rank]]
        received = self._exchange(sums, [len(held) for held in parts], _cuts(size, self.size), dtype)
        return self._joined(joined(received, [part for held in parts for part in held], np.add), size)

    def _exchange(
        self, sums: Sequence[Array], held: Sequence[int], cuts: Sequence[int], dtype: np.dtype[np.floating]
    ) -> list[Array]:
        """Return this rank's block of each sum of every rank, in order; ``held`` is each rank's number of sums."""
        blocks = list(pairwise(cuts))
        pieces = sums if len(sums) == 1 else [each[a:b] for a, b in blocks for each in sums]
        send = np.ascontiguousarray(pieces[0]) if len(pieces) == 1 else np.concatenate([np.empty(0, dtype), *pieces])
        width = blocks[self.rank][1] - blocks[self.rank][0]
        received = np.empty((sum(held), width), dtype)
        if _are_equal(held) and _are_equal(b - a for a, b in blocks):
            self.comm.Alltoall(send, received)
        else:
            self.comm.Alltoallv([send, [len(sums) * (b - a) for a, b in blocks]], [received, [n * width for n in held]])
        return list(received)

    def _joined(self, block: Array, size: int) -> Array:
        """Return the vector of which each rank has one block."""
        total = np.empty(size, block.dtype)
        lengths = [b - a for a, b in pairwise(_cuts(size, self.size))]
        if _are_equal(lengths):
            self.comm.Allgather(block, total)
        else:
            self.comm.Allgatherv(block, [total, lengths])
        return total

    def check(self, value: object, /) -> None:
        """Check that all ranks hold the same value and compute in the same way; ``train_epoch`` calls it.

        The ranks compare the fingerprint of the value, the arithmetic in force, and the version of funcnet, and in
        native arithmetic all of ``environment()`` that bits may depend on. If a value has no fingerprint, because a
        record in it is not registered, for example, they compare its arrays, numbers, strings, types and the names of
        its functions.

        Args:
            value: A state, a step, or any other tree of records, tuples, arrays and numbers.

        Raises:
            StructureError: If the values differ. Every rank raises it, and the message shows both sides.
            ConfigError: If the arithmetic or the environment differs, or if the ranks call different methods.

        Example:
            >>> MPIReducer().check((np.zeros(3), 5))
        """
        self._meet("check")
        if self.size == 1:
            return
        ways = self.comm.allgather((in_force(), str(environment()), _digest(value)))
        arithmetic, first, digest = ways[0]
        for rank, (name, other, found) in enumerate(ways):
            if name != arithmetic:
                _differ(ConfigError, "compute in one arithmetic", rank, arithmetic, name)
            for factor, pair in differences(first, other, arithmetic).items():
                what = f"have the same {factor}, on which {arithmetic} bits may depend"
                _differ(ConfigError, what, rank, *(quoted(value, 200) for value in pair))
            if found != digest:
                every = self.comm.allgather(dict(_parts(value)))
                place, one, two = _first_difference(every[0], every[rank], digest, found)
                _differ(StructureError, f"have the same value, but differ in {place}", rank, one, two)

    def _meet(self, call: str, count: int = 0, size: int = 0, itemsize: int = 0) -> None:
        """Check that all ranks make the same call, so that none of them waits for an exchange that never comes."""
        every = np.empty((self.size, 4), np.int64)
        self.comm.Allgather(np.array([_CALLS.index(call), count, size, itemsize], np.int64), every)
        for rank, other in enumerate(every.tolist()):
            if other != every[0].tolist():
                what = "have the same batches, step and state"
                _differ(ConfigError, what, rank, _described(*every[0].tolist()), _described(*other))

    def __copy__(self) -> MPIReducer:
        return self

    def __deepcopy__(self, _: object) -> MPIReducer:
        return self

    def __reduce__(self) -> NoReturn:
        fix = "make one with MPIReducer() in each process"
        raise ConfigError(f"a reducer belongs to its process and cannot be pickled; {fix}", subject=_NAME)


def bytes_sent(rank: int, ranks: int, count: int, size: int, itemsize: int) -> int:
    """Return the bytes of vectors that one rank sends to the others in a step.

    Args:
        rank: The rank.
        ranks: The number of ranks.
        count: The number of shards of all ranks.
        size: The number of parameters.
        itemsize: The bytes of a parameter: 4 in float32.

    Example:
        >>> [bytes_sent(0, 2, count, 1000, 4) for count in (2, 8, 64, 4096)]
        [4000, 4000, 4000, 4000]
    """
    cuts = _cuts(size, ranks)
    block = cuts[rank + 1] - cuts[rank]
    held = len(subtrees(own_shards(rank, ranks, count), count))
    return itemsize * (held * (size - block) + (ranks - 1) * block)


def _check_rows(rows: Sequence[Array], count: int, size: int, dtype: np.dtype[np.floating]) -> None:
    given = [(row.shape, row.dtype) for row in rows]
    if given != [((size,), dtype)] * count or dtype.char not in "fd":
        wanted = f"{count} vectors of shape ({size},) and dtype {dtype}, which is float32 or float64"
        raise ConfigError(f"rows must be {wanted}, got {quoted(given)}", subject=_NAME)


def _cuts(size: int, ranks: int) -> list[int]:
    """Return where the ranks' blocks of a vector begin, and its end."""
    return [rank * size // ranks for rank in range(ranks + 1)]


def _are_equal(lengths: Iterable[int]) -> bool:
    """Return whether all blocks have one length: MPI exchanges such blocks with fewer copies."""
    return len(set(lengths)) == 1


def _described(call: int, count: int, size: int, itemsize: int) -> str:
    if _CALLS[call] == "check":
        return "the beginning or the end of an epoch"
    what = f"{size} float{8 * itemsize} parameters" if itemsize else f"{count} numbers"
    return f"an exchange of {what} in a step"


def _differ(kind: type[FuncnetError], what: str, rank: int, first: str, other: str) -> NoReturn:
    raise kind(f"all ranks must {what}: rank 0 has {first}, rank {rank} has {other}", subject=_NAME)


# ---------------------------------------------------------------------------------------------- what a state is


def _digest(state: object) -> str:
    try:
        return fingerprint(state)
    except FuncnetError:
        return hashlib.sha256("\n".join(map(str, _parts(state))).encode()).hexdigest()


def _parts(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the place and a description of each part of a value: equal in all processes if the parts are equal."""
    yield path or "the value", _part(tree)
    for place, part in _inside(tree):
        yield from _parts(part, f"{path}.{place}" if path else place)


def _inside(tree: Any) -> list[tuple[str, object]]:
    kind = cast("Any", type(tree))
    if attrs.has(kind):
        return [(a.name, getattr(tree, a.name)) for a in attrs.fields(kind) if a.eq]
    return [(str(place), part) for place, part in enumerate(tree)] if issubclass(kind, tuple) else []


def _part(tree: Any) -> str:
    if type(tree) in ARRAY_TYPES:
        array: AnyArray = tree
        digest = hashlib.sha256(b"" if array.dtype.hasobject else array.tobytes()).hexdigest()
        return f"{array.dtype} {array.shape} with SHA-256 {digest[:16]}"
    if is_leaf(tree) or tree is None or isinstance(tree, bool | str):
        return repr(tree)
    named = cast("Any", tree if hasattr(tree, "__qualname__") else type(tree))
    return f"{named.__module__}.{named.__qualname__}"


def _first_difference(
    one: dict[str, str], other: dict[str, str], digest: str, other_digest: str
) -> tuple[str, str, str]:
    """Return the first place in which two states differ, and what each has there."""
    for place in [*one, *other]:
        pair = one.get(place, "nothing"), other.get(place, "nothing")
        if pair[0] != pair[1]:
            return place, *pair
    return "their fingerprints", digest, other_digest
