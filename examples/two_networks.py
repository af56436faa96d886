"""Train a generative adversarial network: a generator turns noise into points that a discriminator classifies.

The data lie in eight Gaussian clusters (modes) on a ring. One pure function updates both networks, and ``fn.train``
folds it. The losses are those of Goodfellow et al., "Generative adversarial nets", NIPS 2014; the generator has the
non-saturating loss.

Run: python examples/two_networks.py [--epochs 75] [--seed 0] [--figure figures/two_networks.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from attrs import frozen
from matplotlib.figure import Figure

import funcnet as fn

ROWS, BATCH, EPOCHS, NOISE, DEVIATION = 16_384, 256, 75, 8, 0.15
ADAM = fn.Adam(learning_rate=fn.cosine_decay(0.004, steps=EPOCHS * ROWS // BATCH), betas=(0.5, 0.99))
MODES: fn.Array = 2 * np.array([(np.cos(angle), np.sin(angle)) for angle in np.arange(8) * np.pi / 4])


@frozen(eq=False)
class Game:
    """The whole state of the run between two steps."""

    generator: fn.Network
    generator_moments: fn.Moments[fn.Network]
    discriminator: fn.Network
    discriminator_moments: fn.Moments[fn.Network]
    step: int
    key: fn.Key


def play(game: Game, batch: fn.Batch[fn.Array]) -> tuple[Game, float]:
    """Update both networks on a batch of real points and ones; return the loss of the discriminator."""
    noise = fn.random.normal(game.key.child("noise", game.step), (len(batch.x), NOISE)).astype(np.float32)
    fake = fn.forward(game.generator, noise)
    # The discriminator learns the label 1 for real points, and 0 for generated ones.
    points, labels = np.concatenate([batch.x, fake]), np.concatenate([batch.y, np.zeros_like(batch.y)])
    loss, grads = fn.value_and_grad(game.discriminator, points, labels, fn.binary_cross_entropy)
    discriminator, moments = ADAM.update(game.discriminator, grads, game.discriminator_moments, game.step)
    # The generator learns to get the label 1: its gradient is propagated back through the discriminator.
    _, grad_logits = fn.binary_cross_entropy(fn.forward(discriminator, fake), batch.y)
    grad_fake, _ = fn.backward(discriminator, fake, grad_logits)
    _, grads = fn.backward(game.generator, noise, grad_fake)
    updated = ADAM.update(game.generator, grads, game.generator_moments, game.step)
    return Game(*updated, discriminator, moments, game.step + 1, game.key), loss


def shares(points: fn.Array) -> list[float]:
    """The share of points within three standard deviations of each mode. Shape: points (N, 2)."""
    return [np.count_nonzero(np.hypot(*(points - mode).T) < 3 * DEVIATION) / len(points) for mode in MODES]


def picture(path: Path, data: fn.Array, stages: dict[str, fn.Array], losses: list[float]) -> None:
    """Plot the generated points over the data at each stage, and the loss by epoch."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    axes = figure.subplot_mosaic([list(stages), ["loss"] * len(stages)], height_ratios=[3, 1])
    for name, points in stages.items():
        axes[name].plot(*data.T, ".", markersize=3, color="silver", label="data")
        axes[name].plot(*points.T, ".", markersize=3, color="tab:blue", alpha=0.5, label="generated")
        axes[name].set(title=f"{name}: {sum(shares(points)):.0%} on modes", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    axes[next(reversed(stages))].legend(loc="center", markerscale=4)
    axes["loss"].plot(range(1, len(losses) + 1), losses)
    axes["loss"].axhline(np.log(2), color="gray", linestyle=":")
    axes["loss"].set(xlabel="epoch", ylabel="discriminator loss", title="dotted: ln 2, the loss of a random guess")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, save the figure, and print the coverage of the modes and a report of the traced step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=Path("figures/two_networks.png"))
    options = parser.parse_args()
    key, epochs = fn.Key(options.seed), range(options.epochs)
    x = (MODES[np.arange(ROWS) % 8] + DEVIATION * fn.random.normal(key.child("data"), (ROWS, 2))).astype(np.float32)
    y, noise = np.ones((ROWS, 1), np.float32), fn.random.normal(key.child("test"), (4096, NOISE)).astype(np.float32)
    nets = fn.mlp(key.child("generator"), (NOISE, 64, 64, 2)), fn.mlp(key.child("discriminator"), (2, 64, 64, 1))
    start = Game(nets[0], ADAM.init(nets[0]), nets[1], ADAM.init(nets[1]), 0, key)
    run = fn.train(play, start, lambda epoch: fn.minibatches(x, y, BATCH, key=key.child("order", epoch)), epochs=epochs)
    done = list(run)
    games, last = [start, *(game for game, _ in done)], len(done)
    stages = {f"epoch {n}": fn.forward(games[n].generator, noise) for n in sorted({0, min(5, last), last})}
    picture(options.figure, x[:4096], stages, [log.mean_loss for _, log in done])
    found, real = np.array(shares(stages[f"epoch {last}"])), shares(x)
    print(f"Modes covered: {np.sum(found > 0.05)} of 8; points on them: {sum(found):.1%} (data: {sum(real):.1%})")
    report = fn.program(play, games[-1], fn.Batch(x[:BATCH], y[:BATCH]))
    print(f"A step: {report.calls} NumPy calls on {report.nbytes / 1e6:.1f} MB; untraced: {report.opaque or 'nothing'}")
    print(f"Figure: {options.figure}")


if __name__ == "__main__":
    main()
