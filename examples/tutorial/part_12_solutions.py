# %% [markdown]
"""# Solutions of part 12.

Run them with: `python examples/tutorial/part_12_solutions.py`
"""

# %%
import math
from collections import Counter

import numpy as np

import funcnet as fn

keys, values = [0.0, 1.0, 0.0], [4.0, 8.0, 0.0]


def attend(query: float, keys: list[float], values: list[float]) -> tuple[list[float], float]:
    """The weights of the tokens for a query, and the mean of their values."""
    exponentials = [math.exp(query * key) for key in keys]
    weights = [each / sum(exponentials) for each in exponentials]
    return weights, sum(weight * value for weight, value in zip(weights, values, strict=True))


LINES = (
    *("the house that Jack built", "the malt that lay in", "the rat that ate", "the cat that killed"),
    *("the dog that worried", "the cow with the crumpled horn that tossed", "the maiden all forlorn that milked"),
    *("the man all tattered and torn that kissed", "the priest all shaven and shorn that married"),
    *("the rooster that crowed in the morn that woke", "the farmer sowing his corn that kept"),
)
verses = ["This is " + " ".join(LINES[last::-1]) + ".\n" for last in range(len(LINES))]
text = "".join(verses)
cut = len(text) - len(verses[-1])
symbols = sorted(set(text))
counts = Counter(text[start : start + size] for size in (1, 2, 3, 4) for start in range(cut - size + 1))
totals = Counter(gram[:-1] for gram in counts.elements())  # how often each context occurred
kinds = Counter(gram[:-1] for gram in counts)  # how many different characters followed it


def share(context: str, symbol: str) -> float:
    """The probability of a character after a context of up to three others."""
    shorter = share(context[1:], symbol) if context else 1 / len(symbols)
    if context not in totals:
        return shorter
    return (max(counts[context + symbol] - 0.5, 0) + 0.5 * kinds[context] * shorter) / totals[context]


counted = -sum(math.log2(share(text[place - 3 : place], text[place])) for place in range(cut, len(text)))

# %% [markdown]
"""The exponentials are 1, `e` and 1, so `e / (e + 2)` must be 0.8, and `e` is 8: the query is the logarithm of 8. The
mean is then a tenth of 4 and 0.8 of 8, which is 6.8. Only the second key is not 0, but 1, so the gradient with respect
to the query is that of the second score: `0.8 * (8 - 6.8)`, which is 0.96.
"""

# %% Exercise 1
query = math.log(8)
by_query = 0.96

# The check of exercise 1.
slope = (attend(query + 1e-4, keys, values)[1] - attend(query - 1e-4, keys, values)[1]) / 2e-4
right = abs(attend(query, keys, values)[0][1] - 0.8) < 1e-3 and abs(slope - by_query) < 1e-3
print("Exercise 1:", "solved" if right else "not solved yet")

# %% [markdown]
"""`vectors @ g` is the gradient with respect to each weight; it takes the place of the value. A score raises its own
weight and lowers the others, so the mean of these gradients is subtracted.
"""


# %% Exercise 2
def by_scores(weights: fn.Array, vectors: fn.Array, g: fn.Array) -> fn.Array:
    """The gradient of the loss with respect to the scores."""
    by_weights = vectors @ g
    return weights * (by_weights - weights @ by_weights)


# The check of exercise 2.
scores, vectors = fn.random.normal(fn.Key(0), (5,)), fn.random.normal(fn.Key(1), (5, 3))
direction = np.array([1.0, -2.0, 0.5])
expected = fn.numerical_gradient(lambda z: float(np.exp(z) @ vectors @ direction / np.exp(z).sum()), scores)
found = by_scores(np.exp(scores) / np.exp(scores).sum(), vectors, direction)
print("Exercise 2:", "solved" if np.allclose(found, expected, atol=1e-7) else "not solved yet")

# %% [markdown]
"""The best length is 11, with 0.70 bits. From 6 characters on, counting needs fewer bits than the network: the verses
repeat each other word by word, and counting recalls what it has read, exactly. Contexts of more than 11 characters make
one prediction worse: the `f` of the farmer. It never followed `This is the`, and each longer context counts this again,
so that the model is too sure that it cannot come.
"""


# %% Exercise 3
def counting_bits(longest: int) -> float:
    """The bits per character of the last verse, with contexts of up to this number of characters."""
    counts = Counter(text[start : start + size] for size in range(1, longest + 2) for start in range(cut - size + 1))
    totals = Counter(gram[:-1] for gram in counts.elements())
    kinds = Counter(gram[:-1] for gram in counts)

    def share(context: str, symbol: str) -> float:
        shorter = share(context[1:], symbol) if context else 1 / len(symbols)
        if context not in totals:
            return shorter
        return (max(counts[context + symbol] - 0.5, 0) + 0.5 * kinds[context] * shorter) / totals[context]

    bits = -sum(math.log2(share(text[place - longest : place], text[place])) for place in range(cut, len(text)))
    return bits / (len(text) - cut)


best = 11

# The check of exercise 3.
bits_by_length = [counting_bits(longest) for longest in range(1, 21)]
right = abs(bits_by_length[2] - counted / (len(text) - cut)) < 1e-9 and best == 1 + int(np.argmin(bits_by_length))
print("Exercise 3:", "solved" if right else "not solved yet")
