"""Random numbers as pure functions of a key: the same key gives the same numbers on every machine."""

from funcnet.random.draws import normal as normal
from funcnet.random.draws import permutation as permutation
from funcnet.random.draws import uniform as uniform
from funcnet.random.draws import words as words
