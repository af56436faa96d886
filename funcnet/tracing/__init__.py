"""Tracing: how a pure function becomes a program. This page explains it to a reader who knows NumPy.

**The problem.** A training step written as pure functions allocates a new array for every result, computes some values
twice (in ``forward`` and again in ``backward``), and returns to the Python interpreter between any two NumPy calls.
Fast code uses buffers, ``out=`` and in-place updates instead. Written by hand, it would be a second form of every
formula. funcnet derives this second form from the first one, by running it.

**1. Record** (``recorder.py``, ``ducks.py``). The function runs once, on ``Traced`` arrays. A ``Traced`` array computes
what NumPy computes, through NumPy's own protocols (``__array_ufunc__`` and ``__array_function__``), and records each
operation on a ``Tape``::

    h = np.maximum(x @ w, 0)         v1 = matmul(x, w)
                                     v2 = maximum(v1, 0)
    g = h * (h > 0)                  v3 = greater(v2, 0)
                                     v4 = multiply(v2, v3)

A *value*, such as ``v1``, never changes: ``h += 1`` gives the memory of ``h`` a new value. Two operations with equal
operands therefore have equal results, wherever they appear, and the tape records only the first. This is how
``backward`` shares what ``forward`` has computed. A view (``.T``, a slice, ``reshape``) is not an operation. It reads
the value of its base with a different offset, shape and strides.

A number that varies from step to step (the step count, a loss) is a ``Number``, and its operations are recorded, too.
All other numbers are constants. An ``if`` on a traced value becomes a *guard*: every replay checks that the condition
has the same truth value as in the trace. What would take a number out of the trace unnoticed (``float(x)``,
``np.asarray(x)``, ``x.tolist()``) is refused. The function that did it, such as a layer's forward or a loss, then
becomes a single operation on copies of its arguments (``attempt`` in ``functions.py``). ``whole`` marks such a function
in advance.

**2. Compile** (``passes.py``, ``fusion.py``, ``writer.py``, ``program.py``). Operations whose results are never read
are removed, such as the gradient with respect to the batch. Elementwise operations that are the same for every
parameter are merged into one, on memory that holds all the parameters side by side. Each remaining value gets memory:
that of an operand that is no longer needed, that of the state, or a free block. Each operation then becomes a line of
Python::

    np.matmul(x, w, out=t1)
    np.maximum(t1, k0, out=t1)

The program writes to the state only after the last operation that can fail. A replay that stops early therefore changes
nothing.

**3. Replay** (``traces.py``; ``replay.py`` keeps programs and runs folds). The function ``run(x, y, ...)`` computes one
step and returns its numbers. It returns None if a guard does not hold; the plain function then computes the step. Each
program is also checked: in every fold, its first replay is compared with the plain function, bit for bit.

**Native replay** (``native``) is optional: ``python -m funcnet.tracing.native`` compiles an interpreter in C. It reads
the lines of ``run`` and does the same NumPy calls, without the Python interpreter between them, so that the steps of
small networks become several times faster. It calls NumPy's inner loops and NumPy's BLAS, so the bits are the same. A
line that it does not know remains a Python function. Where batches are only rows of arrays, it computes all remaining
steps of an epoch in one call, once the first replay has been compared with the plain function.

**Why the bits are the same.** Each line is the NumPy call that the function made, on operands with the same elements in
the same memory order. Only two other things affect the bits. First, BLAS computes the product of an array and itself
with a different kernel, so operands that were two arrays remain two, even if they are equal. Second, some vectorized
functions round an element differently depending on its position, so only the others are merged over several arrays.

**An example.** Here is a step with the state ``w`` and the batch ``x``, and the program that it becomes. In the
program, ``w`` is called ``state_``, ``h`` is ``t1``, and each ``memory`` call allocates a block:

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

Load the state into the program's memory, then replay one step. It returns the loss and updates the state in place. The
first argument is None because the state is in memory already:

>>> trace.program.memory.arrays[0][...] = [1.0, 2.0]
>>> trace.run([None, np.array([3.0, -4.0])])
(3.0,)
>>> trace.program.memory.arrays
[array([0.7, 2. ])]

**Many states.** ``together.py`` folds a step over the batches of many states at once, such as those of small networks
that differ in their seeds. It traces the step of the first state, and ``slabs.py`` writes the program with memory for
all of them: every array gets one axis in front. Here is the same step for three states, whose arrays ``x`` are passed
as a list:

>>> trace = Trace(step, np.array([1.0, 2.0]), np.array([3.0, -4.0]), set(), many=(3, set()))
>>> print(trace.program.source[trace.program.source.index("    def run"):])
    def run(x):
        copyto(t1, x)
        np.multiply(t1, state_, out=t1)
        np.maximum(t1, k2, out=t1)
        np.multiply(k3, t1, out=t4)
        np.subtract(state_, t4, out=state_)
        np.add.reduce(t1, out=t5, axis=1)
        n0 = t5.tolist()
        return (n0, )
    return run
<BLANKLINE>
>>> trace.program.memory.arrays[0][...] = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
>>> trace.run([None, [np.array([3.0, -4.0])] * 3])
([3.0, 9.0, 15.0],)

This folder knows nothing about layers, and no other folder of the package mentions buffers.
"""

from funcnet.tracing.functions import attempt as attempt
from funcnet.tracing.functions import whole as whole
from funcnet.tracing.program import Program as Program
from funcnet.tracing.recorder import NotTraceable as NotTraceable
from funcnet.tracing.recorder import Opaque as Opaque
from funcnet.tracing.recorder import recording as recording
