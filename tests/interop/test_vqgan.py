"""Published tokenizers opened as ours: same codes, same pictures as a pass written over their public names."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lvmlite.cli.importing import add_import_command
from lvmlite.interop.vqgan import Imported, import_vqgan, read_vqgan
from lvmlite.tokenizers import load_tokenizer
from lvmlite.tokenizers.base import save_tokenizer
from lvmlite.tokenizers.vqgan import VQGAN
from tests.interop.public_nets import LlamaGen, MaskGit, PublicNet, pictures

DDCONFIG = "model:\n  target: taming.models.vqgan.VQModel\n  params:\n    ddconfig: {resolution: 16, ch: 128}\n"


@cache
def net(name: str) -> PublicNet:
    match name:
        case "lvm":
            return PublicNet()
        case "lvm, attention":
            return PublicNet(multipliers=(1, 1), blocks=2, attends=(1,), middle=True)
        case "taming":
            return PublicNet(attends=(1,), middle=True, symmetric=True)
        case "latent-diffusion":
            return PublicNet(multipliers=(1, 1), middle=True, symmetric=True, z=3, dim=3)
        case "maskgit":
            return MaskGit(blocks=2, z=8)
        case "llamagen":
            return LlamaGen(attends=(1,), middle=True, symmetric=True)
    raise AssertionError(name)


NAMES = ("lvm", "lvm, attention", "taming", "latent-diffusion", "maskgit", "llamagen")


def written(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint as its program leaves it, and what to open it with."""
    folder.mkdir(exist_ok=True)
    weights = dict(net(name).weights)
    if name.startswith(("lvm", "maskgit")):
        torch.save(weights, folder / "pytorch_model.bin")
        config = {"resolution": 16, "hidden_channels": 128, "channel_mult": [1, 2], "z_channels": 12}
        (folder / "config.json").write_text(json.dumps(config))
        return folder, {}
    if name == "llamagen":
        used = {"quantize.codebook_used": torch.zeros(65536)}
        file = folder / "vq.pt"
        torch.save({"model": weights | used, "steps": 3, "args": Namespace(lr=1e-4)}, file)
        return file, {"image_size": 16}
    file = folder / "last.ckpt"
    saved = {"state_dict": weights | {"loss.discriminator.main.0.weight": torch.ones(2)}, "epoch": 3}
    if name == "latent-diffusion":
        saved["state_dict"]["model_ema.decay"] = torch.tensor(0.999)
    torch.save(saved, file)
    (folder / "model.yaml").write_text(DDCONFIG)
    return file, {"config": folder / "model.yaml"}


def opened(name: str, folder: Path, **other: Any) -> Imported:
    path, options = written(name, folder)
    return import_vqgan(path, **options | other)


def check_agreement(tokenizer: VQGAN, public: PublicNet, images: Tensor) -> None:
    """The same code wherever the two nearest are not within 1e-5, and the same picture of those codes."""
    with torch.no_grad():
        two = public.distances(images).topk(2, largest=False)
        clear = two.values[:, 1] - two.values[:, 0] > 1e-5
        codes, expected = tokenizer.encode(images).flatten(), two.indices[:, 0]
        assert int((~clear).sum()) <= 1
        assert torch.equal(codes[clear], expected[clear])
        assert len(expected.unique()) > 40  # a net that says the same everywhere would agree with anything
        ours = tokenizer.pixels(tokenizer.quantize.decode(expected))
        theirs = public.pixels(expected, tokenizer.grid[0])
    assert float(theirs.std()) > 0.05
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_codes_and_pictures_are_those_of_the_public_net(name: str, tmp_path: Path) -> None:
    tokenizer, format, assumed = opened(name, tmp_path)
    public = net(name)
    assert format == {"lvm, attention": "lvm", "latent-diffusion": "taming"}.get(name, name)
    config = tokenizer.config
    assert not tokenizer.training
    assert (tokenizer.image_size, tokenizer.grid, config.channels) == (16, (8, 8), 128)
    assert (config.multipliers, config.n_res_blocks) == (public.multipliers, public.blocks)
    assert config.n_decoder_res_blocks == public.blocks + public.decoder_more
    assert config.attention == tuple(16 // 2**i for i in public.attends)
    assert (config.middle_attention, config.z_channels) == (public.middle, public.z)
    assert config.pixel_range == ("symmetric" if public.symmetric else "unit")
    assert config.quantizer.normalize == (name == "llamagen")
    assert assumed[0].startswith("pixels in [-1, 1]" if public.symmetric else "pixels in [0, 1]")
    assert sum(p.numel() for p in tokenizer.parameters()) == sum(w.numel() for w in public.weights.values())
    check_agreement(tokenizer, public, pictures(4, seed=1))


def test_public_layouts() -> None:
    """How many tensors the public programs' own modules have at these sizes, and names of them, by hand."""
    expected = {
        "lvm": (105, "encoder.down.0.downsample.conv.weight decoder.up.1.upsample.conv.weight quant_conv.weight "
        "encoder.down.1.block.0.nin_shortcut.bias decoder.up.1.block.1.conv2.weight encoder.mid.block_2.norm1.weight"),
        "lvm, attention": (203, "encoder.down.1.attn.1.v.bias"),
        "taming": (155, "encoder.down.1.attn.0.proj_out.bias decoder.up.1.attn.1.norm.bias decoder.mid.attn_1.q.bias"),
        "latent-diffusion": (121, "decoder.mid.attn_1.norm.weight"),
        "maskgit": (88, "encoder.mid.1.conv2.weight decoder.up.1.upsample_conv.bias encoder.conv_out.bias"),
        "llamagen": (155, "encoder.conv_blocks.1.attn.0.q.weight decoder.conv_blocks.0.res.1.norm2.weight "
        "encoder.mid.1.k.bias decoder.conv_blocks.0.upsample.conv.weight decoder.conv_blocks.0.attn.1.norm.bias "
        "decoder.conv_blocks.1.res.0.nin_shortcut.weight"),
    }  # fmt: skip
    for name, (count, keys) in expected.items():
        assert len(net(name).weights) == count, name
        assert set(keys.split()) <= set(net(name).weights), name
    assert not {"encoder.conv_in.bias", "quant_conv.weight", "encoder.mid.0.conv1.bias"} & set(net("maskgit").weights)


@pytest.mark.parametrize("name", ["taming", "llamagen"])
def test_another_picture_size_keeps_attention_with_its_level(name: str, tmp_path: Path) -> None:
    tokenizer = opened(name, tmp_path, image_size=24).tokenizer
    assert (tokenizer.image_size, tokenizer.grid, tokenizer.config.attention) == (24, (12, 12), (12,))
    check_agreement(tokenizer, net(name), pictures(2, seed=2, size=24))


def test_what_nobody_says_is_assumed_and_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    torch.save(net("lvm").weights, file)
    tokenizer, format, assumed = import_vqgan(file)
    assert (tokenizer.image_size, format) == (256, "lvm")
    assert assumed == ("pictures of 256 x 256 pixels", "pixels in [0, 1], as in lvm's programs")
    told = import_vqgan(file, image_size=16, pixel_range="symmetric")
    assert (told.tokenizer.image_size, told.tokenizer.config.pixel_range, told.assumed) == (16, "symmetric", ())
    as_taming = import_vqgan(file, "taming", image_size=16)  # the two have the same names, not the same pixels
    assert (as_taming.format, as_taming.tokenizer.config.pixel_range) == ("taming", "symmetric")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_without_change(dtype: torch.dtype, tmp_path: Path) -> None:
    half = {name: tensor.to(dtype) for name, tensor in net("lvm").weights.items()}
    save_file(half, tmp_path / "model.safetensors")
    state = read_vqgan(tmp_path, image_size=16).state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in half.items())


def test_averaged_weights_are_taken_first(tmp_path: Path) -> None:
    """As LlamaGen's reconstruction program does."""
    weights = net("llamagen").weights
    torch.save({"model": {k: torch.zeros_like(v) for k, v in weights.items()}, "ema": weights}, tmp_path / "a.pt")
    state = read_vqgan(tmp_path / "a.pt", image_size=16).state_dict()
    assert torch.equal(
        state["encoder.down.1.block.0.conv1.weight"], weights["encoder.conv_blocks.1.res.0.conv1.weight"]
    )


def test_callbacks_that_lightning_names_by_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        for parent in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, parent, ModuleType(parent))
        patch.setitem(sys.modules, module.__name__, module)
        saved = {"state_dict": net("latent-diffusion").weights, "callbacks": {module.ModelCheckpoint: {"best": 1.0}}}
        torch.save(saved, tmp_path / "last.ckpt")
    assert "pytorch_lightning" not in sys.modules
    assert import_vqgan(tmp_path, image_size=16).format == "taming"


# --- the command


def run_command(*words: str) -> None:
    parser = ArgumentParser()
    add_import_command(parser.add_subparsers())
    args = parser.parse_args(["import", *words])
    args.run(args)


def test_the_command_saves_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, options = written("taming", tmp_path / "public")
    words = [str(file), "--config", str(options["config"]), "--out", str(tmp_path / "ours")]
    run_command(*words)
    shown = capsys.readouterr().out
    again = load_tokenizer(tmp_path / "ours")
    direct = read_vqgan(file, **options)
    for line in (
        "a tokenizer, read as taming",
        f"parameters: {sum(p.numel() for p in again.parameters()):,}",
        "pictures: 16 x 16, 8 x 8 codes, f = 2",
        "codes: 160 of dimension 8",
        "widths: 128, 256",
        "attention: side 8, the middle",
        f"code fingerprint: {direct.code_fingerprint}",
        f"decoder fingerprint: {direct.decoder_fingerprint}",
        "assumed: pixels in [-1, 1], as in taming's programs",
    ):
        assert line in shown
    assert (again.code_fingerprint, again.decoder_fingerprint) == (direct.code_fingerprint, direct.decoder_fingerprint)
    images = pictures(2, seed=3)
    assert torch.equal(again.encode(images), direct.encode(images))
    with pytest.raises(ValueError, match="holds a tokenizer or model already"):
        run_command(*words)


def test_our_own_folder_needs_no_import(tmp_path: Path) -> None:
    save_tokenizer(opened("taming", tmp_path / "public").tokenizer, tmp_path / "ours")
    with pytest.raises(ValueError, match="lvmlite's own"):
        read_vqgan(tmp_path / "ours")
