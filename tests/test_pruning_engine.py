"""The network that all pruning methods train: gradients, optimisers, batches, parts, the loop."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from cascadenet.sparse.pruning.losses import cross_entropy, squared
from cascadenet.sparse.pruning.network import Network
from cascadenet.sparse.pruning.optimisers import SGD, Adam
from cascadenet.sparse.pruning.schedules import cubic_sparsity, learning_rate
from cascadenet.sparse.pruning.training import (
    DivergenceError,
    batch_bounds,
    constant_loss,
    train,
)

SHAPES = {
    "linear": {"input_shape": (7,), "hidden": (), "n_out": 3},
    "dense": {"input_shape": (7,), "hidden": (6, 5), "n_out": 4},
    "without bias": {"input_shape": (7,), "hidden": (6,), "n_out": 2, "bias": False},
    "normalised": {"input_shape": (7,), "hidden": (6, 5), "n_out": 3, "batch_norm": True},
    "convolutions": {
        "input_shape": (2, 7, 6), "hidden": (5,), "n_out": 3,
        "convolutions": ((3, 3, 1, 1), (4, 3, 2, 0)), "batch_norm": True,
    },
    "strided, padded": {
        "input_shape": (1, 6, 7), "hidden": (), "n_out": 3,
        "convolutions": ((3, 2, 2, 1), (4, 3, 1, 1)),
    },
}  # fmt: skip


def network_of(name: str, seed: int, **changes: object) -> Network:
    network = Network(**{**SHAPES[name], "dtype": "float64", **changes}, seed=seed)
    rng = np.random.default_rng(seed)
    noise = 0.1 * rng.standard_normal(network.parameters.size)
    for slot in network.slots:
        if network.bias or slot.name != "bias":
            slot.of(network.parameters)[...] += slot.of(noise)
    return network


def batch_of(network: Network, rng: np.random.Generator, n: int = 9) -> tuple:
    x = rng.standard_normal((n, int(np.prod(network.input_shape))))
    if network.loss == "squared":
        return x, rng.standard_normal((n, network.n_out))
    return x, rng.integers(0, network.n_out, n)


# ----------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_gradient_is_that_of_finite_differences(name, loss, weighted, seed):
    network = network_of(name, seed, loss=loss)
    rng = np.random.default_rng(seed + 1)
    x, y = batch_of(network, rng)
    weight = rng.random(len(x)) if weighted else None
    network.loss_and_gradient(x, y, weight)
    gradient, step = network.gradient.copy(), 1e-6
    numeric = np.zeros_like(gradient)
    for slot in network.slots:
        if slot.name == "bias" and not network.bias:
            continue
        for i in range(slot.start, slot.stop):
            here = network.parameters[i]
            losses = []
            for shifted in (here + step, here - step):
                network.parameters[i] = shifted
                losses.append(network.loss_and_gradient(x, y, weight))
            network.parameters[i] = here
            numeric[i] = (losses[0] - losses[1]) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)
    assert np.abs(gradient).max() > 1e-3


def test_losses_are_their_definitions(seed):
    rng = np.random.default_rng(seed)
    z, weight = rng.standard_normal((5, 3)), rng.random(5)
    y = np.array([0, 2, 1, 1, 0])
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    wanted = -sum(weight[i] * np.log(p[i, y[i]]) for i in range(5)) / 5
    assert cross_entropy(z.copy(), y, weight) == pytest.approx(wanted)
    target = rng.standard_normal((5, 3))
    wanted = sum(weight[i] * ((z[i] - target[i]) ** 2).sum() / 2 for i in range(5)) / 5
    assert squared(z.copy(), target, weight) == pytest.approx(wanted)


def test_large_logits_are_finite():
    z = np.array([[1e4, 0.0], [-1e4, 0.0]], np.float32)
    assert np.isfinite(cross_entropy(z, np.array([1, 0]), None)) and np.isfinite(z).all()


@pytest.mark.parametrize("name", ["dense", "convolutions"])
def test_passes_agree_with_pytorch(name, seed):
    torch = pytest.importorskip("torch")
    network = network_of(name, seed)
    x, y = batch_of(network, np.random.default_rng(seed))
    layers, shape = [], network.input_shape
    if network.convolutions:
        layers.append(torch.nn.Unflatten(1, shape))
    for i, layer in enumerate(network.layers):
        weight = torch.from_numpy(network.slot("weight", i).of(network.parameters).copy())
        bias = torch.from_numpy(network.slot("bias", i).of(network.parameters).copy())
        if layer.kind == "conv":
            made = torch.nn.Conv2d(
                weight.shape[1], weight.shape[0], weight.shape[2],
                stride=layer.stride, padding=layer.padding,
            )  # fmt: skip
        else:
            if i == len(network.convolutions):
                layers.append(torch.nn.Flatten())
            made = torch.nn.Linear(weight.shape[1], weight.shape[0])
        made.weight, made.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
        layers.append(made)
        if i < len(network.norms):
            if network.norms[i] is not None:
                kind = torch.nn.BatchNorm2d if layer.kind == "conv" else torch.nn.BatchNorm1d
                norm = kind(weight.shape[0]).double()
                for mine, theirs in (("gamma", "weight"), ("beta", "bias")):
                    value = network.slot(mine, i).of(network.parameters).copy()
                    setattr(norm, theirs, torch.nn.Parameter(torch.from_numpy(value)))
                layers.append(norm)
            layers.append(torch.nn.ReLU())
    model = torch.nn.Sequential(*layers)
    loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
    loss.backward()
    assert network.loss_and_gradient(x, y) == pytest.approx(loss.item(), rel=1e-10)
    names = {"weight": 0, "bias": 1, "gamma": 0, "beta": 1}
    weighty = [m for m in model if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
    norms = [m for m in model if isinstance(m, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d))]
    for slot in network.slots:
        module = (norms if slot.name in ("gamma", "beta") else weighty)[slot.layer]
        theirs = list(module.parameters())[names[slot.name]].grad.numpy()
        np.testing.assert_allclose(slot.of(network.gradient), theirs, rtol=1e-8, atol=1e-12)
    model.eval()
    with torch.no_grad():
        theirs = torch.softmax(model(torch.from_numpy(x)), 1).numpy()
    np.testing.assert_allclose(network.predict(x), theirs, rtol=1e-8)  # running statistics too


# ---------------------------------------------------------------------------------- optimisers


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_its_definition(momentum, nesterov, seed):
    rng = np.random.default_rng(seed)
    size, decayed = 40_000, 30_000  # several blocks
    w = rng.standard_normal(size)
    mine, velocity = w.copy(), np.zeros(size)
    optimiser = SGD(momentum, nesterov, weight_decay=0.01)
    for _ in range(3):
        g = rng.standard_normal(size)
        optimiser.step(mine, g.copy(), 0.1, decayed)
        g[:decayed] += 0.01 * w[:decayed]
        velocity = momentum * velocity + g
        w = w - 0.1 * (g + momentum * velocity if nesterov else velocity)
    np.testing.assert_allclose(mine, w, rtol=1e-12, atol=1e-14)


def test_adam_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    size, decayed = 40_000, 30_000
    w = rng.standard_normal(size)
    mine, m, v = w.copy(), np.zeros(size), np.zeros(size)
    optimiser = Adam(weight_decay=0.1)
    for t in range(1, 4):
        g = rng.standard_normal(size)
        optimiser.step(mine, g.copy(), 0.01, decayed)
        w[:decayed] *= 1 - 0.01 * 0.1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(mine, w, rtol=1e-9, atol=1e-12)


def test_schedules_hit_their_corners():
    cosine = [learning_rate("cosine", 0.1, t, 100) for t in range(100)]
    assert cosine[0] == 0.1 and cosine[50] == pytest.approx(0.05) and 0 < cosine[-1] < 1e-4
    assert np.all(np.diff(cosine) < 0)
    step = [learning_rate("step", 1.0, t, 8, milestones=(0.5, 0.75)) for t in range(8)]
    np.testing.assert_allclose(step, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = [learning_rate("constant", 1.0, t, 10, warmup=0.4) for t in range(6)]
    np.testing.assert_allclose(warm, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert cubic_sparsity(0, 0, 10, 0.9) == 0
    assert cubic_sparsity(5, 0, 10, 0.8) == pytest.approx(0.8 * (1 - 0.5**3))
    assert cubic_sparsity(2, 4, 10, 0.8, 0.3) == pytest.approx(0.3)
    assert cubic_sparsity(10, 0, 10, 0.9) == cubic_sparsity(99, 0, 10, 0.9) == 0.9


# ------------------------------------------------------------------------------------ the loop


@pytest.mark.parametrize(("n", "size"), [(1, 128), (128, 128), (129, 128), (1000, 64), (7, 2)])
def test_batches_cover_the_data_in_almost_equal_parts(n, size):
    sizes = np.diff(batch_bounds(n, size))
    assert sizes.sum() == n and sizes.max() <= size and np.ptp(sizes) <= 1
    assert len(sizes) == -(-n // size)


def blobs(rng: np.random.Generator, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    y = rng.integers(0, 3, n)
    x = rng.standard_normal((n, 8)) + 3 * np.eye(3, 8)[y]
    return x.astype(np.float32), y


def fitted(seed: int, order: int) -> Network:
    x, y = blobs(np.random.default_rng(seed))
    network = Network((8,), (16,), 3, seed=seed)
    train(network, x, y, optimiser=SGD(0.9, True, 1e-4), epochs=5, learning_rate=0.05,
          batch_size=32, seed=order)  # fmt: skip
    return network


def test_the_same_seed_gives_the_same_bytes(seed):
    first, again, other = fitted(seed, 0), fitted(seed, 0), fitted(seed, 1)
    assert first.parameters.tobytes() == again.parameters.tobytes()
    assert first.parameters.tobytes() != other.parameters.tobytes()


def test_training_in_two_parts_is_training_at_once(seed):
    """Parameters and optimiser go out and in as arrays; the order of samples is the second's."""
    x, y = blobs(np.random.default_rng(seed))
    options = {"learning_rate": 0.05, "schedule": "constant", "batch_size": 300}
    whole = Network((8,), (16,), 3, seed=seed)
    train(whole, x, y, optimiser=SGD(), epochs=6, seed=0, **options)
    first, optimiser = Network((8,), (16,), 3, seed=seed), SGD()
    train(first, x, y, optimiser=optimiser, epochs=3, seed=0, **options)
    second, resumed = Network((8,), (16,), 3, seed=seed + 1), SGD()
    second.set_state(first.state())
    resumed.state = {"velocity": optimiser.state["velocity"].copy()}
    train(second, x, y, optimiser=resumed, epochs=3, seed=1, **options)
    np.testing.assert_allclose(second.parameters, whole.parameters, rtol=1e-4, atol=1e-6)


def test_weights_count_as_repetitions(seed):
    """In double precision and one batch, where only rounding differs."""
    rng = np.random.default_rng(seed)
    x, y = blobs(rng, 40)
    x, times = x.astype(np.float64), rng.integers(1, 4, 40)
    results = []
    for data in ((x, y, times / times.mean()), (x.repeat(times, axis=0), y.repeat(times), None)):
        network = Network((8,), (16,), 3, dtype="float64", seed=seed)
        train(
            network, *data[:2], sample_weight=data[2], optimiser=SGD(), epochs=20,
            learning_rate=0.05, batch_size=200,
        )  # fmt: skip
        results.append(network.parameters)
    np.testing.assert_allclose(*results, rtol=1e-7, atol=1e-9)


def test_early_stopping_returns_to_the_best_epoch(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((60, 30)).astype(np.float32), rng.integers(0, 2, 60)  # pure noise
    network = Network((30,), (64,), 2, seed=seed)
    history = train(
        network, x[:40], y[:40], optimiser=Adam(), epochs=200, learning_rate=0.01, batch_size=20,
        validation=(x[40:], y[40:], None), patience=5,
    )  # fmt: skip
    losses = [epoch.validation_loss for epoch in history]
    assert len(history) < 200 and np.argmin(losses) == len(losses) - 6
    assert network.mean_loss(x[40:], y[40:]) == pytest.approx(min(losses), rel=1e-5)


def test_clipping_bounds_a_step(seed):
    moves = []
    for clip in (None, 1e-3):
        network = Network((8,), (16,), 3, seed=seed)
        before = network.parameters.copy()
        x, y = blobs(np.random.default_rng(seed))
        train(network, 10 * x, y, optimiser=SGD(0.0, False), epochs=1, learning_rate=1.0,
              schedule="constant", batch_size=300, clip_norm=clip)  # fmt: skip
        moves.append(np.linalg.norm(network.parameters - before))
    assert moves[1] == pytest.approx(1e-3, rel=1e-3) and moves[0] > 0.1


def test_divergence_is_an_error_with_advice(seed):
    x, y = blobs(np.random.default_rng(seed))
    network = Network((8,), (64, 64), 3, seed=seed)
    with pytest.raises(DivergenceError, match=r"diverged at step .*Lower learning_rate \(now 50\)"):
        train(network, 100 * x, y, optimiser=SGD(), epochs=20, learning_rate=50.0)


def test_forgetting_is_divergence_and_not_learning_is_not(seed):
    """A network whose loss comes back to that of a constant has lost what it knew."""
    x, y = blobs(np.random.default_rng(seed))

    class Forget:
        state: dict = {}
        steps = 0

        def step(self, w, g, lr, decayed):
            self.steps += 1
            w -= 0.1 * g
            if self.steps > 200:
                w[:] = 0

    with pytest.raises(DivergenceError, match="that of a constant"):
        train(Network((8,), (16,), 3), x, y, optimiser=Forget(), epochs=400, learning_rate=0.1,
              batch_size=300)  # fmt: skip
    rng = np.random.default_rng(seed)
    history = train(Network((8,), (16,), 3), x, rng.permutation(y), optimiser=SGD(), epochs=3,
                    learning_rate=1e-3)  # fmt: skip
    assert len(history) == 3


def test_constant_loss_is_that_of_the_best_constant():
    y = np.array([0, 0, 1])
    p = np.array([2, 1]) / 3
    assert constant_loss("cross_entropy", y, None) == pytest.approx(-(p * np.log(p)).sum())
    target = np.array([[1.0], [3.0]])
    assert constant_loss("squared", target, None) == pytest.approx(0.5)


# ---------------------------------------------------------------------------------- federation


@pytest.mark.parametrize("name", ["dense", "normalised", "convolutions"])
def test_a_part_is_the_network_without_the_other_units(name, seed):
    network = network_of(name, seed)
    rng = np.random.default_rng(seed)
    x, y = batch_of(network, rng)
    network.loss_and_gradient(x, y)  # running statistics that differ
    units = [
        np.sort(rng.permutation(layer.weight_shape[0])[: layer.weight_shape[0] // 2 + 1])
        for layer in network.layers[:-1]
    ]
    part, where = network.part(units), network.coordinates(units)
    assert np.unique(where).size == part.parameters.size < network.parameters.size
    rest = np.ones(network.parameters.size, bool)
    rest[where] = False
    network.parameters[rest] = 0
    np.testing.assert_allclose(network.predict(x), part.predict(x), rtol=1e-12)
    part.loss_and_gradient(x, y)
    network.loss_and_gradient(x, y)
    np.testing.assert_allclose(network.gradient[where], part.gradient, rtol=1e-9, atol=1e-12)


def test_the_part_of_all_units_is_everything():
    network = Network((5,), (4, 3), 2)
    assert np.array_equal(network.coordinates([None, None]), np.arange(network.parameters.size))
    with pytest.raises(ValueError, match="units must have one entry"):
        network.coordinates([None])


def test_copies_share_nothing(seed):
    network = network_of("normalised", seed)
    x, y = batch_of(network, np.random.default_rng(seed))
    network.loss_and_gradient(x, y)
    before = network.predict(x).copy()
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        np.testing.assert_array_equal(other.predict(x), before)
        other.parameters += 1
        assert not np.array_equal(other.predict(x), before)
        np.testing.assert_array_equal(network.predict(x), before)
