"""The FID Inception: published names and shapes, and its forward against one written anew over its state dict."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lvmlite.perception.inception import FIDInception, open_inception

Kernels = dict[str, tuple[int, ...]]


def kernels_a(n: int, pool: int) -> Kernels:
    return {
        "branch1x1": (64, n, 1, 1),
        "branch5x5_1": (48, n, 1, 1), "branch5x5_2": (64, 48, 5, 5),
        "branch3x3dbl_1": (64, n, 1, 1), "branch3x3dbl_2": (96, 64, 3, 3), "branch3x3dbl_3": (96, 96, 3, 3),
        "branch_pool": (pool, n, 1, 1),
    }  # fmt: skip


def kernels_c(n: int) -> Kernels:
    return {
        "branch1x1": (192, 768, 1, 1),
        "branch7x7_1": (n, 768, 1, 1), "branch7x7_2": (n, n, 1, 7), "branch7x7_3": (192, n, 7, 1),
        "branch7x7dbl_1": (n, 768, 1, 1), "branch7x7dbl_2": (n, n, 7, 1), "branch7x7dbl_3": (n, n, 1, 7),
        "branch7x7dbl_4": (n, n, 7, 1), "branch7x7dbl_5": (192, n, 1, 7),
        "branch_pool": (192, 768, 1, 1),
    }  # fmt: skip


def kernels_e(n: int) -> Kernels:
    return {
        "branch1x1": (320, n, 1, 1),
        "branch3x3_1": (384, n, 1, 1), "branch3x3_2a": (384, 384, 1, 3), "branch3x3_2b": (384, 384, 3, 1),
        "branch3x3dbl_1": (448, n, 1, 1), "branch3x3dbl_2": (384, 448, 3, 3),
        "branch3x3dbl_3a": (384, 384, 1, 3), "branch3x3dbl_3b": (384, 384, 3, 1),
        "branch_pool": (192, n, 1, 1),
    }  # fmt: skip


KERNELS_B = {
    "branch3x3": (384, 288, 3, 3),
    "branch3x3dbl_1": (64, 288, 1, 1), "branch3x3dbl_2": (96, 64, 3, 3), "branch3x3dbl_3": (96, 96, 3, 3),
}  # fmt: skip
KERNELS_D = {
    "branch3x3_1": (192, 768, 1, 1), "branch3x3_2": (320, 192, 3, 3),
    "branch7x7x3_1": (192, 768, 1, 1), "branch7x7x3_2": (192, 192, 1, 7), "branch7x7x3_3": (192, 192, 7, 1),
    "branch7x7x3_4": (192, 192, 3, 3),
}  # fmt: skip
STEM = {
    "Conv2d_1a_3x3": (32, 3, 3, 3), "Conv2d_2a_3x3": (32, 32, 3, 3), "Conv2d_2b_3x3": (64, 32, 3, 3),
    "Conv2d_3b_1x1": (80, 64, 1, 1), "Conv2d_4a_3x3": (192, 80, 3, 3),
}  # fmt: skip
BLOCKS = {
    "Mixed_5b": kernels_a(192, 32), "Mixed_5c": kernels_a(256, 64), "Mixed_5d": kernels_a(288, 64),
    "Mixed_6a": KERNELS_B, "Mixed_6b": kernels_c(128), "Mixed_6c": kernels_c(160), "Mixed_6d": kernels_c(160),
    "Mixed_6e": kernels_c(192), "Mixed_7a": KERNELS_D, "Mixed_7b": kernels_e(1280), "Mixed_7c": kernels_e(2048),
}  # fmt: skip
CONVOLUTIONS = STEM | {f"{block}.{branch}": kernel for block, b in BLOCKS.items() for branch, kernel in b.items()}


def published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for name, kernel in CONVOLUTIONS.items():
        shapes[f"{name}.conv.weight"] = kernel
        shapes |= {f"{name}.bn.{part}": kernel[:1] for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.bn.num_batches_tracked"] = ()
    return shapes


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights under the published names, of a size that keeps activations near 1."""
    g = torch.Generator().manual_seed(0)
    made = {}
    for name, shape in published_shapes().items():
        if name.endswith("conv.weight"):
            made[name] = torch.randn(shape, generator=g) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            made[name] = 0.5 + torch.rand(shape, generator=g)
        elif name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(0)
        else:
            made[name] = 0.1 * torch.randn(shape, generator=g)
    return made


@pytest.fixture
def net(state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> FIDInception:
    monkeypatch.setattr("lvmlite.weights.load", {"inception-fid": state}.__getitem__)
    return open_inception(torch.device("cpu"))


class Reference:
    """The published graph as functions of the state dict."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = state

    def conv(self, x: Tensor, name: str, stride: int = 1, same: bool = True) -> Tensor:
        kernel, bn = self.state[f"{name}.conv.weight"], f"{name}.bn."
        height, width = kernel.shape[2] // 2, kernel.shape[3] // 2
        x = F.conv2d(F.pad(x, (width, width, height, height)) if same else x, kernel, stride=stride)
        mean, var, scale, shift = (
            self.state[bn + part][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 0.001).sqrt() * scale + shift).clamp(min=0)

    def chain(self, x: Tensor, name: str, numbers: str, reduces: bool = False) -> Tensor:
        for number in numbers:
            last = reduces and number == numbers[-1]
            x = self.conv(x, f"{name}_{number}", stride=2 if last else 1, same=not last)
        return x

    def pooled(self, x: Tensor, name: str) -> Tensor:
        """The branch behind the average over those of the 3 x 3 neighbours that lie inside."""
        ones = torch.ones(1, 1, 3, 3)
        total = F.conv2d(x.flatten(0, 1)[:, None], ones, padding=1).view_as(x)
        return self.conv(total / F.conv2d(torch.ones(1, 1, *x.shape[2:]), ones, padding=1), f"{name}.branch_pool")

    def a(self, x: Tensor, name: str) -> Tensor:
        five, double = self.chain(x, f"{name}.branch5x5", "12"), self.chain(x, f"{name}.branch3x3dbl", "123")
        return torch.cat([self.conv(x, f"{name}.branch1x1"), five, double, self.pooled(x, name)], 1)

    def b(self, x: Tensor, name: str) -> Tensor:
        three = self.conv(x, f"{name}.branch3x3", stride=2, same=False)
        return torch.cat([three, self.chain(x, f"{name}.branch3x3dbl", "123", reduces=True), F.max_pool2d(x, 3, 2)], 1)

    def c(self, x: Tensor, name: str) -> Tensor:
        seven, double = self.chain(x, f"{name}.branch7x7", "123"), self.chain(x, f"{name}.branch7x7dbl", "12345")
        return torch.cat([self.conv(x, f"{name}.branch1x1"), seven, double, self.pooled(x, name)], 1)

    def d(self, x: Tensor, name: str) -> Tensor:
        three = self.chain(x, f"{name}.branch3x3", "12", reduces=True)
        return torch.cat([three, self.chain(x, f"{name}.branch7x7x3", "1234", reduces=True), F.max_pool2d(x, 3, 2)], 1)

    def e(self, x: Tensor, name: str) -> Tensor:
        out = [self.conv(x, f"{name}.branch1x1")]
        for branch, before, fork in (("branch3x3", "1", "2"), ("branch3x3dbl", "12", "3")):
            h = self.chain(x, f"{name}.{branch}", before)
            out += [self.conv(h, f"{name}.{branch}_{fork}{side}") for side in "ab"]
        if name == "Mixed_7c":  # padding is never the maximum: what comes in is not negative
            return torch.cat([*out, self.conv(F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1), f"{name}.branch_pool")], 1)
        return torch.cat([*out, self.pooled(x, name)], 1)

    def __call__(self, images: Tensor) -> Tensor:
        rows, columns = (weights(side) for side in images.shape[2:])
        x = 2 * (rows @ images @ columns.T) - 1
        x = self.conv(self.conv(x, "Conv2d_1a_3x3", 2, same=False), "Conv2d_2a_3x3", same=False)
        x = F.max_pool2d(self.conv(x, "Conv2d_2b_3x3"), 3, 2)
        x = F.max_pool2d(self.conv(self.conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3", same=False), 3, 2)
        for block, kind in zip(BLOCKS, "aaabccccdee"):
            x = getattr(self, kind)(x, block)
        assert x.shape[1:] == (2048, 8, 8)
        return x.flatten(2).mean(2)


def weights(side: int) -> Tensor:
    """(299, side) of a bilinear resize: pixel centres lie at halves, edges are held, two pixels are mixed."""
    at = ((torch.arange(299) + 0.5) * side / 299 - 0.5).clamp(0, side - 1)
    return (1 - (at[:, None] - torch.arange(side)).abs()).clamp(min=0)


def test_names_and_shapes_are_the_published() -> None:
    with torch.device("meta"):
        net = FIDInception()
    assert {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} == published_shapes()
    # 23,834,568 of Inception-v3 with 1000 classes and no auxiliary classifier, and 8 classes more
    assert sum(p.numel() for p in net.parameters()) == 23_834_568 + 8 * 2049
    assert len(CONVOLUTIONS) == 94


@torch.no_grad()
def test_features_are_those_of_the_published_graph(net: FIDInception, state: dict[str, Tensor]) -> None:
    images = torch.rand(2, 3, 340, 120, generator=torch.Generator().manual_seed(1))
    features, expected = net(images), Reference(state)(images)
    assert features.shape == (2, 2048)
    assert expected.std(0).mean() > 0.01  # the pictures are told apart
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "block", "n_in", "side"),
    [("a", "Mixed_5c", 256, 7), ("c", "Mixed_6b", 768, 9), ("e", "Mixed_7b", 1280, 4), ("e", "Mixed_7c", 2048, 4)],
)
def test_blocks_that_pool_in_their_own_way(
    kind: str, block: str, n_in: int, side: int, net: FIDInception, state: dict[str, Tensor]
) -> None:
    x = torch.rand(1, n_in, side, side + 1, generator=torch.Generator().manual_seed(2))
    expected = getattr(Reference(state), kind)(x, block)
    torch.testing.assert_close(getattr(net, block)(x), expected, rtol=1e-4, atol=1e-5)


def test_it_is_frozen_and_opening_it_draws_nothing(net: FIDInception, state: dict[str, Tensor]) -> None:
    before = torch.random.get_rng_state()
    again = open_inception(torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module.training for module in again.modules())
    assert not any(p.requires_grad for p in again.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


def test_weights_without_counters_of_batches_load_too(
    state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files from before PyTorch 0.4.1 have none."""
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    monkeypatch.setattr("lvmlite.weights.load", {"inception-fid": old}.__getitem__)
    assert open_inception(torch.device("cpu")).state_dict().keys() == state.keys()
