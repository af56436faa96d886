"""The table of optimizers: every test of all optimizers uses it."""

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

GOLDENS: Final[dict[str, str]] = {
    "SGD": "22a2194a58b025f4269b68697c7a7bb6c681787fd131a795c8b9ad6ee4ba9555",
    "SGD, scheduled": "1f0d4bfae2951d2ff96a2971382802f91fe004fa9fa00a7f865bb831bbd8eeff",
    "Momentum": "eb45d92f261156568c11ab012ba7a12fb51848794c6057a40aa4a7c503fb6ede",
    "Momentum, scheduled": "0b31da96dcd6f2d7a8cd709dc926b09599623a71aa439e922688a7810f7ad222",
    "Nesterov": "ac826895c5e7ec6f057d2326032a7fed558c325d738b89e5c2a6faaaeb39ce10",
    "Adagrad": "29757b03f1fb254ced9fcb21b40b1a4548f1cbd1bc9c34bb3b562730015f8a7a",
    "RMSprop": "59a65a535505bc9037e00d5d1ab44ad97d9309a03fcac033e50cd1549956360f",
    "RMSprop with momentum": "7046be26422b03c00d0cd84a550493270f03ee1ea0537f9e93b588e6b7a49668",
    "RMSprop, centered": "1043d36ebf586e50eb8df7b21010c7e1c342c0a9ddae8541c013ec63b3f20511",
    "RMSprop with all": "ee443c02de183d71afdab5e2124a658f66329030b8ea82033f7a0da899e96c3b",
    "Adam": "05292cccd771f257c38df03ee1bffdaa0455cc4a654fd706509565393692d077",
    "Adam, scheduled": "78a40de3cd4ca0eec832eff5a64163cdfff9a2c25473f9fea5882294626bcf0c",
    "AdamW": "76ee6cd3624b97e37872d2d96513ca8b8d1f391c17aa3df6c815e6398ede3cdc",
    "AdamW, scheduled": "4e2601c09f875e0beb671b5370a1be12e21480e2f54219407015e51146914c57",
    "ClipByValue": "df548df91ccd0d8b8dec97b04560aff32d700935f67d3a0bae86a0a09162fec5",
    "ClipByGlobalNorm": "96b6ef4eaee97432d198e9786b6783cb49ff9a3ad2ee431019c8e6944471bb52",
    "WeightDecay": "6f52e15595687859580ea8ad9fe812334a2e7e3ea042fe568e2cfa74649705c5",
    "Accumulation": "44a102eae1046f445ca7cb69eeaa3d68e379be4cc0429091462825d819df26b6",
    "Averaging": "8ee3db5f7d58347b70e647a30d6dc0e1c630d0ab967ae2433b83f9835091a568",
    "all around AdamW": "a2da13ec7156de0262f5b32e0c6bfa73fff66bed6cf7d40edb918373156f835c",
}
"""The fingerprints of ten steps in portable arithmetic; see ``test_optimizers.py``."""
