"""Tracing: how a pure function becomes a program. This page explains it to a reader who knows NumPy.

**The problem.** A training step written as pure functions makes a new array in every line, computes again in
``backward`` what ``forward`` had already, and runs Python between any two NumPy calls. Written by hand for speed, it
would be a second form of every formula: buffers, ``out=``, in-place updates. Here the second form is made from the
first one, by running it.

**1. Record** (``recorder.py``, ``ducks.py``). The function runs once, on ``Traced`` arrays. They compute what NumPy
computes, by NumPy's own protocols (``__array_ufunc__``, ``__array_function__``), and write each operation on a
``Tape``::

    h = np.maximum(x @ w, 0)         matmul  x, w   -> v1
    g = h * (h > 0)                  maximum v1, 0  -> v2
                                     greater v2, 0  -> v3
                                     multiply v2, v3 -> v4

A *value* never changes. ``h += 1`` gives the memory of ``h`` a new value, so two operations with equal operands compute
the same, wherever they stand: the second is not recorded again. A view (``.T``, a slice, ``reshape``) is its base's
value with another offset, shape and strides.

A number of the step (``step + 1``, a loss) is a ``Number``, recorded in the same way. ``if`` asks for a truth: that it
was so becomes a *guard*, which a replay checks. What takes numbers out unseen (``float(x)``, ``np.asarray(x)``,
``x.tolist()``) is refused. ``attempt`` then records the function that did it, a layer's forward or a loss, as one
operation on copies; ``whole`` says so beforehand.

**2. Compile** (``passes.py``, ``fusion.py``, ``program.py``). What nobody reads is left out, such as the gradient by a
batch. What is done alike to every parameter is done once, on memory that holds them all. Each value gets memory: that
of an operand that is needed no more, the state's own, or a block that is free again. Each operation becomes one line of
Python::

    np.matmul(x, w, out=t1)
    np.maximum(t1, k0, out=t1)

The state is written only after the last operation that can fail, so a replay that stops has changed nothing.

**3. Replay** (``traces.py``; folds and kept programs are in ``replay.py``). The function ``run(x, y, ...)``
computes one step and returns its numbers, or None if a guard does not hold.

Why the bits are the same: each line is the NumPy call that the function made, on operands with the same elements in the
same memory order. Two things beside the elements matter to bits. BLAS computes the product of an array by itself with
another kernel, so operands that were two arrays stay two. And only functions that round each element by itself are
joined over several arrays.

To see a step as a program:

>>> import numpy as np
>>> from funcnet.tracing.traces import Trace
>>> def step(w, x):
...     h = np.maximum(x * w, 0)
...     return w - 0.1 * h, np.add.reduce(h).item()
>>> trace = Trace(step, np.array([1.0, 2.0]), np.array([3.0, -4.0]), set())
>>> print(trace.program.source[trace.program.source.index("def program"):])
def program(state, constants):
    m0 = memory(64)
    m1 = memory(64)
    state_ = np.ndarray((2,), '<f8', state)
    t1 = np.ndarray((2,), '<f8', m0)
    k2 = np.array(0, '<f8')
    k3 = np.array(0.1, '<f8')
    t4 = np.ndarray((2,), '<f8', m1)
    t5 = np.ndarray((), '<f8', m1)
<BLANKLINE>
    def run(x):
        np.multiply(x, state_, out=t1)
        np.maximum(t1, k2, out=t1)
        np.multiply(k3, t1, out=t4)
        np.subtract(state_, t4, out=state_)
        np.add.reduce(t1, out=t5)
        n0 = t5.item()
        return (n0, )
    return run
<BLANKLINE>
>>> trace.program.memory.arrays[0][...] = [1.0, 2.0]
>>> trace.run([None, np.array([3.0, -4.0])])
(3.0,)
>>> trace.program.memory.arrays
[array([0.7, 2. ])]

This folder knows nothing of layers, and nothing else in the package mentions buffers.
"""

from funcnet.tracing.functions import attempt as attempt
from funcnet.tracing.functions import whole as whole
from funcnet.tracing.program import Program as Program
from funcnet.tracing.recorder import NotTraceable as NotTraceable
from funcnet.tracing.recorder import Opaque as Opaque
from funcnet.tracing.recorder import recording as recording
