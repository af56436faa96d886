# %% [markdown]
"""# Part 12. Attention by hand, and a tiny language model.

A recurrent network must carry everything that it needs later through every step. *Attention* is the other way to read
a sequence: each step looks back at all earlier steps, and takes what it needs. This part computes attention for three
steps by hand, with its gradient, and then trains a small *language model*, a network that writes text.

Run it with: `python examples/tutorial/part_12_attention.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import math
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
from attrs import evolve
from matplotlib import pyplot as plt
from tqdm import tqdm

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## A query, keys and values

The parts of a text that a network reads are called *tokens*; here they are characters. From each token, three things
are computed: a *query*, which says what the token looks for; a *key*, which says what the token offers; and a *value*,
which is what others get from it. The *score* of a token for a query is the product of the query and the token's key.
The *softmax* turns the scores into weights between 0 and 1 whose sum is 1: the exponentials of the scores, divided by
their sum. The result is the mean of the values with these weights. Because queries, keys and values come from the same
sequence, this is called *self-attention*.

Take three tokens with the keys 0, 1 and 0 and the values 4, 8 and 0. The query of the third token is the logarithm of
2, so that the exponentials are 1, 2 and 1:
"""

# %%
keys, values = [0.0, 1.0, 0.0], [4.0, 8.0, 0.0]


def attend(query: float, keys: list[float], values: list[float]) -> tuple[list[float], float]:
    """The weights of the tokens for a query, and the mean of their values."""
    exponentials = [math.exp(query * key) for key in keys]
    weights = [each / sum(exponentials) for each in exponentials]
    return weights, sum(weight * value for weight, value in zip(weights, values, strict=True))


weights, y3 = attend(math.log(2), keys, values)
print("the weights", *(f"{each:.4f}" for each in weights), "and the mean", f"{y3:.4f}")

# %% [markdown]
"""```text
the weights 0.2500 0.5000 0.2500 and the mean 5.0000
```

The query found the second token, whose key fits it best, and got most of its value: a quarter of 4, half of 8, and a
quarter of 0.

## No look at the future

A language model predicts the next token from those before it. In training, it sees whole texts, and predicts each of
their tokens at once. It must not see the answer: each token attends to itself and to *earlier* tokens only. This is
*causal* attention, and what hides the later tokens is a *mask*. The second token's query is the logarithm of 3. The
first token sees itself alone, so its weight is 1 for any query.
"""

# %%
queries = [math.log(2), math.log(3), math.log(2)]
for position in range(3):
    weights, y = attend(queries[position], keys[: position + 1], values[: position + 1])
    print("causal, token", position + 1, "weights", *(f"{each:.4f}" for each in weights), "mean", f"{y:.4f}")
for position in range(3):
    weights, y = attend(queries[position], keys, values)
    print("full,   token", position + 1, "weights", *(f"{each:.4f}" for each in weights), "mean", f"{y:.4f}")

# %% [markdown]
"""```text
causal, token 1 weights 1.0000 mean 4.0000
causal, token 2 weights 0.2500 0.7500 mean 7.0000
causal, token 3 weights 0.2500 0.5000 0.2500 mean 5.0000
full,   token 1 weights 0.2500 0.5000 0.2500 mean 5.0000
full,   token 2 weights 0.2000 0.6000 0.2000 mean 5.6000
full,   token 3 weights 0.2500 0.5000 0.2500 mean 5.0000
```

## The gradient

Let the gradient of the loss with respect to the third result be 1. How does the loss change with each value, score,
key, and with the query?

- The result is a sum of weights times values. The gradient with respect to a *value* is its weight, and the gradient
  with respect to a *weight* is its value.
- A score raises its own weight and lowers the others, because their sum stays 1. The derivative of the softmax gives
  the gradient with respect to a *score*: its weight, times the difference between its value and the mean, 5. If the
  value is above the mean, a larger score makes the result larger.
- A score is the query times a key. The gradient with respect to a *key* is that of its score times the query. The
  gradient with respect to the *query* is the sum, over the tokens, of the gradient of the score times the key.
"""

# %%
weights, mean = attend(queries[2], keys, values)
by_score = [weight * (value - mean) for weight, value in zip(weights, values, strict=True)]
print("by the values", *(f"{each:.4f}" for each in weights))
print("by the scores", *(f"{each:.4f}" for each in by_score), "which add up to", f"{sum(by_score):.4f}")
print("by the keys  ", *(f"{each * queries[2]:.4f}" for each in by_score))
print("by the query ", f"{sum(each * key for each, key in zip(by_score, keys, strict=True)):.4f}")

# %% [markdown]
"""```text
by the values 0.2500 0.5000 0.2500
by the scores -0.2500 1.5000 -1.2500 which add up to 0.0000
by the keys   -0.1733 1.0397 -0.8664
by the query  1.5000
```

## The same in funcnet

`fn.MultiHeadAttention` computes queries, keys and values with one weight matrix, whose columns are those of the
queries, of the keys, and of the values. Let the three tokens be the rows of the identity matrix. Then each row of the
weight matrix is the query, the key and the value of one token. The second matrix, `out_weight`, maps the result back to
the size of the tokens; here it copies it to the first column. The input has the shape (B, T, C): B texts of T tokens
with C numbers each.
"""

# %%
layer = fn.MultiHeadAttention(
    weight=np.array([queries, keys, values]).T,
    bias=None,
    out_weight=np.array([[1.0, 0.0, 0.0]]),
    out_bias=None,
    heads=1,
    causal=True,
)
x = np.eye(3)[None]
print("causal", fn.forward(layer, x)[0, :, 0].round(4))
print("full  ", fn.forward(evolve(layer, causal=False), x)[0, :, 0].round(4))
g = np.zeros((1, 3, 3))
g[0, 2, 0] = 1.0
_, gradient = fn.backward(layer, x, g)
print(gradient.weight.round(4) + 0.0)

# %% [markdown]
"""```text
causal [4. 7. 5.]
full   [5.  5.6 5. ]
[[ 0.     -0.1733  0.25  ]
 [ 0.      1.0397  0.5   ]
 [ 1.5    -0.8664  0.25  ]]
```

The columns are the gradients of the queries, of the keys and of the values; only the third query has one, because only
the third result was used. If queries and keys are vectors, the score is the sum of the products of their numbers (their
*dot product*), divided by the square root of how many numbers they have, so that the scores of long vectors are not
larger: *scaled dot-product attention*. With several *heads*, the layer does all of this several times, each time with
other columns: one head can look for the last vowel while another looks for the beginning of the word.

## Positions

Attention is a mean, and a mean has no order. Exchange the first two tokens: the third gets the same result.
"""

# %%
print("in order ", fn.forward(layer, x)[0, 2].round(4))
print("exchanged", fn.forward(layer, x[:, [1, 0, 2]])[0, 2].round(4))
placed = (fn.LearnedPositions(weight=np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])), layer)
print("with positions, in order ", fn.forward(placed, x)[0, 2].round(4))
print("with positions, exchanged", fn.forward(placed, x[:, [1, 0, 2]])[0, 2].round(4))

# %% [markdown]
"""```text
in order  [5. 0. 0.]
exchanged [5. 0. 0.]
with positions, in order  [5.5 0.  0. ]
with positions, exchanged [6. 0. 0.]
```

A network with attention therefore needs to know where a token is, by a *positional encoding*. `fn.LearnedPositions`
adds learned numbers to the token at each position, before the attention; here, 0.5 at the first position, and 0
everywhere else. Now the order makes a difference.

## A tiny language model

The text is a nursery rhyme, in which each verse repeats the one before and adds a line. The last verse is held out: the
model does not see it in training.
"""

# %%
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
ids = np.array([symbols.index(symbol) for symbol in text])
print(len(text), "characters,", len(symbols), "different ones,", len(text) - cut, "held out")
print("".join(verses[:3]), end="")

# %% [markdown]
"""```text
1920 characters, 27 different ones, 362 held out
This is the house that Jack built.
This is the malt that lay in the house that Jack built.
This is the rat that ate the malt that lay in the house that Jack built.
```

The network is the usual one of language models, only smaller. An *embedding* is a table with a row of 32 numbers for
each character. The *transformer block* consists of attention, and of two dense layers that work on each position by
itself. Both parts begin with a *layer normalization*, and add their result to their input, a *residual connection*
(`Residual`). The last layer gives a logit for each possible next character.

A language model is judged by the *bits per character* that it needs for text that it has not seen: the mean of
`-log2(p)`, where `p` is the probability that it gave to the next character. One bit means that the model hesitates
between two characters, on average; a model that gives all characters the same probability needs `log2(27)` bits, which
is nearly 5. The loss, the cross-entropy, is the same mean with the natural logarithm, so dividing it by the logarithm
of 2 gives bits.

To write, the network draws each next character from its probabilities. The logits are first divided by a
*temperature*: if it is below 1, probable characters become more probable. The program adds random numbers to the logits
and takes the largest sum, which is a draw from the softmax (the *Gumbel-max trick*).
"""

# %%
LENGTH, SIZE, EPOCHS, TEMPERATURE = 32, 32, 60, 0.7
key = fn.Key(9)
table = fn.embedding(key.child("table"), len(symbols), SIZE)
places = fn.learned_positions(key.child("places"), LENGTH, SIZE)
attention, dense_layers = fn.transformer_block(key.child("block"), SIZE, heads=2)
last = fn.dense(key.child("last"), SIZE, len(symbols))
net = (table, places, attention, dense_layers, fn.layer_norm(SIZE), last)
print("parameters:", sum(array.size for array in fn.trained_arrays(net)))


def written(net: fn.Network, count: int) -> str:
    """Let the network continue the first words, character by character."""
    read = [symbols.index(symbol) for symbol in "This is"]
    for position in range(count):
        logits = fn.forward(net, np.array([read[-LENGTH:]]))[0, -1]
        uniform = fn.random.uniform(key.child("draw", position), logits.shape)
        noise = -np.log(-np.log(uniform))
        read.append(int(np.argmax(logits / TEMPERATURE + noise)))
    return "".join(symbols[each] for each in read)


def held_out_bits(net: fn.Network) -> float:
    """The bits per character of the last verse, each of whose characters is predicted from those before it."""
    before = np.stack([ids[place - LENGTH : place] for place in range(cut, len(text))])
    after = np.stack([ids[place - LENGTH + 1 : place + 1] for place in range(cut, len(text))])
    weight = np.zeros(before.shape, np.float32)
    weight[:, -1] = 1  # only the last prediction of each row counts
    return fn.evaluate(net, before, after, fn.softmax_cross_entropy, weight) / math.log(2)


with fn.portable():
    print("before training:", written(net, 60))
    print("held-out bits per character:", f"{held_out_bits(net):.2f}")

# %% [markdown]
"""```text
parameters: 15547
before training: This isvt bykhiu
ymyairTsue
irvbgo
dculfgoiahiuereeflbgsdoifwdclhiv
held-out bits per character: 6.07
```

`fn.windows` cuts the text into windows of 32 characters, in a new order in each epoch, and pairs each window with the
characters that follow. A window gives 32 predictions at once, because the attention is causal.
"""

# %%
with fn.portable():
    steps = EPOCHS * len(fn.windows(ids[:cut], LENGTH, 4, key=key))
    adam = fn.Adam(learning_rate=fn.one_cycle(0.02, steps=steps))
    state = fn.TrainState.create(net, adam, key=key)
    for epoch in tqdm(range(EPOCHS), unit="epoch"):
        windows = fn.windows(ids[:cut], LENGTH, 4, key=key.child("windows", epoch))
        state, log = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, windows)
        if epoch + 1 in (15, 30, 45, EPOCHS):
            bits = log.mean_loss / math.log(2)
            print(f"epoch {epoch + 1}: training {bits:.2f}, held-out {held_out_bits(state.params):.2f}")
    print("fingerprint of the network:", fn.fingerprint(state.params)[:16])
    for line in written(state.params, 300).splitlines():
        print(textwrap.fill(line, 110))

# %% [markdown]
"""```text
epoch 15: training 1.50, held-out 2.18
epoch 30: training 0.62, held-out 1.12
epoch 45: training 0.31, held-out 0.89
epoch 60: training 0.23, held-out 0.89
fingerprint of the network: eb7b6a2366407e96
This is the malt that lay in the house that Jack built.
This is the rat that ate the malt that lay in the house that Jack built.
This is the malt that lay in the house that Jack built.
This is the maiden alll forlorn that milked the cow with the crumpled horn that tosssed the dog that woke the
priest all s
```

At the end, the training loss still falls, but the held-out loss does not: the network begins to overfit (part 7). Is
the result good? A model without any network is the right *baseline*. It counts which character followed which three
characters in the training text, and is called an *n-gram* model. Where it has counted little, it relies on the counts
for two characters, and so on:
"""

# %%
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
print("counting needs", f"{counted / (len(text) - cut):.2f}", "bits per character")

# %% [markdown]
"""```text
counting needs 1.06 bits per character
```

The network needs fewer bits for the last verse. Most of its bits are those of the farmer and his corn, whom no verse
before has mentioned. For that line, counting needs fewer: the network is too sure of what it knows. In the rest of the
verse, which both have read before, counting needs nearly three times as many bits as the network, which looks back
further than three characters. (Counting can look back further, too: see exercise 3.)

## What attention looks at

The picture shows the weights of both heads while the trained network reads the beginning of a verse. Each row is a
character, and its dark squares are the characters that it looks at. All squares above the diagonal are white, because
attention is causal. Several characters after the `c` of `cat` look back at it: this letter tells the animals apart.
"""

# %%
start = "This is the cat that killed the"
norm, heads = state.params[2].net
read = fn.forward((*state.params[:2], norm), np.array([[symbols.index(symbol) for symbol in start]]))[0]
weight, bias = fn.trained_arrays(heads)[:2]
queries_and_keys = read @ weight[:, : 2 * SIZE] + bias[: 2 * SIZE]
figure, axes = plt.subplots(1, 2, figsize=(11, 5.6), layout="constrained")
for head, plot in enumerate(axes):
    q, k = (queries_and_keys[:, first : first + 16] for first in (16 * head, SIZE + 16 * head))
    scores = q @ k.T / 16**0.5
    exponentials = np.tril(np.exp(scores))
    plot.imshow(exponentials / exponentials.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    plot.set_xticks(range(len(start)), start, fontsize=7)
    plot.set_yticks(range(len(start)), start, fontsize=7)
    plot.set(xlabel="looked at", ylabel="character", title=f"The weights of head {head + 1}")
figure.colorbar(axes[0].images[0], ax=axes, label="weight", shrink=0.8)
figure.savefig(FIGURES / "part_12_weights.png", dpi=120)

# %% [markdown]
"""Large language models are made of the same parts: an embedding, positions, blocks of attention and dense layers, and
the logits of the next token. They have more of each, and more text. `examples/language_model.py` trains such a network,
or a recurrent one, on Python's documentation, and compares it with counting and with a compression program.

## Exercises

Each cell below has a gap. Fill it and run the cell: its last line says whether your solution is right. Solutions are in
`part_12_solutions.py`.

**Exercise 1.** The three tokens at the beginning have the keys 0, 1 and 0 and the values 4, 8 and 0. With which query
is the weight of the second token 0.8? And what is then the gradient of the result with respect to this query? Both
follow from the formulas above, on paper.
"""

# %% Exercise 1
query = 0.0  # your number here
by_query = 0.0  # your number here

# The check of exercise 1.
slope = (attend(query + 1e-4, keys, values)[1] - attend(query - 1e-4, keys, values)[1]) / 2e-4
right = abs(attend(query, keys, values)[0][1] - 0.8) < 1e-3 and abs(slope - by_query) < 1e-3
print("Exercise 1:", "solved" if right else "not solved yet")

# %% [markdown]
"""**Exercise 2.** Now the values are vectors. Let `weights` (T,) be the softmax of the scores, `vectors` (T, C) the
values, and `g` (C,) the gradient of the loss with respect to the result, `weights @ vectors`. Write the gradient with
respect to the scores, (T,). The section on the gradient has the formula for values that are numbers.
"""


# %% Exercise 2
def by_scores(weights: fn.Array, vectors: fn.Array, g: fn.Array) -> fn.Array:
    """The gradient of the loss with respect to the scores."""
    return np.zeros(len(weights))  # your lines here


# The check of exercise 2.
scores, vectors = fn.random.normal(fn.Key(0), (5,)), fn.random.normal(fn.Key(1), (5, 3))
direction = np.array([1.0, -2.0, 0.5])
expected = fn.numerical_gradient(lambda z: float(np.exp(z) @ vectors @ direction / np.exp(z).sum()), scores)
found = by_scores(np.exp(scores) / np.exp(scores).sum(), vectors, direction)
print("Exercise 2:", "solved" if np.allclose(found, expected, atol=1e-7) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** The baseline counts contexts of up to 3 characters. Write a function that does the same for contexts
of up to `longest` characters, and find the number from 1 to 20 with which counting needs the fewest bits for the last
verse. Guess first: does a longer context always help? And can counting need fewer bits than the network?
"""


# %% Exercise 3
def counting_bits(longest: int) -> float:
    """The bits per character of the last verse, with contexts of up to this number of characters."""
    return 0.0  # your lines here


best = 3  # your number here, from 1 to 20

# The check of exercise 3.
bits_by_length = [counting_bits(longest) for longest in range(1, 21)]
right = abs(bits_by_length[2] - counted / (len(text) - cut)) < 1e-9 and best == 1 + int(np.argmin(bits_by_length))
print("Exercise 3:", "solved" if right else "not solved yet")

# %% [markdown]
"""This is the end of the tutorial. The glossary, `examples/tutorial/glossary.md`, lists the terms of the field and
where they are explained. `examples/guides` is the manual of the library, and `examples` has longer programs.
"""
