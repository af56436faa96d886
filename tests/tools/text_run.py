"""The reference run on a text: 200 portable steps of a small language model, and its golden fingerprint."""

from __future__ import annotations

from typing import Final

import numpy as np

import funcnet as fn
from funcnet.arithmetic import Name, using

KEY: Final = fn.Key(2026)
STEPS: Final = 200
REFERENCE: Final = "a908bde3245ba6a63d0c2f579b0848acc9efbf64b958eba338acdfd4dc555dc9"

_LINES: Final = (
    *("the house that Jack built", "the malt that lay in", "the rat that ate", "the cat that killed"),
    *("the dog that worried", "the cow with the crumpled horn that tossed", "the maiden all forlorn that milked"),
)
TEXT: Final = "".join(f"This is {' '.join(_LINES[last::-1])}.\n" for last in range(len(_LINES)))


def network() -> tuple[fn.Layer, ...]:
    """Return a network of ids (B, T) up to 127 with a transformer block, a GRU and an LSTM."""
    init = KEY.child("init")
    return (
        *(fn.embedding(init.child(0), 128, 16), fn.learned_positions(init.child(1), 16, 16)),
        *fn.transformer_block(init.child(2), 16, 2, dropout=0.1),
        *(fn.gru(init.child(3), 16, 16), fn.lstm(init.child(4), 16, 16), fn.layer_norm(16)),
        fn.dense(init.child(5), 16, 128),
    )


def text_run(arithmetic: Name = "portable", *, steps: int = STEPS) -> tuple[str, float]:
    """Return the state's fingerprint after the given number of steps, and the mean loss of the last epoch."""
    ids, step, loss = np.frombuffer(TEXT.encode(), np.uint8), fn.train_step(fn.softmax_cross_entropy), 0.0
    schedule = fn.one_cycle(0.02, steps=steps)
    optimizer = fn.ClipByGlobalNorm(fn.AdamW(learning_rate=schedule, weight_decay=0.01), max_norm=1.0)
    with using(arithmetic):
        state = fn.TrainState.create(network(), optimizer, key=KEY.child("run"))
        while state.step < steps:
            windows = fn.windows(ids, 16, 8, key=KEY.child("windows", state.step))
            state, log = fn.train_epoch(step, state, windows[: steps - state.step])
            loss = log.mean_loss
    return fn.fingerprint(state), loss
