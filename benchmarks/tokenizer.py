"""Speed of the tokenizer against diffusers' VQModel of the same shape and weights, side by side in one run.

    python benchmarks/tokenizer.py [--batch 4] [--repeat 5] [--pictures PATH] [--out benchmarks/results/tokenizer.json]

The geometry is the released LVM tokenizer's: 256 px, f = 16, 8,192 codes of 64, 146,244,675 parameters. Weights are
random and brought over by `lvmlite tokenizer import`; the codes are drawn from the net's own latents, since a random
codebook makes near-ties. Measured, ours and the peer's in turn, medians of several rounds after one that warms up:
- pictures/s of encoding (pixels to codes) and decoding (codes to pixels), float32 and, where the device has such
  products in hardware, bf16 autocast of both;
- the share of codes that differ from the peer's in float32, how near to a tie these are, and the share bf16 changes;
- on a GPU, the share of the bf16 peak that is reached (H100, H200: 989 TFLOP/s dense);
- resident memory while a long stream of pictures is encoded (a small net, so that the stream can be long).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import lvmlite
from lvmlite.devices import describe_machine, pick_device, use_bf16
from lvmlite.interop.vqgan import read_vqgan
from lvmlite.tokenizers.base import encode_pictures
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.tokenizers.vqgan import VQGAN, VQGANConfig

PEAK = {"H100": 989e12, "H200": 989e12}
SMALL = VQGANConfig(
    channels=32, multipliers=(1, 2), n_res_blocks=1, n_decoder_res_blocks=1, z_channels=16, patch=4,
    quantizer=NearestCodeConfig(codebook_size=1024, codebook_dim=16),
)  # fmt: skip


def make_peer(folder: Path) -> Any:
    """diffusers' VQModel in LVM's geometry, random weights, codes drawn from its latents; saved to a folder."""
    from diffusers import VQModel

    torch.manual_seed(0)
    peer = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=(128, 256, 256, 512, 768),
        layers_per_block=2,
        latent_channels=64,
        num_vq_embeddings=8192,
        norm_num_groups=32,
        vq_embed_dim=64,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
        sample_size=256,
    ).eval()
    with torch.no_grad():
        latents = peer.encode(torch.rand(32, 3, 256, 256)).latents.permute(0, 2, 3, 1).reshape(-1, 64)
        codes = latents[torch.randperm(len(latents))]
        peer.quantize.embedding.weight.copy_(codes.repeat(2, 1)[:8192] + 0.1 * codes.std() * torch.randn(8192, 64))
    peer.save_pretrained(folder)
    return peer


def medians(works: dict[str, Callable[[], Any]], device: torch.device, repeat: int) -> dict[str, float]:
    """Seconds of each, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat + 1):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


@torch.inference_mode()
def compare(peer: Any, ours: VQGAN, x: Tensor, repeat: int, bf16: bool) -> dict[str, Any]:
    device, n = x.device, len(x)
    codes = ours.encode(x)

    def peer_encode() -> Tensor:
        found: Tensor = peer.quantize(peer.encode(x).latents.float())[2][2]
        return found

    def peer_decode() -> Any:
        return peer.decode(codes.view(n, 16, 16), force_not_quantize=True, shape=(n, 16, 16, 64)).sample

    works = {
        "encode, diffusers": peer_encode,
        "encode, lvmlite": lambda: ours.encode(x),
        "decode, diffusers": peer_decode,
        "decode, lvmlite": lambda: ours.decode(codes),
    }
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        seconds = medians(works, device, repeat)
        theirs, mine = peer_encode().view(codes.shape), ours.encode(x)
        difference = (peer_decode().clamp(0, 1) - ours.decode(codes)).abs().max()
    rates = {name: round(n / s, 3) for name, s in seconds.items()}
    found: dict[str, Any] = {"pictures per s": rates}
    for what in ("encode", "decode"):
        found[f"{what}, times as fast"] = round(seconds[f"{what}, diffusers"] / seconds[f"{what}, lvmlite"], 3)
        with FlopCounterMode(display=False) as counter, torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            works[f"{what}, diffusers"]()
        flops = counter.get_total_flops()
        found[f"{what}, GFLOP a picture, direct convolution"] = round(flops / n / 1e9, 1)
        if device.type == "cuda" and bf16:
            name = torch.cuda.get_device_name(device)
            peak = next((v for k, v in PEAK.items() if k in name), None)
            found[f"{what}, share of the bf16 peak"] = peak and round(flops / seconds[f"{what}, lvmlite"] / peak, 4)
    differ = (theirs != mine).flatten()
    found |= {"codes": codes.numel(), "codes used": int(codes.unique().numel()), "codes that differ": int(differ.sum())}
    if differ.any() and not bf16:
        two = torch.cdist(ours.latents(x)[differ].double(), ours.quantize.embedding.weight.double())
        two = two.topk(2, largest=False).values
        found["largest gap of the two best where they differ"] = float((two[:, 1] - two[:, 0]).max())
    return found | {"pixels, largest difference": float(difference)}


@torch.inference_mode()
def changed_by_bf16(ours: VQGAN, x: Tensor) -> float:
    exact = ours.encode(x)
    with torch.autocast(x.device.type, torch.bfloat16):
        return float((ours.encode(x) != exact).double().mean())


def memory(n: int = 40_000) -> dict[str, Any]:
    """Resident megabytes while n random pictures of 64 px go through `encode_pictures`, 2,000 at a time."""
    made = VQGAN(SMALL, 64).init_weights(0).eval()
    rng, seen = np.random.default_rng(0), []
    for _ in range(n // 2000):
        encode_pictures(made, rng.integers(0, 256, (2000, 64, 64, 3), np.uint8))
        status = Path("/proc/self/status").read_text()
        seen.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    return {
        "pictures": n,
        "megabytes": [round(v) for v in seen[:: max(1, len(seen) // 10)]],
        "growth after the first tenth": round(seen[-1] - seen[len(seen) // 10], 1),
    }


def pictures(path: Path | None, n: int) -> Tensor:
    """(n, 3, 256, 256) float: photos of a folder or archive, or noise smoothed to look like blobs."""
    if path is None:
        noise = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.interpolate(noise, size=(256, 256), mode="bicubic").clamp(0, 1)
    from lvmlite.data.sources.photos import Photos, PhotosConfig
    from lvmlite.images import Geometry

    source, geometry, found = Photos(PhotosConfig(path=str(path)), 0), Geometry(size=256), []
    for part in source.parts():
        for sample in source.samples(part):
            if hasattr(sample, "frames"):
                found.append(geometry.image(sample.frames[0]["image"]))
            if len(found) == n:
                return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float().div(255)
    raise ValueError(f"{path}: fewer than {n} photos")


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of the tokenizer against diffusers")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pictures", type=Path, help="photos to encode (default: smooth noise)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tokenizer.json"))
    args = parser.parse_args()
    import diffusers

    device = pick_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        peer = make_peer(Path(folder)).to(device)
        ours = read_vqgan(folder).to(device)
    assert isinstance(ours, VQGAN)
    x = pictures(args.pictures, args.batch).to(device).contiguous(memory_format=torch.channels_last)
    results: dict[str, Any] = {"float32": compare(peer, ours, x, args.repeat, bf16=False)}
    if use_bf16(device):
        results["bf16"] = compare(peer, ours, x, args.repeat, bf16=True)
    results["share of codes changed by bf16"] = changed_by_bf16(ours, x)
    results["memory of encoding a stream"] = memory()
    about = {
        "benchmark": "tokenizer",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(device),
        "versions": {
            "lvmlite": lvmlite.__version__,
            "diffusers": diffusers.__version__,
            "python": platform.python_version(),
        },
        "batch": args.batch,
        "repeat": args.repeat,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(about | results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
