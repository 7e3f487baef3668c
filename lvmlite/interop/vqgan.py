"""Published image tokenizers of the VQGAN family, opened as ours.

In: a checkpoint in one of FORMATS. Out: a VQGAN with its weights, in float32, or one line that says what does not fit.

The net is read off the shapes; a config is asked only for what they cannot tell: the side of the pictures. What neither
tells is assumed as its format's programs have it, and named. The nets are convolutional, so any multiple of f is a
side; attention stays with its levels.

Papers: Taming Transformers (arXiv 2012.09841), MaskGIT (2202.04200), LlamaGen (2406.06525), LVM (2312.00785), aMUSEd
(2401.01808).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lvmlite import recipe
from lvmlite.interop.checkpoints import Checkpoint, read_checkpoint
from lvmlite.interop.vqgan_keys import FORMATS, detect, is_beside, renaming
from lvmlite.recipe.files import read as read_yaml
from lvmlite.tokenizers.convnet import norm_groups
from lvmlite.tokenizers.vqgan import VQGAN, VQGANConfig

IMAGE_SIZE = 256  # all published tokenizers but a few fine-tuned ones were trained at it
PIXEL_RANGES = {"unit": "[0, 1]", "symmetric": "[-1, 1]"}
NORM_GROUPS = 32  # in every published net; only diffusers' config can say otherwise
NO_SIDE = 32  # diffusers' default of sample_size, in the configs of nets of 256 and 512 pixels too


class Imported(NamedTuple):
    tokenizer: VQGAN
    format: str
    assumed: tuple[str, ...]  # what neither weights nor config nor arguments say, in words


def read_vqgan(
    path: str | Path,
    format: str = "auto",
    *,
    config: str | Path | None = None,
    image_size: int | None = None,
    pixel_range: str | None = None,
) -> VQGAN:
    """Open a published tokenizer, ready for encoding and decoding: `import_vqgan`, and nothing said of it."""
    return import_vqgan(path, format, config=config, image_size=image_size, pixel_range=pixel_range).tokenizer


def import_vqgan(
    path: str | Path,
    format: str = "auto",
    *,
    config: str | Path | None = None,
    image_size: int | None = None,
    pixel_range: str | None = None,
) -> Imported:
    """Open a published tokenizer.

    Args:
        path: a file of weights or the folder that holds it.
        format: one of FORMATS, or "auto".
        config: the YAML or JSON file that came with the weights, where it is not a config.json beside them.
        image_size: H = W of the pictures; by default the config's, else 256.
        pixel_range: "unit" or "symmetric"; by default what the nets of the format see.

    Raises:
        ValueError: a broken file, one with code in it, another architecture, weights that do not fit; in one line.
    """
    if format not in ("auto", *FORMATS):
        raise ValueError(f"format must be auto or one of {', '.join(FORMATS)}, got {format!r}")
    if pixel_range not in (None, *PIXEL_RANGES):
        raise ValueError(f"pixel range must be one of {', '.join(PIXEL_RANGES)}, got {pixel_range!r}")
    checkpoint = read_checkpoint(Path(path))
    if config is not None:
        checkpoint = checkpoint._replace(config=read_yaml(config))
    try:
        return _build(checkpoint, format, image_size, pixel_range)
    except ValueError as error:
        raise ValueError(f"{checkpoint.file}: {error}") from None


def _build(checkpoint: Checkpoint, format: str, image_size: int | None, pixel_range: str | None) -> Imported:
    saved, wrapped = _unwrapped(checkpoint.content)
    named = detect(saved, checkpoint.config, wrapped)
    if format not in ("auto", named) and {format, named} != {"lvm", "taming"}:  # these two share their names
        raise ValueError(f"its names are those of {named}, not of {format}")
    format = named if format == "auto" else format
    rename = renaming(format, saved)
    public = {rename(name): name for name in saved}
    tensors = {ours: _converted(ours, name, saved[name]) for ours, name in public.items()}
    image_size, pixel_range, assumed = _outside(format, checkpoint.config, tensors, image_size, pixel_range)
    net = recipe.build(VQGANConfig, {"pixel_range": pixel_range, **_geometry(tensors, format, image_size)})
    _check_norms(net, format, checkpoint.config)
    with torch.device("meta"):  # the shapes only
        _check_fit(VQGAN(net, image_size).state_dict(), tensors, public)
    tokenizer = VQGAN(net, image_size)
    tokenizer.load_state_dict(tensors)
    return Imported(tokenizer.eval(), format, assumed)


def _unwrapped(content: dict[str, Any]) -> tuple[dict[str, Tensor], bool]:
    """The tensors of the net, and whether they stood under "state_dict". LlamaGen's programs take averages first."""
    inner = next((key for key in ("state_dict", "ema", "model") if isinstance(content.get(key), dict)), None)
    saved = content if inner is None else content[inner]
    saved = {str(name): value for name, value in saved.items() if isinstance(value, Tensor)}
    return {name: value for name, value in saved.items() if not is_beside(name)}, inner == "state_dict"


def _converted(ours: str, name: str, tensor: Tensor) -> Tensor:
    """In float32; the matrices of linear layers in attention become 1 x 1 convolutions."""
    if not tensor.is_floating_point():
        raise ValueError(f"{name} holds {tensor.dtype}, weights must be floats")
    if tensor.dim() == 2 and ours.endswith((".q.weight", ".k.weight", ".v.weight", ".proj_out.weight")):
        tensor = tensor[:, :, None, None]
    return tensor.float()


def _outside(
    format: str, config: dict[str, Any], tensors: dict[str, Tensor], image_size: int | None, pixel_range: str | None
) -> tuple[int, str, tuple[str, ...]]:
    """What shapes cannot tell: image size and pixel range; and what was assumed."""
    assumed = []
    if image_size is None:
        image_size = _configured_size(format, config)
    if image_size is None:
        image_size = IMAGE_SIZE
        assumed.append(f"pictures of {IMAGE_SIZE} x {IMAGE_SIZE} pixels")
    if pixel_range is None:
        amused = format == "diffusers" and not _attends_in_the_middle(tensors)
        pixel_range = "unit" if format in ("lvm", "maskgit") or amused else "symmetric"
        program = "aMUSEd" if amused else format
        assumed.append(f"pixels in {PIXEL_RANGES[pixel_range]}, as in {program}'s programs")
    if format == "llamagen":
        assumed.append("codes compared at length 1")
    return image_size, pixel_range, tuple(assumed)


def _configured_size(format: str, config: dict[str, Any]) -> int | None:
    for key in ("model", "params", "ddconfig") if format == "taming" and "model" in config else ():
        inner = config.get(key)
        config = inner if isinstance(inner, dict) else {}
    size = config.get("sample_size" if format == "diffusers" else "resolution")
    if size is None or (format == "diffusers" and size == NO_SIDE):
        return None
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"the config's picture size is {size!r}, expected a whole number; give the size yourself")
    return size


def _geometry(tensors: dict[str, Tensor], format: str, image_size: int) -> dict[str, Any]:
    """Settings of a VQGANConfig, read off the shapes of tensors under our names."""

    def size(name: str, axis: int = 0) -> int:
        if name not in tensors or tensors[name].dim() <= axis:
            raise ValueError(f"no {name} among its {len(tensors)} tensors; not a whole VQGAN")
        return tensors[name].shape[axis]

    def count(pattern: str) -> int:
        n = 0
        while pattern.format(n) in tensors:
            n += 1
        return n

    channels = size("encoder.conv_in.weight")
    widths = [
        size(f"encoder.down.{i}.block.0.conv1.weight") for i in range(count("encoder.down.{}.block.0.conv1.weight"))
    ]
    if odd := [width for width in widths if width % channels]:
        raise ValueError(
            f"a level of {odd[0]} channels; only multiples of the first convolution's {channels} are built"
        )
    attends = [f"encoder.down.{i}.attn.0.norm.weight" in tensors for i in range(len(widths))]
    n_blocks = count("encoder.down.0.block.{}.conv1.weight")
    if format == "lvm" and any(attends) and n_blocks == 1:
        raise ValueError("one block a level with attention: open-muse skips that attention, which is not built here")
    return {
        "tokenizer": "vqgan",
        "channels": channels,
        "multipliers": [width // channels for width in widths],
        "n_res_blocks": n_blocks,
        "n_decoder_res_blocks": count("decoder.up.0.block.{}.conv1.weight"),
        "attention": [image_size // 2**i for i, there in enumerate(attends) if there],
        "middle_attention": _attends_in_the_middle(tensors),
        "variant": "maskgit" if format == "maskgit" else "taming",
        "z_channels": size("encoder.conv_out.weight"),
        "quantizer": {
            "quantizer": "nearest",
            "codebook_size": size("quantize.embedding.weight"),
            "codebook_dim": size("quantize.embedding.weight", 1),
            "normalize": format == "llamagen",
        },
    }


def _attends_in_the_middle(tensors: dict[str, Tensor]) -> bool:
    return "encoder.mid.attn_1.norm.weight" in tensors


def _check_norms(net: VQGANConfig, format: str, config: dict[str, Any]) -> None:
    """Numbers of groups and activations leave no trace in shapes."""
    groups = config.get("norm_num_groups", NORM_GROUPS) if format == "diffusers" else NORM_GROUPS
    for width in (net.channels * m for m in (1, *net.multipliers)):
        if norm_groups(width) != groups:
            raise ValueError(f"norms of {groups} groups at {width} channels; only {norm_groups(width)} are built there")
    if format == "diffusers" and config.get("act_fn", "silu") not in ("silu", "swish"):
        raise ValueError(f"activation {config['act_fn']}; only silu is built")


def _check_fit(expected: dict[str, Tensor], found: dict[str, Tensor], public: dict[str, str]) -> None:
    """Raises ValueError unless names and shapes are the same; says what is not, in the checkpoint's names."""
    both = sorted(expected.keys() & found.keys())
    differing = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(public[name] for name in found.keys() - expected.keys()),
        "of another shape": [
            f"{public[name]} {tuple(found[name].shape)} for {tuple(expected[name].shape)}"
            for name in both
            if found[name].shape != expected[name].shape
        ],
    }
    lines = [
        f"{what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in differing.items()
        if names
    ]
    if lines:
        raise ValueError(f"does not fit the VQGAN that its shapes tell of; {'; '.join(lines)}")
