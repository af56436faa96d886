# %% [markdown]
"""# Part 9. Attention by hand, and a tiny language model.

A recurrent network must carry everything that it needs later through every step. *Attention* is the other way to read
a sequence: each step looks back at all earlier steps, and takes what it needs. This part computes attention for three
steps by hand, with its gradient, and then trains a small model that writes text.

Run it with: `python examples/tutorial/part_9_attention.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import math
import textwrap
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
from attrs import evolve
from matplotlib import pyplot as plt

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## A query, keys and values

The parts of a text that a network reads are called *tokens*; here they are characters. From each token, three things
are computed: a *query*, which says what the token looks for; a *key*, which says what the token offers; and a *value*,
which is what others get from it. The *score* of a token for a query is the product of the query and the token's key.
The *softmax* turns the scores into weights between 0 and 1 whose sum is 1: the exponentials of the scores, divided by
their sum. The result is the mean of the values with these weights.

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
*causal* attention. The second token's query is the logarithm of 3. The first token sees itself alone, so its weight is
1 for any query.
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

- The result is a sum of weights times values. The gradient by a *value* is its weight, and the gradient by a *weight*
  is its value.
- A score raises its own weight and lowers the others, because their sum stays 1. The derivative of the softmax gives
  the gradient by a *score*: its weight, times the difference between its value and the mean, 5. A token whose value is
  above the mean pulls the result up.
- A score is the query times a key. The gradient by a *key* is that of its score times the query. The gradient by the
  *query* is the sum, over the tokens, of the gradient by the score times the key.
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
queries, of the keys, and of the values. Let the three tokens be the rows of a unit matrix. Then each row of the weight
matrix is the query, the key and the value of one token. The second matrix, `out_weight`, maps the result back to the
size of the tokens; here it copies it to the first column. The input has the shape (B, T, C): B texts of T tokens with C
numbers each.
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

The columns are the gradients by the queries, by the keys and by the values; only the third query has one, because only
the third result was used. With larger queries and keys, the score is the sum of the products of their numbers, divided
by the square root of their size, so that the scores of long vectors are not larger. With several *heads*, the layer
does all of this several times, each time with other columns: one head can look for the last vowel while another looks
for the beginning of the word.

## Positions

Attention is a mean, and a mean has no order. Exchange the first two tokens: the third gets the same result.
"""

# %%
print("in order    ", fn.forward(layer, x)[0, 2].round(4))
print("in disorder ", fn.forward(layer, x[:, [1, 0, 2]])[0, 2].round(4))
placed = (fn.LearnedPositions(weight=np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])), layer)
print("with places, in order    ", fn.forward(placed, x)[0, 2].round(4))
print("with places, in disorder ", fn.forward(placed, x[:, [1, 0, 2]])[0, 2].round(4))

# %% [markdown]
"""```text
in order     [5. 0. 0.]
in disorder  [5. 0. 0.]
with places, in order     [5.5 0.  0. ]
with places, in disorder  [6. 0. 0.]
```

A network with attention therefore needs to know where a token is. `fn.LearnedPositions` adds a trained row to each
position, before the attention; here, the first position is marked by 0.5. Now the order makes a difference.

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
itself; both parts add their result to their input (`Residual`). The last layer gives a score, the logit, for each
possible next character.

A language model is judged by the *bits per character* that it needs for text that it has not seen: the mean of
`-log2(p)`, where `p` is the probability that it gave to the next character. One bit means that the model hesitates
between two characters, on average; a model that knows nothing needs the logarithm of the number of characters. The
loss is the same mean with the natural logarithm, so dividing it by the logarithm of 2 gives bits.
"""

# %%
LENGTH, SIZE, EPOCHS = 48, 32, 120
key = fn.Key(9)
table = fn.embedding(key.child("table"), len(symbols), SIZE)
places = fn.learned_positions(key.child("places"), LENGTH, SIZE)
attention, dense_layers = fn.transformer_block(key.child("block"), SIZE, heads=2)
last = fn.dense(key.child("last"), SIZE, len(symbols))
net: tuple[fn.Layer, ...] = (table, places, attention, dense_layers, fn.layer_norm(SIZE), last)
print("numbers in the network:", sum(array.size for array in fn.trained_arrays(net)))


def written(net: tuple[fn.Layer, ...], count: int) -> str:
    """Let the network continue the first words, character by character."""
    read = [symbols.index(symbol) for symbol in "This is"]
    for position in range(count):
        logits = fn.forward(net, np.array([read[-LENGTH:]]))[0, -1]
        uniform = fn.random.uniform(key.child("draw", position), logits.shape)
        noise = -np.log(-np.log(uniform))
        read.append(int(np.argmax(logits / 0.7 + noise)))  # a draw from the softmax of logits / 0.7
    return "".join(symbols[each] for each in read)


def held_out_bits(net: tuple[fn.Layer, ...]) -> float:
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
numbers in the network: 16059
before training: This isvt bykhiu
ymyairTsue
irvbgo
dvblfgoiahiuereeflbgsdoifwdclhiv
held-out bits per character: 6.08
```

`fn.windows` cuts the text into windows of 48 characters, in a new order in each epoch, and pairs each window with the
characters that follow. A window gives 48 predictions at once, because the attention is causal.
"""

# %%
with fn.portable():
    steps = EPOCHS * len(fn.windows(ids[:cut], LENGTH, 8, key=key))
    adam = fn.Adam(learning_rate=fn.one_cycle(0.02, steps=steps))
    state = fn.TrainState.create(net, adam, key=key)
    for epoch in range(EPOCHS):
        windows = fn.windows(ids[:cut], LENGTH, 8, key=key.child("windows", epoch))
        state, log = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, windows)
        if epoch + 1 in (20, 40, 80, EPOCHS):
            bits = log.mean_loss / math.log(2)
            print(f"epoch {epoch + 1}: training {bits:.2f}, held-out {held_out_bits(state.params):.2f}")
    for line in written(state.params, 300).splitlines():
        print(textwrap.fill(line, 110))

# %% [markdown]
"""```text
epoch 20: training 1.75, held-out 2.23
epoch 40: training 0.77, held-out 1.78
epoch 80: training 0.21, held-out 0.91
epoch 120: training 0.20, held-out 0.95
This is the man all tattered and torn that kissed the maiden all forlorn that milked the cow with the crumpled
horn that tossed the dog that worrried the cat that killed the rat that ate the malt that lay in the house
that Jack built.
This is the cow with the crumpled horn that tossed the dog that worrried
```

Is that good? A model without any network is the right comparison. It counts which character followed which three
characters in the training text. Where it has counted little, it relies on the counts for two characters, and so on:
"""

# %%
counts = Counter(text[start : start + size] for size in (1, 2, 3, 4) for start in range(cut - size + 1))
totals, kinds = Counter[str](), Counter[str]()
for gram, count in counts.items():
    totals[gram[:-1]] += count
    kinds[gram[:-1]] += 1


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

The network needs fewer bits for the last verse, because it looks back further than three characters. Most of the bits
are those of the farmer and his corn, whom no verse before has mentioned.

## What attention looks at

The picture shows the weights of both heads while the trained network reads the beginning of a verse. Each row is a
character, and its dark squares are the characters that it looks at. All squares above the diagonal are white, because
attention is causal.
"""

# %%
start = "This is the rat that ate the malt"
norm, heads = cast("fn.Residual[tuple[fn.LayerNorm, fn.MultiHeadAttention]]", state.params[2]).net
read = fn.forward((*state.params[:2], norm), np.array([[symbols.index(symbol) for symbol in start]]))[0]
queries_and_keys = read @ heads.weight[:, : 2 * SIZE]
if heads.bias is not None:
    queries_and_keys = queries_and_keys + heads.bias[: 2 * SIZE]
q, k = queries_and_keys[:, :SIZE], queries_and_keys[:, SIZE:]
figure, axes = plt.subplots(1, 2, figsize=(11, 5.6))
for head, plot in enumerate(axes):
    columns = slice(16 * head, 16 * head + 16)
    scores = q[:, columns] @ k[:, columns].T / 16**0.5
    exponentials = np.tril(np.exp(scores))
    plot.imshow(exponentials / exponentials.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    plot.set_xticks(range(len(start)), start, fontsize=7)
    plot.set_yticks(range(len(start)), start, fontsize=7)
    plot.set(xlabel="looked at", ylabel="character", title=f"The weights of head {head + 1}")
figure.tight_layout()
figure.savefig(FIGURES / "part_9_weights.png", dpi=120)

# %% [markdown]
"""Large language models are made of the same parts: an embedding, positions, blocks of attention and dense layers, and
the logits of the next token. They have more of each, and more text. `examples/language_model.py` trains such a network,
or a recurrent one, on Python's documentation, and compares it with counting and with a compression program.

This is the end of the tutorial. `examples/guides` has the manual of the library, and `examples` longer programs.
"""
