"""Random numbers as pure functions of a key: the same key gives the same numbers on every machine."""

from funcnet.random.draws import normal, permutation, uniform, words

__all__ = ["normal", "permutation", "uniform", "words"]


def __dir__() -> list[str]:
    return __all__
