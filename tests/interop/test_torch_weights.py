"""PyTorch's arrays in networks and back: outputs equal PyTorch's, and what may load wrongly is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import conv2d, inputs
from random_networks import networks

import funcnet as fn
from funcnet.core.trees import leaves
from funcnet.interop.torch import from_torch, reorder_flat, to_torch

torch: Any = pytest.importorskip("torch", exc_type=ImportError)
torch.set_num_threads(1)  # Small networks: threads that wait for each other take longer.
NN: Any = torch.nn
KEY = fn.Key(19)
Module = Callable[[Any, Any], Any]

# ------------------------------------------------------------------------------------------------- mirrors


def around(layer: Any, inside: list[Any]) -> Any:
    """A combinator in PyTorch. Its networks have the names of the fields; features and channels are on axis 1."""
    module = NN.Module()
    if isinstance(layer, fn.Parallel):
        module.nets = NN.ModuleList(inside)
    else:
        module.net = inside[0]

    def forward(x: Any) -> Any:
        ys = [net(x) for net in inside]
        if isinstance(layer, fn.Parallel):
            return torch.cat(ys, 1) if layer.combine == "concat" else torch.stack(ys).sum(0)
        if isinstance(layer, fn.Repeat):
            return NN.Sequential(*inside * layer.times)(x)
        return x + ys[0] if isinstance(layer, fn.Residual) else ys[0]

    module.forward = forward
    return module


MODULES: Final[dict[type[fn.Layer], Module]] = {
    fn.Dense: lambda layer, _: NN.Linear(*layer.weight.shape, layer.bias is not None),
    fn.Conv2D: lambda layer, shape: NN.Conv2d(
        shape[2],
        layer.weight.shape[3],
        layer.weight.shape[:2],
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
    ),
    fn.BatchNorm: lambda layer, shape: (NN.BatchNorm1d if len(shape) == 1 else NN.BatchNorm2d)(
        shape[-1], layer.epsilon, affine=not (layer.scale is layer.offset is None)
    ),
    fn.LayerNorm: lambda layer, shape: NN.LayerNorm(
        (*shape[-1:], *shape[:-1])[-layer.axes :],
        layer.epsilon,
        not (layer.scale is layer.offset is None),
        layer.offset is not None,
    ),
    fn.RMSNorm: lambda layer, shape: NN.RMSNorm(
        shape[-layer.axes :], layer.epsilon, elementwise_affine=layer.scale is not None
    ),
    fn.Identity: lambda _, __: NN.Identity(),
    fn.ReLU: lambda _, __: NN.ReLU(),
    fn.LeakyReLU: lambda layer, _: NN.LeakyReLU(layer.slope),
    fn.ELU: lambda layer, _: NN.ELU(layer.alpha),
    fn.SELU: lambda _, __: NN.SELU(),
    fn.PReLU: lambda layer, _: NN.PReLU(len(layer.slope)),
    fn.Sigmoid: lambda _, __: NN.Sigmoid(),
    fn.Tanh: lambda _, __: NN.Tanh(),
    fn.Softplus: lambda _, __: NN.Softplus(threshold=100),
    fn.Softsign: lambda _, __: NN.Softsign(),
    fn.SiLU: lambda _, __: NN.SiLU(),
    fn.HardSwish: lambda _, __: NN.Hardswish(),
    fn.Mish: lambda _, __: NN.Mish(),
    fn.GELU: lambda _, __: NN.GELU(),
    fn.GELUTanh: lambda _, __: NN.GELU("tanh"),
    fn.Softmax: lambda _, __: NN.Softmax(1),
    fn.Dropout: lambda layer, _: NN.Dropout(layer.rate),
    fn.MaxPool2D: lambda layer, _: NN.MaxPool2d(layer.window, layer.stride, layer.padding),
    fn.AvgPool2D: lambda layer, _: NN.AvgPool2d(layer.window, layer.stride, layer.padding, count_include_pad=False),
    fn.GlobalAvgPool2D: lambda _, __: NN.Sequential(NN.AdaptiveAvgPool2d(1), NN.Flatten()),
    fn.Flatten: lambda _, __: NN.Flatten(),
    fn.Reshape: lambda _, __: NN.Flatten(),
}
"""The module of each layer; it gets the layer and the shape of its input's rows."""


def mirrored(net: fn.Network, shape: tuple[int, ...]) -> Any:
    """The modules of a network, in float64 and in evaluation; they have arrays of their own."""
    layer: Any = net
    if isinstance(net, tuple):
        modules: list[Any] = []
        for inner in net:
            modules.append(mirrored(inner, shape))
            shape = fn.output_shape(inner, shape)
        return NN.Sequential(*modules).double().eval()
    nets: list[Any] = [*getattr(layer, "nets", [])] or [getattr(layer, "net", None)]
    if nets != [None]:
        return around(layer, [mirrored(each, shape) for each in nets]).double().eval()
    return MODULES[type(layer)](layer, shape).double().eval()


def shaken(model: Any) -> Any:
    """The model with arrays that no layer has by default; variances are positive."""
    with torch.no_grad():
        for position, tensor in enumerate([*model.parameters(), *model.buffers()]):
            if tensor.is_floating_point():
                noise = torch.tensor(inputs(KEY.child(position), *tensor.shape)).to(tensor.dtype)
                tensor.copy_(0.5 + noise.abs() if tensor.min() > 0 else tensor + 0.1 * noise)
    return model


def output(model: Any, x: fn.Array) -> fn.Array:
    """PyTorch's output for funcnet's x; an output that has channels gets them last."""
    tensor = torch.tensor(x)
    y = model(tensor.permute(0, 3, 1, 2) if x.ndim == 4 else tensor).detach()
    result: fn.Array = (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).numpy()
    return result


def tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of ``to_torch`` as tensors."""
    return {name: torch.from_numpy(array) for name, array in state.items()}


def described(state: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The name, the shape and the dtype of each tensor, in order."""
    return [(name, tensor.shape, tensor.dtype) for name, tensor in state.items()]


class Sizes(TypedDict):
    """A keyword of both functions."""

    input_shape: tuple[int, ...]


def check_both_ways(net: Any, shape: tuple[int, ...]) -> None:
    """PyTorch's arrays in the network, the network's arrays in PyTorch, and the way there and back."""
    torch.manual_seed(0)
    x, sizes = inputs(KEY.child("x"), 5, *shape), Sizes(input_shape=shape)
    model = shaken(mirrored(net, shape))
    loaded = from_torch(net, model.state_dict(), **sizes)
    np.testing.assert_allclose(fn.forward(loaded, x), output(model, x), rtol=1e-9, atol=1e-12)
    assert fn.equal(from_torch(net, to_torch(loaded, **sizes), **sizes), loaded)
    other, state = mirrored(net, shape), tensors(to_torch(net, **sizes))
    assert described(state) == described(other.state_dict())
    other.load_state_dict(state)
    np.testing.assert_allclose(output(other, x), fn.forward(net, x), rtol=1e-9, atol=1e-12)
    assert fn.equal(from_torch(net, other.state_dict(), **sizes), net)


# --------------------------------------------------------------------------------------------- exact loads


def kinds_in(net: Any) -> set[type]:
    """The types of the layers that have arrays."""
    return {type(leaf.record) for leaf in leaves(net)}


def has_modules(net: Any) -> bool:
    """Whether PyTorch has the layers: it has no ``Standardize``, and no norm with a scale or an offset alone."""
    one_sided = re.search(r"(BatchNorm\(|LayerNorm\()scale=(None, offset=\w|\w+ \(\d+,\), offset=None)", repr(net))
    return fn.Standardize not in kinds_in(net) and not one_sided


@given(net=networks(plain=True).filter(has_modules))
def test_random_networks_go_both_ways(net: tuple[fn.Network, ...]) -> None:
    """The networks have nested tuples and combinators; their paths are the names in PyTorch."""
    check_both_ways(net, (4,))


@st.composite
def image_networks(draw: st.DrawFn) -> tuple[tuple[fn.Network, ...], tuple[int, ...]]:
    """A network of images and the shape of its rows: image layers, then vectors in one of several ways, then Dense."""
    shape: tuple[int, ...] = draw(st.sampled_from([(5, 4, 3), (4, 6, 1), (6, 6, 2)]))
    net: list[fn.Network] = []
    now = shape
    for position in range(draw(st.integers(0, 3))):
        net.append(draw(image_layers(KEY.child("image", position), now)))
        now = fn.output_shape(net[-1], now)
    flat: list[fn.Network] = [fn.Flatten(), (fn.Flatten(), fn.ReLU()), fn.Reshape((math.prod(now),))]
    branch = conv2d(now, (1, 1)).make(KEY.child("branch"), now)
    flat += [fn.GlobalAvgPool2D(), fn.Parallel((fn.Flatten(), fn.GlobalAvgPool2D(), (branch, fn.Flatten())), "concat")]
    net.append(draw(st.sampled_from(flat)))
    size = fn.output_shape(net[-1], now)[0]
    net += draw(st.lists(st.sampled_from(vector_layers(KEY.child("vector"), size)), max_size=2))
    return (*net, fn.dense(KEY.child("last"), size, 3, dtype=np.float64)), shape


def vector_layers(key: fn.Key, size: int) -> list[fn.Network]:
    """Layers that keep the order of a flattened image's numbers."""
    scale, offset, mean, variance = (inputs(key.child(part), size) for part in range(4))
    norm = fn.BatchNorm(scale, offset, mean, np.abs(variance))
    return [
        *(
            norm,
            fn.LayerNorm(scale, offset),
            fn.RMSNorm(scale),
            fn.PReLU(scale),
            fn.PReLU(scale[:1]),
            fn.Dropout(0.5),
            fn.Tanh(),
            fn.Frozen((norm, fn.ELU())),
        ),
        *(fn.Residual((norm, fn.ReLU())), fn.Repeat(fn.RMSNorm(scale), 2), fn.Parallel((norm, fn.Sigmoid()))),
    ]


@st.composite
def image_layers(draw: st.DrawFn, key: fn.Key, shape: tuple[int, ...]) -> fn.Network:
    """A layer that takes images."""
    channels = shape[-1]
    kernel = draw(st.sampled_from([(1, 1), (3, 2), (2, 3)]))
    stride, padding = draw(st.integers(1, 2)), draw(st.sampled_from([(1, 1), (1, 2)]))
    scale, offset, mean, variance = (inputs(key.child(part), channels) for part in range(4))
    kept = conv2d(shape, (3, 3), padding=1, outputs=channels).make(key.child("kept"), shape)
    layers: list[fn.Network] = [
        fn.BatchNorm(scale, offset, mean, np.abs(variance)),
        fn.PReLU(scale),
        conv2d(shape, kernel, stride=stride, padding=padding).make(key, shape),
        conv2d(shape, (1, 1), outputs=2).make(key, shape),
        fn.MaxPool2D((2, 3), 2, 1),
        fn.AvgPool2D(2, 1, 1),
        fn.Residual((kept, fn.ReLU())),
        fn.Parallel((kept, ()), "concat"),
        (fn.SiLU(), fn.Dropout(0.1)),
    ]
    return draw(st.sampled_from(layers))


@given(drawn=image_networks())
def test_image_networks_go_both_ways(drawn: tuple[tuple[fn.Network, ...], tuple[int, ...]]) -> None:
    """The layers behind a Flatten follow PyTorch's order, (C, H, W)."""
    check_both_ways(*drawn)


def test_a_convolutional_network_in_float32() -> None:
    """LeNet with BatchNorm and biases that PyTorch leaves out: rounding puts both as far from float64's output."""
    net = (
        *(fn.conv2d(KEY, 1, 6, 5, padding=2), fn.batch_norm(6), fn.ReLU(), fn.MaxPool2D(2)),
        *(fn.conv2d(KEY, 6, 16, 5), fn.batch_norm(16), fn.ReLU(), fn.AvgPool2D(2)),
        *(fn.Flatten(), fn.dense(KEY, 400, 120), fn.ReLU(), fn.dense(KEY, 120, 10)),
    )
    torch.manual_seed(0)
    model = NN.Sequential(
        *(NN.Conv2d(1, 6, 5, padding=2, bias=False), NN.BatchNorm2d(6), NN.ReLU(), NN.MaxPool2d(2)),
        *(NN.Conv2d(6, 16, 5, bias=False), NN.BatchNorm2d(16), NN.ReLU(), NN.AvgPool2d(2)),
        *(NN.Flatten(), NN.Linear(400, 120), NN.ReLU(), NN.Linear(120, 10, bias=False)),
    )
    x = inputs(KEY.child("x"), 64, 28, 28, 1, dtype=np.float32)
    output(model.train(), x)  # The running statistics become those of the data.
    wanted = output(model.eval(), x)
    loaded = from_torch(net, model.state_dict(), input_shape=(28, 28, 1))
    exact = fn.forward(fn.astype(loaded, np.float64), x.astype(np.float64))
    ours, theirs = (np.abs(y - exact).max() for y in (fn.forward(loaded, x), wanted))
    assert ours <= 2 * theirs
    assert theirs < 1e-6 * np.abs(exact).max()


# ----------------------------------------------------------------------------------------- order of modules


def named(*, bias: bool) -> Any:
    """An MLP of square layers that are defined in their order, which is not that of the alphabet."""
    module = NN.Module()
    for name in NAMES:
        setattr(module, name, NN.Linear(3, 3, bias=bias, dtype=torch.float64))

    def forward(x: Any) -> Any:
        return module.head(torch.tanh(module.body(torch.tanh(module.embed(x)))))

    module.forward = forward
    return module


NAMES = ("embed", "body", "head")
SQUARE = fn.mlp(KEY, (3, 3, 3, 3), activation=fn.Tanh(), dtype=np.float64)
X = inputs(KEY.child("x"), 4, 3)


def in_alphabetical_order(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state as a safetensors file lists it."""
    return {name: state[name] for name in sorted(state)}


def linears(*names: str) -> dict[str, Any]:
    """The state of square Linear modules of these names."""
    shapes = {"weight": (3, 3), "bias": (3,)}
    return {f"{name}.{own}": np.ones(shape) for name in names for own, shape in shapes.items()}


@pytest.mark.parametrize("bias", [True, False])
def test_pytorchs_own_order_is_that_of_the_definitions(bias: bool) -> None:  # noqa: FBT001  # parametrized
    """So the names need not be given, whatever they are."""
    model = named(bias=bias)
    for names in (None, NAMES, np.array(NAMES).tolist()):
        loaded = from_torch(SQUARE, model.state_dict(), names)
        np.testing.assert_allclose(fn.forward(loaded, X), output(model, X), rtol=1e-9)


@pytest.mark.parametrize("names", [NAMES, ("fc1", "fc2", "fc10"), ("a.0", "b.0", "b.1"), ("0.a", "0.b", "1.a")])
@pytest.mark.parametrize("bias", [True, False])
def test_words_in_alphabetical_order_need_names(names: tuple[str, ...], bias: bool) -> None:  # noqa: FBT001  # as above
    """Otherwise square layers would load in exchanged places without an error.

    The message lists the names, and not as a tuple: pasted, that would load the arrays in the order of the alphabet.
    """
    arrays = in_alphabetical_order(linears(*names)).items()
    state = {name: array * i for i, (name, array) in enumerate(arrays) if bias or "weight" in name}
    with pytest.raises(fn.ConfigError, match=r"do not show an order; pass names=, .* may differ from '.*'$") as refusal:
        from_torch(SQUARE, state)
    assert "(" not in str(refusal.value)
    listed = re.findall("'([^']*)'", str(refusal.value))
    assert listed == (sorted(names) if names == NAMES else list(names))
    loaded: Any = from_torch(SQUARE, state, names)
    assert [loaded[2 * i].weight[0, 0] for i in range(3)] == [state[f"{name}.weight"][0, 0] for name in names]


@pytest.mark.parametrize("prefix", ["", "module.", "net.0.layers."])
def test_numbers_have_their_order_in_every_file(prefix: str, tmp_path: Path) -> None:
    """The name "10" comes before "2" in a safetensors file, and the counter of BatchNorm before all."""
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    dense = fn.mlp(KEY, (3,) * 8, dtype=np.float64)
    net = (*dense, fn.calibrate(fn.batch_norm(3, dtype=np.float64), X))
    state = {f"{prefix}{name}": array for name, array in to_torch(net).items()}
    numpy.save_file(state, tmp_path / "model.safetensors")
    for read in (fn.load_arrays(tmp_path / "model.safetensors"), numpy.load_file(tmp_path / "model.safetensors")):
        assert list(read) != list(state)
        other = (*fn.mlp(KEY.child(1), (3,) * 8, dtype=np.float64), fn.batch_norm(3, dtype=np.float64))
        assert fn.equal(from_torch(other, read), net)


# --------------------------------------------------------------------------------------------------- traps

FLOAT32 = fn.mlp(KEY, (3, 2, 4))
STATE = to_torch(FLOAT32)
NORM = (fn.batch_norm(3),)
IMAGES = (fn.conv2d(KEY, 2, 3, 3), fn.ReLU(), fn.Flatten(), fn.dense(KEY, 12, 4))


@attrs.frozen(eq=False)
class Double(fn.Layer):
    """A layer of the user, with an array."""

    weight: fn.Weight


@attrs.frozen(eq=False)
class Running(fn.Layer):
    """The running sum over a row, which depends on the order of the row's numbers."""


@attrs.frozen(eq=False)
class Around(fn.Layer):
    """A combinator of the user."""

    net: fn.Network


for kind in (Double, Around):
    fn.register_layer(kind, forward=lambda _, x: x, backward=lambda p, _, g: (g, p), output_shape=lambda _, s: s)


@attrs.frozen(eq=False)
class Chosen(fn.Layer):
    """A layer of the user that makes vectors: it flattens rows and takes some of their numbers."""

    indices: tuple[int, ...]


fn.register_layer(
    Chosen,
    forward=lambda params, x: x.reshape(len(x), -1)[:, np.array(params.indices)],
    backward=lambda p, _, g: (g, p),
    output_shape=lambda params, _: (len(params.indices),),
)
fn.register_layer(Running, forward=lambda _, x: np.cumsum(x, axis=1, dtype=x.dtype), backward=lambda p, _, g: (g, p))


def without(state: Mapping[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    """The state without some arrays and with others; two underscores are a dot."""
    kept = {name: array for name, array in state.items() if name not in names}
    return kept | {name.replace("__", "."): array for name, array in more.items()}


load: Any = from_torch
store: Any = to_torch
reorder: Any = reorder_flat


def after_flatten(*layers: fn.Network) -> Callable[[], object]:
    """Load a network with layers behind a Flatten of images that have three channels."""
    net = (fn.Flatten(), *layers)
    return lambda: load(net, {}, input_shape=(2, 2, 3))


Trap = tuple[str, Callable[[], object], type[fn.FuncnetError], str]
TRAPS: Final[list[Trap]] = []


def trap(name: str, call: Callable[[], object], error: type[fn.FuncnetError], message: str) -> None:
    """Add what must be refused; in the message, ``...`` stands for any text."""
    TRAPS.append((name, call, error, message))


# fmt: off
trap("missing", lambda: load(FLOAT32, without(STATE, "2.weight", "2.bias")), fn.StructureError,
    "from_torch: state must fit the network: it has 2 layers with arrays, state has arrays of 1; the modules are "
    "taken in the order '0'\n  missing: the arrays of layer 2 (Dense)")
trap("a network of one layer", lambda: load(FLOAT32[0], STATE), fn.StructureError,
    "...: it has 1 layer with arrays, state has arrays of 2; the modules are taken in the order '0', '2'\n...")
AUTOENCODER = {f"{name}.{own}": array for name, module in (("out", 2), ("hidden", 0))
               for own, array in (("weight", STATE[f"{module}.weight"]), ("bias", STATE[f"{module}.bias"]))}
trap("defined in another order", lambda: load(FLOAT32, AUTOENCODER), fn.ShapeError,
    "from_torch: 'out.weight' must have shape (2, 3) for layer 0 (Dense), got (4, 2); the modules are taken in the "
    "order 'out', 'hidden'; if the model applies them in another order, pass names=; the arrays would fit "
    "names=('hidden', 'out')")
BLOCK, IN_ORDER = fn.transformer_block(KEY, 4, 2, hidden=8), ("norm1", "self_attn", "norm2", "linear1", "linear2")
DEFINED = {name: array for module in ("self_attn", "linear1", "linear2", "norm1", "norm2")
           for name, array in fn.to_torch(BLOCK, IN_ORDER).items() if name.startswith(module)}
trap("an encoder layer without names", lambda: load(BLOCK, DEFINED), fn.StructureError,
    f"...; if the model applies them in another order, pass names=; the arrays would fit names={IN_ORDER}\n...")
trap("wrong names", lambda: load(FLOAT32, AUTOENCODER, ["out", "hidden"]), fn.ShapeError,
    "from_torch: 'out.weight' must have shape (2, 3) for layer 0 (Dense), got (4, 2)")
trap("words, one left over", lambda: load(FLOAT32[0], AUTOENCODER), fn.StructureError,
    "...in the order 'out', 'hidden'; if the model applies them in another order, pass names=\n  left over: ...")
trap("left over", lambda: load(FLOAT32, without(STATE, **{"4__weight": 1, "4__bias": 1})), fn.StructureError,
    "...in the order '0', '2', '4'\n  left over: '4.weight', '4.bias'")
trap("left over, by names", lambda: load(FLOAT32[0], STATE, ["0"]), fn.StructureError,
    "...\n  left over: '2.weight', '2.bias'")
trap("parts", lambda: load((*NORM, fn.layer_norm(3)), {"0.bias": 1, "1.weight": 1, "1.running_mean": 1}),
    fn.StructureError, "...\n  missing for layer 0 (BatchNorm): '0.running_mean', '0.running_var'\n  "
    "left over for layer 1 (LayerNorm): '1.running_mean'")
MANY = {f"{i}.{own}": np.ones(1) for i in range(1000) for own in ("weight", "bias", "scale")}
trap("thousands left over", lambda: load(FLOAT32[0], without(MANY, "0.scale")), fn.StructureError,
    "...in the order '0', '1', '2', '3', '4', '5' and 994 more\n  left over: '1.weight', '1.bias', '1.scale', "
    "'2.weight', '2.bias', '2.scale' and 2991 more")
trap("thousands of layers", lambda: load((FLOAT32[0],) * 1000, MANY), fn.StructureError,
    "...\n  left over for layer 5 (Dense): '5.scale'\n  and 994 more")
trap("thousands of layers alone", lambda: load((FLOAT32[0],) * 1000, {}), fn.StructureError,
    "...missing: the arrays of layer 0 (Dense), ..., layer 5 (Dense) and 994 more")
trap("a state of training", lambda: load(fn.TrainState.create(FLOAT32, fn.SGD(0.1), key=KEY), STATE),
    fn.StructureError, "from_torch: a network is..., got TrainState...; use state.params")
trap("a number in state", lambda: load(FLOAT32, {"epoch": 3, **STATE}), fn.StructureError, "...")
trap("transposed already", lambda: load(FLOAT32, without(STATE, **{"2__weight": STATE["2.weight"].T})),
    fn.ShapeError, "from_torch: '2.weight' must have shape (4, 2) for layer 2 (Dense), got (2, 4); it has "
    "funcnet's layout already: use with_named_arrays for such arrays")
trap("shape", lambda: load(FLOAT32, without(STATE, **{"0__bias": np.ones((2, 1))})), fn.ShapeError,
    "from_torch: '0.bias' must have shape (2,) for layer 0 (Dense), got (2, 1)")
trap("shape in a combinator", lambda: load(fn.Residual((fn.Tanh(), fn.dense(KEY, 2, 2))), {"weight": np.ones(2)}),
    fn.ShapeError, "from_torch: 'weight' must have shape (2, 2) for layer net.1 (Dense), got (2,)")
trap("float64", lambda: load(FLOAT32, {name: a.astype(np.float64) for name, a in STATE.items()}), fn.DTypeError,
    "from_torch: '0.weight' must be float32, or a narrower float, for layer 0 (Dense), got float64; use "
    "fn.astype(net, np.float64), or cast the array: .astype(np.float32)")
trap("int8", lambda: load(FLOAT32, {name: a.astype(np.int8) for name, a in STATE.items()}), fn.DTypeError,
    "...got int8; cast the array: .astype(np.float32)")
trap("masked", lambda: load(FLOAT32, without(STATE, **{"0__bias": np.ma.masked_array(np.ones(2))})),
    fn.DTypeError, "...use '0.bias'.filled(...)")
trap("gradients", lambda: load(FLOAT32, dict(mirrored(FLOAT32, (3,)).float().named_parameters())), fn.DTypeError,
    "from_torch: NumPy cannot read '0.weight': Can't call numpy() on Tensor that requires grad. Use "
    "tensor.detach()...; use {name: tensor.detach().cpu() for name, tensor in state.items()}, with .float() for "
    "bfloat16")
trap("bfloat16", lambda: load(FLOAT32, mirrored(FLOAT32, (3,)).bfloat16().state_dict()), fn.DTypeError,
    "from_torch: NumPy cannot read '0.weight': ...BFloat16; ...with .float() for bfloat16")
trap("a model", lambda: load(FLOAT32, mirrored(FLOAT32, (3,))), fn.ConfigError,
    "from_torch: state must be a mapping of names to arrays, got Sequential; use model.state_dict()")
trap("a checkpoint", lambda: load(FLOAT32, {"epoch": 3, "model": STATE}), fn.ConfigError,
    "from_torch: state must map names to arrays, got a mapping at 'model'; use state['model'] or another mapping in it")
trap("no name", lambda: load(FLOAT32, {0: np.ones(3)}), fn.ConfigError,
    "from_torch: state must map names to arrays, got the name 0")
trap("weight_norm", lambda: load(FLOAT32, NN.utils.parametrizations.weight_norm(NN.Linear(3, 2)).state_dict()),
    fn.ConfigError, "from_torch: the weights of 'parametrizations.weight.original0', "
    "'parametrizations.weight.original1' are parametrized (weight or spectral normalization, pruning); make them "
    "plain in PyTorch, with torch.nn.utils.parametrize.remove_parametrizations for example")
trap("pruning", lambda: load(FLOAT32, {"0.weight_orig": 1, "0.bias": 1, "0.weight_mask": 1}), fn.ConfigError,
    "from_torch: the weights of '0.weight_orig', '0.weight_mask' are parametrized...")
trap("unknown names", lambda: load(FLOAT32, STATE, ["0", "fc"]), fn.ConfigError,
    "from_torch: names must be modules of state, '0', '2', got 'fc'")
trap("equal names", lambda: load(FLOAT32, STATE, ["0", "0"]), fn.ConfigError,
    "from_torch: names must be a sequence of the names of modules, all different, got ['0', '0']")
trap("a word for names", lambda: store(FLOAT32, "fc"), fn.ConfigError,
    "to_torch: names must be a sequence of..., got 'fc'")
trap("few names", lambda: store(FLOAT32, ["fc"]), fn.ConfigError,
    "to_torch: names must be of 2 modules, one for each of layer 0 (Dense), layer 2 (Dense), got 1")
trap("two names for one layer", lambda: store(FLOAT32[0], ["fc", "head"]), fn.ConfigError,
    "to_torch: names must be of 1 module, one for each of Dense, got 2")
trap("Standardize", lambda: store((fn.Standardize(np.ones(3), np.ones(3)), *FLOAT32)), fn.ConfigError,
    "to_torch (layer 0): Standardize has no counterpart in PyTorch; layers with arrays must be Dense, Conv2D, "
    "Conv1D, BatchNorm, LayerNorm, RMSNorm, PReLU, Embedding, LearnedPositions, RNN, GRU, LSTM, MultiHeadAttention; "
    "convert the layers before and after it, and put it between them")
trap("a layer of the user", lambda: load(fn.Residual(Double(np.ones((1, 1)))), {}), fn.ConfigError,
    "from_torch (layer net): Double has no counterpart in PyTorch; ...")
trap("no statistics", lambda: store(NORM), fn.ConfigError,
    "to_torch: layer 0 (BatchNorm) has no mean to export; use calibrate(net, x)")
trap("no network", lambda: load([FLOAT32], STATE), fn.StructureError, "from_torch: a network is...")
trap("Flatten", lambda: load(IMAGES, store(IMAGES, input_shape=(4, 4, 2))), fn.ConfigError,
    "from_torch (layer 2): the shape of its rows is not known, and PyTorch flattens images as (C, H, W) instead of "
    "(H, W, C); pass input_shape, the shape of a row of x, such as input_shape=(28, 28, 1)")
trap("Flatten inside", lambda: store(fn.Frozen(IMAGES)), fn.ConfigError, "to_torch (layer net.2): ...")
trap("Reshape", lambda: store((fn.Reshape((2, 2, 1)), fn.GlobalAvgPool2D())), fn.ConfigError,
    "to_torch (layer 0): ...")
trap("channels first", lambda: store(IMAGES, input_shape=(2, 4, 4)), fn.ShapeError,
    "Conv2D (layer 0): x must have...")
trap("no shape", lambda: store(IMAGES, input_shape=4), fn.ConfigError, "...; use (4,)")
trap("a flat end", after_flatten(fn.ReLU()), fn.ConfigError, "from_torch: the network ends with flattened images...")
trap("order through a sum", after_flatten(Running()), fn.ConfigError,
    "from_torch (layer 1): PyTorch's order of flattened images, (C, H, W), cannot be followed through Running; "
    "convert the layers before it and after it separately")
for size in (6, 24):
    trap(f"{size} numbers of 12", after_flatten(Chosen(tuple(i // 2 for i in range(size)))), fn.ConfigError,
        "from_torch (layer 1): ...through Chosen; ...")
trap("a Flatten of the user's", lambda: store((Chosen(tuple(range(12))), fn.dense(KEY, 12, 2)), input_shape=(2, 2, 3)),
    fn.ConfigError, "to_torch (layer 0): ...through Chosen; ...")
trap("order in Residual", lambda: store((fn.Flatten(), fn.Residual(fn.dense(KEY, 12, 12))), input_shape=(2, 2, 3)),
    fn.ConfigError, "to_torch (layer 1): ...through Residual; ...")
BRANCHES = (fn.Flatten(), fn.Parallel((fn.Tanh(), fn.dense(KEY, 12, 12))))
trap("order in one branch", lambda: store(BRANCHES, input_shape=(2, 2, 3)), fn.ConfigError,
    "to_torch (layer 1): ...through Parallel; ...")
trap("order through a user's", after_flatten(Around(())), fn.ConfigError, "...through Around; ...")
trap("Flatten in a user's", lambda: load(Around(fn.Flatten()), {}, input_shape=(2, 2, 3)), fn.ConfigError,
    "from_torch: ...through Around; ...")
trap("other images", after_flatten(fn.Reshape((2, 1, 6))), fn.ConfigError, "...through Reshape; ...")
trap("a vector as an image", lambda: store(fn.Reshape((2, 2, 3)), input_shape=(12,)), fn.ConfigError,
    "...Reshape; ...")
trap("reorder_flat of another", lambda: reorder(fn.ReLU(), (1, 1, 1)), fn.ConfigError,
    "reorder_flat: dense must be a Dense layer, got ReLU()")
trap("reorder_flat's size", lambda: reorder(FLOAT32[0], (2, 2, 3)), fn.ShapeError,
    "reorder_flat: dense must have 12 inputs, one per number of an image of shape (2, 2, 3), got 3")
trap("reorder_flat's shape", lambda: reorder(FLOAT32[0], (3, 1)), fn.ConfigError,
    "reorder_flat: shape must be (H, W, C), got (3, 1)")
trap("reorder_flat's inverse", lambda: reorder(FLOAT32[0], (1, 1, 3), inverse=1), fn.ConfigError,
    "reorder_flat: inverse must be True or False, got 1")
# fmt: on


@pytest.mark.parametrize("case", TRAPS, ids=lambda case: case[0])
def test_what_may_be_wrong_is_refused(case: Trap) -> None:
    """The message says what, where, and what to do."""
    _, call, error, message = case
    pattern = ".*".join(map(re.escape, message.split("...")))
    with pytest.raises(error) as refusal:
        call()
    assert re.fullmatch(pattern, str(refusal.value), re.DOTALL), refusal.value


def test_names_put_modules_in_the_order_of_the_network() -> None:
    """The order of the definitions is then not used."""
    assert fn.equal(from_torch(FLOAT32, AUTOENCODER, ["hidden", "out"]), FLOAT32)


# ------------------------------------------------------------------------------------------ other arrays


def test_arrays_that_pytorch_leaves_out() -> None:
    """A missing bias is 0, and a missing affine map of BatchNorm is the identity."""
    model = NN.Sequential(
        NN.Linear(3, 4, bias=False), NN.BatchNorm1d(4, affine=False), NN.LayerNorm(4, bias=False), NN.RMSNorm(4)
    )
    net = fn.dense(KEY, 3, 4), fn.batch_norm(4), fn.layer_norm(4), fn.rms_norm(4, epsilon=2.0**-52)
    twin = shaken(model.double()).eval()
    loaded = from_torch(fn.astype(net, np.float64), twin.state_dict())
    np.testing.assert_allclose(fn.forward(loaded, X), output(twin, X), rtol=1e-9)


@pytest.mark.parametrize("narrow", ["float16", "bfloat16", "float32"])
def test_narrower_floats_load_exactly(narrow: str) -> None:
    """Every number of a narrower float is one of a wider."""
    dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed") if narrow == "bfloat16" else np
    state = {name: array.astype(getattr(dtypes, narrow)) for name, array in STATE.items()}
    for net, dtype in ((FLOAT32, np.float32), (fn.astype(FLOAT32, np.float64), np.float64)):
        loaded = from_torch(net, state)
        assert fn.equal(loaded, from_torch(net, {name: array.astype(dtype) for name, array in state.items()}))


def test_no_array_is_shared() -> None:
    """The network keeps its numbers when the model trains, and the other way round."""
    model = mirrored(FLOAT32, (3,)).float()
    loaded = from_torch(FLOAT32, model.state_dict())
    before, state = to_torch(loaded), to_torch(loaded)
    for tensor in (*model.state_dict().values(), *tensors(state).values()):
        tensor.zero_()
    assert all((array == 0).all() for array in state.values())
    assert fn.equal(from_torch(FLOAT32, before), loaded)
    assert any(array.any() for array in before.values())


DENSE = fn.dense(KEY, 12, 2)
GRAY = fn.dense(KEY, 1, 2)


@pytest.mark.parametrize(
    ("net", "shape", "wanted"),
    [
        ((fn.Flatten(), fn.ReLU()), (3, 4, 1), None),
        ((fn.Flatten(), DENSE), (3, 4, 1), DENSE),
        ((fn.Flatten(), DENSE), (1, 1, 12), DENSE),
        ((fn.Flatten(), DENSE), (3, 4), DENSE),
        ((fn.Reshape((3, 4, 1)), fn.GlobalAvgPool2D(), GRAY), (12,), GRAY),
        ((fn.Flatten(), fn.Reshape((2, 2, 3)), fn.Reshape((12,)), DENSE), (2, 2, 3), reorder_flat(DENSE, (2, 2, 3))),
        ((fn.Flatten(), fn.Flatten(), DENSE), (2, 2, 3), reorder_flat(DENSE, (2, 2, 3))),
        ((fn.Flatten(), fn.Reshape((2, 2, 3)), fn.Tanh()), (2, 2, 3), None),
    ],
)
def test_the_order_changes_where_both_orders_differ(net: Any, shape: tuple[int, ...], wanted: fn.Dense | None) -> None:
    """Images of one channel or one pixel, and sequences, have one order; a Flatten can be undone."""
    dense = [layer for layer in net if isinstance(layer, fn.Dense)]
    loaded: Any = from_torch(net, to_torch(tuple(dense)), input_shape=shape)
    assert fn.equal(loaded, net if wanted is None else (*net[:-1], wanted))


@given(shape=st.tuples(*[st.integers(1, 4)] * 3))
def test_reorder_flat_moves_rows_as_images_move(shape: tuple[int, int, int]) -> None:
    """The layer for (C, H, W) gets the image moved; its inverse gives the layer back."""
    dense = fn.dense(KEY, math.prod(shape), 2, dtype=np.float64)
    x = inputs(KEY.child("x"), 3, *shape)
    first = np.moveaxis(x, -1, 1).reshape(3, -1)
    ours = reorder_flat(dense, shape)
    np.testing.assert_allclose(fn.forward((fn.Flatten(), ours), x), fn.forward(dense, first), rtol=1e-12, atol=1e-12)
    assert fn.equal(reorder_flat(ours, shape, inverse=True), dense)
