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
    "Adam, amsgrad": fn.Adam(learning_rate=SCHEDULE, amsgrad=True),
    "AdamW with all": fn.AdamW(learning_rate=0.01, eps=1e-3, weight_decay=0.1, amsgrad=True, eps_hat=True),
    "NAdam": fn.NAdam(learning_rate=0.01),
    "NAdam, scheduled": fn.NAdam(learning_rate=SCHEDULE, betas=(0.8, 0.95), momentum_decay=0.1),
    "Lion": fn.Lion(learning_rate=0.003),
    "ClipByValue": fn.ClipByValue(fn.Momentum(learning_rate=0.05), limit=0.01),
    "ClipByGlobalNorm": fn.ClipByGlobalNorm(fn.Adam(learning_rate=0.01), max_norm=0.2),
    "WeightDecay": fn.WeightDecay(fn.Nesterov(learning_rate=SCHEDULE), weight_decay=0.1),
    "WeightDecay, coupled": fn.WeightDecay(fn.Momentum(learning_rate=0.05), weight_decay=0.1, coupled=True),
    "WeightDecay of Lion": fn.WeightDecay(fn.Lion(learning_rate=SCHEDULE, betas=(0.8, 0.9)), weight_decay=0.1),
    "Accumulation": fn.Accumulation(fn.AdamW(learning_rate=0.01), steps=3),
    "Averaging": fn.Averaging(fn.SGD(learning_rate=0.1), decay=0.9),
    "all around AdamW": fn.ClipByGlobalNorm(
        fn.Accumulation(fn.Averaging(fn.ClipByValue(fn.AdamW(learning_rate=SCHEDULE), limit=0.1), decay=0.8), steps=2),
        max_norm=0.5,
    ),
    "all around NAdam": fn.WeightDecay(
        fn.Accumulation(fn.Averaging(fn.ClipByValue(fn.NAdam(learning_rate=SCHEDULE), limit=0.1)), steps=2),
        weight_decay=0.1,
        coupled=True,
    ),
}

GOLDENS: Final[dict[str, str]] = {
    "SGD": "74d6b6bb4f7153034805e118cbfac14b09353fda8ca31efa70948429d5a26f97",
    "SGD, scheduled": "05857c802e61b9618c4c9c958504edcb26f1a693e968cf669624516ae93cf568",
    "Momentum": "df4b02d60e8f7d8649e3b613c4c99b267136959cd94fbb0ee597e3b477180f09",
    "Momentum, scheduled": "634fd6d03d1be24dc36e25863f53632f7aeb1eae0d746acbf1ab9f7bc2ef072d",
    "Nesterov": "40de3f7c511c41ecd6f9bb845fc71fe1c98e7706ac031e8a8e8b3489b3ac18d6",
    "Adagrad": "07c4d121c0f3a8e4080a959950237e627949606407307c506d39c160d2c0f845",
    "RMSprop": "b6d61dfcd9a04d34d69695b44ff0d28e912e0a01b186b1149a6475efda552491",
    "RMSprop with momentum": "0793e3ec4e1d7c398fa3745bd33c30583964da10c23f934de676df9d9af5b4f3",
    "RMSprop, centered": "f891f2ec9ab3913d0ee24efae27f95417ce2c487c764e25fa4b22798136a0f7b",
    "RMSprop with all": "938abba6034f99b3a2bb1bf36d295ca207c4f96631b079e6b40407a8e9a69d05",
    "Adam": "5f79f038cafdc5acbf962c4680ebad575141bd2a5aee1eaecc2ac076f7fd1095",
    "Adam, scheduled": "55bd413eb1cbb4c9fefea42292e28ee8a3f66ae6eab2980fe7c90a82ef287c91",
    "AdamW": "3cd18225ade912fa345eef4495f21d163e64cab5fd4d51b933d8c0b0aec61943",
    "AdamW, scheduled": "6e271fff977135606f49aa1ce5ccf384479fd06f05f880e758951a6c28c4096b",
    "ClipByValue": "6b858709fd7bdcb8bc020a592965f6450323d12a5d8d1df4148dd219230f1729",
    "ClipByGlobalNorm": "0f37857134679b56a3de0e2bae23cf9cd0e76afa523fa6e246d6c9b4dbc3ceca",
    "WeightDecay": "32140cc0e1a8e5d02c63df4ca0bac5aff03726290e2bfdde0679a5cc1db4bc92",
    "Accumulation": "22c7a0df2c888ca9c886e931186640b5f03a5dd0dc6cb1095909572d80f90473",
    "Averaging": "a3a17e163ecfec06224e63b9b471a9eecd354dede48342e3a431e1c2178ff844",
    "all around AdamW": "44c3dd731acb4eb971c6e8508969be107cc5795336ce2afaacdde922a8260f54",
    "Adam, amsgrad": "278f18dce1add18d17ac322537b3ca6a0c95e809181da96ca20aca7d64bdcb99",
    "AdamW with all": "a24584ad2c9ade78d95c8459c17a29d3b305420203288bfc32d35d26a47f032c",
    "NAdam": "0756f9f1acc00a1fc490dbe0d3a8597363e0ab7aba84b22906a6c82fd28a1608",
    "NAdam, scheduled": "73ee3ce7a62ef6f5271889026db047d6644048501be7aba45beb9ec3939eb72d",
    "Lion": "71b147060462661fc840ef07142a96ab5f4fff9351b8b39336d070e477c215f2",
    "WeightDecay, coupled": "c85ebf5e76f57e07888f7022c0770ee2979c325adac0800bd96744248a770ee1",
    "WeightDecay of Lion": "1c22de926a29eef027a413528e057648d39f4bae5b3b1ab1b90bf85021c0f956",
    "all around NAdam": "7059d739b869741c0716bffec2483ab201a825fd484461d4f936d9e735c5715c",
}
"""The fingerprints of ten steps in portable arithmetic; see ``test_optimizers.py``."""
