"""Checkpoints that cannot be opened: one line each, and nothing in them is run."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lvmlite.interop.vqgan import import_vqgan
from tests.interop.public_nets import MaskGit, PublicNet


@cache
def net() -> PublicNet:
    return PublicNet(multipliers=(1, 1))


def refused(path: Path, *, names: str = "", **options: Any) -> str:
    """The one line said of it, which begins with the path of the file or folder at fault."""
    with pytest.raises(ValueError, match=f"^{re.escape(names or str(path))}") as error:
        import_vqgan(path, **options)
    line = str(error.value)
    assert "\n" not in line
    return line


class Runs:
    """Unpickled, it would write a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.target), "w")


def test_code_in_a_file_is_named_and_not_run(tmp_path: Path) -> None:
    for at, saved in enumerate(
        (Runs(tmp_path / "ran"), {"state_dict": net().weights, "hparams": Runs(tmp_path / "ran")})
    ):
        file = tmp_path / f"{at}.ckpt"
        torch.save(saved, file)
        line = refused(file)
        assert "holds code, io.open" in line or "holds code, _io.open" in line
        assert 'torch.save({"state_dict": model.state_dict()}, file)' in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_a_torch_file_cut_short(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    torch.save(net().weights, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for kept in (len(whole) // 2, len(whole) - 40, 60):
        file.write_bytes(whole[:kept])
        assert "broken" in refused(file)


def test_a_safetensors_file_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(net().weights, file)
    file.write_bytes(file.read_bytes()[:-100])
    assert "a broken safetensors file" in refused(tmp_path)
    file.write_bytes(b"")
    assert "a broken safetensors file" in refused(tmp_path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    text = tmp_path / "notes.ckpt"
    text.write_text("weights are at the usual place\n")
    assert "neither a PyTorch file nor named .safetensors" in refused(text)
    text.write_bytes(b"")
    assert "neither a PyTorch file" in refused(text)
    torch.save([torch.ones(2)], text)
    assert "holds a list, not tensors by name" in refused(text)
    for nothing in ({}, {0: torch.ones(2)}, {"state_dict": {"fc.weight": torch.ones(2, 2), "step": 3}}):
        torch.save(nothing, text)
        assert "not an image tokenizer: no codebook" in refused(text)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no weights here; expected model.safetensors" in refused(empty)
    for name in ("a.ckpt", "b.ckpt"):
        torch.save(net().weights, empty / name)
    assert "holds 2 files of weights; name one: a.ckpt, b.ckpt" in refused(empty)
    with pytest.raises(FileNotFoundError):
        import_vqgan(tmp_path / "nowhere.bin")


def test_a_broken_config(tmp_path: Path) -> None:
    torch.save(net().weights, tmp_path / "pytorch_model.bin")
    config = tmp_path / "config.json"
    for text, said in (("{", "broken"), ("[1]", "not a JSON object")):
        config.write_text(text)
        assert said in refused(tmp_path, names=str(config))
    config.write_text(json.dumps({"hidden_channels": 128, "resolution": "large"}))
    assert "picture size is 'large'" in refused(tmp_path)


def test_weights_that_do_not_fit_are_named_as_the_file_has_them(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"

    def changed(**tensors: torch.Tensor | None) -> str:
        weights = net().weights | {name.replace("_dot_", "."): tensor for name, tensor in tensors.items()}
        torch.save({name: tensor for name, tensor in weights.items() if tensor is not None}, file)
        return refused(file, image_size=16)

    assert "missing: decoder.conv_out.bias" in changed(decoder_dot_conv_out_dot_bias=None)
    line = changed(**{f"encoder_dot_extra_dot_{i}": torch.ones(1) for i in range(5)})
    assert "unknown: encoder.extra.0, encoder.extra.1, encoder.extra.2 and 2 more" in line
    line = changed(quant_conv_dot_weight=torch.ones(7, 12, 1, 1), decoder_dot_norm_out_dot_bias=None)
    assert "missing: decoder.norm_out.bias" in line
    assert "of another shape: quant_conv.weight (7, 12, 1, 1) for (8, 12, 1, 1)" in line
    assert "unknown: extra" in changed(extra=torch.ones(3, 3))
    assert "no encoder.conv_in.weight among its" in changed(encoder_dot_conv_in_dot_weight=None)
    line = changed(encoder_dot_conv_out_dot_bias=torch.ones(12, dtype=torch.int8))
    assert "encoder.conv_out.bias holds torch.int8, weights must be floats" in line

    torch.save(MaskGit(multipliers=(1, 1), z=8).weights | {"encoder.mid.2.conv1.weight": torch.ones(1)}, file)
    assert "unknown: encoder.mid.2.conv1.weight" in refused(file, image_size=16)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"quantize.embed.weight": torch.ones(4, 4)}, "its quantiser is Gumbel's"),
        ({"quantize.used": torch.ones(4)}, "its codes are remapped"),
        ({"decoder.mid.block_1.norm1.conv_y.weight": torch.ones(4, 4, 1, 1)}, "MoVQ"),
    ],
)
def test_another_architecture_is_said_to_be_one(tensors: dict[str, torch.Tensor], said: str, tmp_path: Path) -> None:
    torch.save({"state_dict": net().weights | tensors}, tmp_path / "a.ckpt")
    line = refused(tmp_path / "a.ckpt")
    assert said in line
    assert next(iter(tensors)) in line


def test_nets_that_shapes_allow_and_ours_are_not(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    torch.save(PublicNet(multipliers=(1, 1), channels=64).weights, file)
    assert "norms of 32 groups at 64 channels; only 16 are built there" in refused(file, image_size=16)
    attends = PublicNet(multipliers=(1, 1), attends=(1,), middle=True).weights
    torch.save(attends, file)
    (tmp_path / "config.json").write_text('{"hidden_channels": 128}')
    assert "open-muse skips that attention" in refused(file, image_size=16)


def test_arguments(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    torch.save(net().weights, file)
    with pytest.raises(ValueError, match="format must be auto or one of lvm, taming"):
        import_vqgan(file, "vqgan")
    with pytest.raises(ValueError, match="pixel range must be one of unit, symmetric"):
        import_vqgan(file, pixel_range="255")
    with pytest.raises(ValueError, match=r"nowhere\.yaml"):
        import_vqgan(file, config=tmp_path / "nowhere.yaml")
    assert "its names are those of lvm, not of llamagen" in refused(file, format="llamagen")
    assert "picture size 15 is not a multiple of f = 2" in refused(file, image_size=15)
