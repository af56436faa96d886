"""Take a convolutional network from PyTorch, through a safetensors file, to an ONNX model.

The example compares the outputs of each library on the same 360 digits, and skips a library that is not installed.
Without PyTorch, it trains the network in funcnet, and fn.to_torch makes the arrays that PyTorch would give.
Run: python examples/exchange.py [--epochs 10] [--directory exchange]
"""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import funcnet as fn

SHAPE, BATCH, RATE = (8, 8, 1), 32, 0.002
KEY, LIBRARIES = fn.Key(0), ("torch", "safetensors", "onnx", "onnxruntime")
Net: TypeAlias = tuple[fn.Conv2D, fn.BatchNorm, fn.ReLU, fn.MaxPool2D, fn.Flatten, fn.Dense]
Digits: TypeAlias = fn.Batch[NDArray[np.integer[Any]]]


def network() -> Net:
    """The layers of the network, with initial parameters."""
    conv, dense = fn.conv2d(KEY.child(0), 1, 16, 3, padding="same"), fn.dense(KEY.child(1), 256, 10)
    return conv, fn.batch_norm(16), fn.ReLU(), fn.MaxPool2D(2), fn.Flatten(), dense


def train_in_torch(rows: Digits, x: fn.Array, epochs: int) -> tuple[dict[str, Any], fn.Array]:
    """Train the same layers in PyTorch; return the state_dict and the outputs for x."""
    torch = import_module("torch")
    torch.manual_seed(0)
    nn: Any = torch.nn
    layers: list[Any] = [nn.Conv2d(1, 16, 3, padding="same"), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    model: Any = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
    optimizer: Any = torch.optim.Adam(model.parameters(), lr=RATE)
    for epoch in range(epochs):
        for batch in fn.minibatches(rows.x, rows.y, BATCH, key=KEY.child("shuffle", epoch)):
            optimizer.zero_grad()
            logits = model(torch.tensor(batch.x).permute(0, 3, 1, 2))  # channels first
            nn.functional.cross_entropy(logits, torch.tensor(batch.y)).backward()
            optimizer.step()
    return model.state_dict(), model.eval()(torch.tensor(x).permute(0, 3, 1, 2)).detach().numpy()


def train_in_funcnet(rows: Digits, x: fn.Array, epochs: int) -> tuple[dict[str, Any], fn.Array]:
    """Train the network in funcnet; return its arrays as PyTorch keeps them, and the outputs for x."""
    state = fn.TrainState.create(network(), fn.Adam(learning_rate=RATE), key=KEY.child("run"))
    for epoch in range(epochs):
        batches = fn.minibatches(rows.x, rows.y, BATCH, key=KEY.child("shuffle", epoch))
        state, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches)
    net = fn.calibrate(state.params, rows.x)
    return fn.to_torch(net, input_shape=SHAPE), fn.outputs(net, x)


def compare(name: str, found: fn.Array, expected: fn.Array) -> None:
    """Print the largest difference between two arrays of outputs, as a share of the largest output."""
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    print(f"{name}: the outputs differ by at most {difference:.1e} of the largest")
    assert difference < 1e-5


def main() -> None:
    """Load PyTorch's arrays directly and from a file, export the network, and print how far the outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--directory", type=Path, default=Path("exchange"))
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    has = set(filter(find_spec, LIBRARIES))
    digits = fn.datasets.load_digits()
    rows, test = fn.split(digits.x.reshape(-1, *SHAPE), digits.y, 360, key=KEY.child("test"))

    print(f"Trained in {'PyTorch' if 'torch' in has else 'funcnet: PyTorch is not installed'}")
    train = train_in_torch if "torch" in has else train_in_funcnet
    state, expected = train(rows, test.x, arguments.epochs)
    outputs = fn.outputs(net := fn.from_torch(network(), state, input_shape=SHAPE), test.x)
    compare("fn.from_torch and the trained network", outputs, expected)
    print(f"Test accuracy: {fn.accuracy(outputs.argmax(axis=1), test.y):.4f}")
    if "safetensors" in has:
        path = arguments.directory / "torch.safetensors"
        import_module("safetensors.numpy").save_file({name: np.asarray(each) for name, each in state.items()}, path)
        loaded = fn.from_torch(network(), fn.load_arrays(path), input_shape=SHAPE)
        print(f"The network from {path} is the same: {fn.equal(loaded, net)}")
    print(f"Fingerprint of the network:    {fn.fingerprint(net)}")
    if {"onnx", "onnxruntime"} <= has:
        import_module("onnx").save(fn.to_onnx(net, SHAPE), path := arguments.directory / "digits.onnx")
        session: Any = import_module("onnxruntime").InferenceSession(path)
        print(f"Fingerprint in the ONNX model: {session.get_modelmeta().custom_metadata_map['funcnet.fingerprint']}")
        compare("onnxruntime and funcnet", session.run(None, {"x": test.x})[0], outputs)
    print(f"Not installed: {', '.join(sorted(set(LIBRARIES) - has)) or 'nothing'}")


if __name__ == "__main__":
    main()
