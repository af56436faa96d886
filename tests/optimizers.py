"""The one table of optimisers: what every test that is about all of them goes over."""

from __future__ import annotations

from typing import Final

import funcnet as fn
from funcnet.optimizers import Optimizer

SCHEDULE: Final = fn.join_schedules([fn.linear_warmup(0.05, steps=3), fn.cosine_decay(0.05, steps=40)], [3])

OPTIMIZERS: Final[dict[str, Optimizer]] = {
    "SGD": fn.SGD(learning_rate=0.1),
    "SGD, scheduled": fn.SGD(learning_rate=fn.step_decay(0.1, step_size=4, gamma=0.5)),
    "Momentum": fn.Momentum(learning_rate=0.05),
    "Momentum, scheduled": fn.Momentum(learning_rate=SCHEDULE),
    "Nesterov": fn.Nesterov(learning_rate=0.05),
    "Adagrad": fn.Adagrad(learning_rate=0.05, lr_decay=0.01, initial_accumulator_value=0.1),
    "RMSprop": fn.RMSprop(learning_rate=0.005),
    "RMSprop with momentum": fn.RMSprop(learning_rate=0.002, alpha=0.9, momentum=0.8),
    "RMSprop, centered": fn.RMSprop(learning_rate=0.005, centered=True),
    "RMSprop with all": fn.RMSprop(learning_rate=SCHEDULE, alpha=0.9, momentum=0.5, centered=True),
    "Adam": fn.Adam(learning_rate=0.01),
    "Adam, scheduled": fn.Adam(learning_rate=fn.exponential_decay(0.02, gamma=0.9), betas=(0.8, 0.95)),
    "AdamW": fn.AdamW(learning_rate=0.01, weight_decay=0.1),
    "AdamW, scheduled": fn.AdamW(learning_rate=SCHEDULE),
    "ClipByValue": fn.ClipByValue(fn.Momentum(learning_rate=0.05), limit=0.01),
    "ClipByGlobalNorm": fn.ClipByGlobalNorm(fn.Adam(learning_rate=0.01), max_norm=0.2),
    "WeightDecay": fn.WeightDecay(fn.Nesterov(learning_rate=SCHEDULE), weight_decay=0.1),
    "Accumulation": fn.Accumulation(fn.AdamW(learning_rate=0.01), steps=3),
    "Averaging": fn.Averaging(fn.SGD(learning_rate=0.1), decay=0.9),
    "all around AdamW": fn.ClipByGlobalNorm(
        fn.Accumulation(fn.Averaging(fn.ClipByValue(fn.AdamW(learning_rate=SCHEDULE), limit=0.1), decay=0.8), steps=2),
        max_norm=0.5,
    ),
}
