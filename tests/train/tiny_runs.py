"""Tiny real trainings as a program: what the tests kill, resume and spread over ranks.

    python tiny_runs.py '{"what": "language", "data": "stores", "folder": "run", "steps": 12}'
    python tiny_runs.py '{"write": "stores"}'
    python tiny_runs.py serve

`serve` reads such lines from standard input and forks for each, so that PyTorch is imported only once: it answers with
the ids of the processes, one for each rank, and after one more line, when they have ended, with their exit codes:
2 an error of one line, 3 interrupted. What a run prints goes to `<folder>/output.txt`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lvmlite import distributed
from lvmlite.data.sentences import SingleConfig, VideoConfig
from lvmlite.data.store import ShardWriter, Store, StoreInfo, write_json
from lvmlite.data.stream import PixelStream, Stream, StreamConfig
from lvmlite.devices import Precision
from lvmlite.model.architecture import ModelConfig
from lvmlite.model.lora import Adapted, LoRAConfig
from lvmlite.model.transformer import Transformer
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.tokenizers.vqgan import VQGAN, VQGANConfig
from lvmlite.train import checkpoint
from lvmlite.train.adversary import AdversarialConfig
from lvmlite.train.discriminators import PatchGANConfig
from lvmlite.train.guard import clip_gradients
from lvmlite.train.language import LanguageLearner, LanguageTrainConfig
from lvmlite.train.loop import Trainer
from lvmlite.train.losses import ReconstructionConfig
from lvmlite.train.optim import OptimConfig
from lvmlite.train.parallel import ParallelConfig, place
from lvmlite.train.signals import Interrupted
from lvmlite.train.tokenizer import TokenizerLearner, TokenizerTrainConfig

CODES, SIDE, PIXELS = 32, 2, 16  # codes, their grid's side, pixels along a side
OPTIM = OptimConfig(lr=3e-3, min_lr=3e-4, warmup_steps=3)


def write_stores(folder: Path) -> None:
    """`folder/tokens` and `folder/pixels`: photos and clips of four frames, train and val."""
    for content, shape, dtype in (("tokens", (SIDE**2,), np.uint16), ("pixels", (PIXELS, PIXELS, 3), np.uint8)):
        shards = []
        for source, n, frames in (("photos", 40, 1), ("clips", 12, 4)):
            for split in ("train", "val"):
                rng = np.random.default_rng([n, split == "val"])
                first = rng.integers(0, CODES, (n, 1, 1))  # clips count upwards, photos run
                codes = (first + np.arange(frames)[:, None] + np.arange(SIDE**2)) % CODES
                rows = codes.reshape(n * frames, -1).astype(dtype)
                if content == "pixels":
                    tiles = np.kron(codes.reshape(-1, SIDE, SIDE), np.ones((1, PIXELS // SIDE, PIXELS // SIDE)))
                    noise = rng.integers(0, 8, (n * frames, *shape))
                    rows = (tiles[..., None] * np.array([7, 5, 3]) + noise).astype(dtype)
                with ShardWriter(folder / content / f"{source}-{split}", source, split, {"image": 1}) as writer:
                    for i in range(n):
                        writer.add_sample(str(i), str(i), None, frames)
                    writer.append("image", 0, rows)
                    shards.append(writer.finish())
        geometry = {"size": PIXELS, "fit": "crop", "filter": "bilinear", "antialias": True}
        info = StoreInfo(
            content, geometry, {}, {"photos": {"licence": "CC0"}, "clips": {"licence": "CC0"}}, shards=shards
        )
        if content == "tokens":
            info.grid, info.codebook_size, info.code_fingerprint = [SIDE, SIDE], CODES, "tiny"
        write_json(folder / content / "store.json", asdict(info))


class Whole(dict[str, Tensor]):
    """Tensors by name, of which parts are read; see `lvmlite.model.files.Tensors`."""

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self[name].shape)

    def read(self, name: str, offset: Sequence[int], size: Sequence[int]) -> Tensor:
        return self[name][tuple(slice(a, a + n) for a, n in zip(offset, size))]


def language(
    data: Path,
    batch_size: int = 4,
    precision: Precision = "fp32",
    parallel: dict[str, Any] | None = None,
    heads: tuple[int, int] = (2, 2),
    lora: bool = False,
    **settings: Any,
) -> tuple[LanguageLearner, LanguageTrainConfig]:
    """A decoder of two layers on photos, four in a context, and clips. heads: of queries, of keys and values."""
    config = LanguageTrainConfig(
        batch_size=batch_size, optim=OPTIM, precision=precision, parallel=ParallelConfig(**parallel or {}), **settings
    )
    mix = StreamConfig([SingleConfig(sources=["photos"]), VideoConfig(pictures=4, strides=[1])], pictures=4)
    store = Store.open(data / "tokens")
    train, val = (Stream([store], split, mix, 1, batch_size) for split in ("train", "val"))
    shape = ModelConfig(dim=16, hidden_dim=32, n_heads=heads[0], n_kv_heads=heads[1], n_layers=2, max_seq_len=16)
    arch, adapters = shape.resolve(CODES), None
    weights: int | Adapted = 0
    if lora:
        adapters = LoRAConfig(rank=2, targets=["q_proj", "v_proj", "down_proj"])
        weights = Adapted(Whole(Transformer(arch).init_weights(0).state_dict()), adapters, 0)
    bf16 = precision == "bf16"
    model = place(arch, config.parallel, torch.device("cpu"), weights, bf16, adapters)
    return LanguageLearner(model, train, config, {"val": val}, 2, bf16), config


def tokenizer(
    data: Path, batch_size: int = 8, quantizer: Any = None, **settings: Any
) -> tuple[TokenizerLearner, TokenizerTrainConfig]:
    """A VQGAN of two levels whose codes are revived often."""
    settings = {"start_codes_at": 2, "validation_pictures": 16} | settings
    config = TokenizerTrainConfig(batch_size=batch_size, optim=OPTIM, precision="fp32", **settings)
    store = Store.open(data / "pixels")
    train, val = (PixelStream([store], split, [SingleConfig()], 1, batch_size) for split in ("train", "val"))
    nearest = NearestCodeConfig(codebook_size=16, codebook_dim=4, ema_decay=0.8, revive_below=0.5)
    blocks = {"n_res_blocks": 1, "n_decoder_res_blocks": 1}
    net = VQGANConfig(channels=8, multipliers=(1, 2), z_channels=8, patch=4, quantizer=quantizer or nearest, **blocks)
    return TokenizerLearner(VQGAN(net, PIXELS).init_weights(0), train, config, 1, val), config


class Distance(nn.Module):
    """A perceptual distance by four random filters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        generator = torch.Generator().manual_seed(7)
        self.conv.weight.data.copy_(torch.randn(self.conv.weight.shape, generator=generator))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self.conv(x).tanh() - self.conv(y).tanh()).square().mean((1, 2, 3))


def gan(data: Path, batch_size: int = 8, **settings: Any) -> tuple[TokenizerLearner, TokenizerTrainConfig]:
    """A VQGAN with all there is: learned codes, a perceptual loss, an adversary from step 3 on, averaged weights."""
    adversarial = AdversarialConfig(
        discriminator=PatchGANConfig(channels=8, n_layers=2), start_step=3, adaptive=True, lecam=0.1,
        optim=OptimConfig(lr=1e-3, min_lr=1e-4, warmup_steps=2, betas=(0.5, 0.9), grad_clip=2.0),
    )  # fmt: skip
    losses = ReconstructionConfig(l1=1.0, l2=0.5, lpips=0.3)
    settings = {
        "start_codes_at": 2, "validation_pictures": 16, "adversarial": adversarial, "losses": losses,
        "ema_decay": 0.9, "flip": 0.5,
    } | settings  # fmt: skip
    config = TokenizerTrainConfig(batch_size=batch_size, optim=OPTIM, precision="fp32", **settings)
    store = Store.open(data / "pixels")
    train, val = (PixelStream([store], split, [SingleConfig()], 1, batch_size) for split in ("train", "val"))
    codes = {"codebook_size": 16, "codebook_dim": 4, "normalize": True, "learn": "gradient"}
    quantizer = NearestCodeConfig(**codes, ema_decay=0.8, revive_below=0.5)  # type: ignore[arg-type]
    blocks = {"n_res_blocks": 1, "n_decoder_res_blocks": 1}
    net = VQGANConfig(channels=8, multipliers=(1, 2), z_channels=8, patch=4, quantizer=quantizer, **blocks)
    tokenizer, distance = VQGAN(net, PIXELS).init_weights(0), Distance() if config.losses.lpips else None
    return TokenizerLearner(tokenizer, train, config, 1, val, perceptual=distance), config


def clipped() -> None:
    """Check that gradients on any mesh are clipped as plain ones are."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    torch.manual_seed(0)
    line, grid = init_device_mesh("cpu", (2,)), init_device_mesh("cpu", (2, 1))
    plan: list[Any] = [
        None, (line, [Shard(0)]), (line, [Replicate()]), (grid, [Shard(0), Shard(1)]), (line, [Shard(0)]),
    ]  # fmt: skip
    mine, plain = [], []
    for rows, where in zip((3, 5, 2, 7, 1), plan):  # of one row, one rank has nothing
        gradient = torch.randn(rows, 4)
        for found, placed in ((plain, gradient), (mine, distribute_tensor(gradient, *where) if where else gradient)):
            found.append(nn.Parameter(torch.zeros_like(placed)))
            found[-1].grad = placed.clone()
    norm, expected = clip_gradients(mine, 0.5), nn.utils.clip_grad_norm_(plain, 0.5)
    assert type(norm) is torch.Tensor
    assert torch.allclose(norm, expected), (norm, expected)
    for p, q, where in zip(mine, plain, plan):
        whole: Any = p.grad.full_tensor() if where else p.grad  # type: ignore[union-attr]
        assert torch.allclose(whole, q.grad), (whole, q.grad)


LEARNERS: dict[str, Any] = {"language": language, "tokenizer": tokenizer, "gan": gan}


def train(what: str, data: str, folder: str, **settings: Any) -> None:
    """Train, or go on training, until the last step."""
    device = distributed.start(torch.device("cpu"))
    if what == "clipped":
        clipped()
        return
    learner, config = LEARNERS[what](Path(data), **settings)
    Trainer(learner, config, Path(folder), device, title=what, fingerprint=what, quiet=True).run()
    distributed.stop()


def die_at(event: int, folder: str) -> None:
    """Have this process killed at its n-th change to a file of a folder."""
    left = event

    def watch(name: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if name in ("os.remove", "os.rmdir"):  # inside rmtree their paths are relative
            left -= 1
        elif name in ("os.rename", "os.mkdir") or (name == "open" and args[1] not in (None, "r", "rb")):
            left -= str(args[0]).startswith(folder)
        else:
            return
        if left < 0:
            print(f"killed at {name}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def die_in_tensors() -> None:
    """Have this process killed when half of a checkpoint's tensors are written."""
    write_slowly(0, lambda: os.kill(os.getpid(), signal.SIGKILL))


def write_slowly(seconds: float, halfway: Callable[[], None] = lambda: None) -> None:
    """Have a checkpoint's tensors lie there half written for a while."""
    save_file = checkpoint.save_file

    def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
        save_file(tensors, path)
        os.truncate(path, path.stat().st_size // 2)
        time.sleep(seconds)
        halfway()
        save_file(tensors, path)

    checkpoint.save_file = save


def fill_disk(step: int) -> None:
    """Have the last rank find the disk full when it writes the checkpoint of a step."""
    write_pieces = checkpoint.write_pieces

    def write(folder: Path, rank: int, *args: Any) -> None:
        if folder.name == f".step-{step}.partial" and rank == distributed.world_size() - 1:
            raise OSError("No space left on device")
        write_pieces(folder, rank, *args)

    checkpoint.write_pieces = write


def run(die: int | str | None = None, slow: float = 0, full: int = 0, **settings: Any) -> int:
    """Train in this process; gives its exit code. slow: seconds that half a checkpoint lies there; full: the step whose
    checkpoint does not fit the disk."""
    try:
        if slow:
            write_slowly(slow)
        if full:
            fill_disk(full)
        if isinstance(die, int):
            die_at(die, settings["folder"])
        elif die == "tensors":
            die_in_tensors()
        train(**settings)
        return 0
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 3
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def fork(settings: dict[str, Any], ranks: int, rank: int, port: int) -> int:
    """Start one rank; gives its process id."""
    if pid := os.fork():
        return pid
    Path(settings["folder"]).mkdir(parents=True, exist_ok=True)
    output = os.open(Path(settings["folder"]) / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if ranks > 1:
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    code = run(**settings)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """For each line with settings: answer with process ids; after one more line, with exit codes."""
    import torch._dynamo
    import torch.distributed.fsdp
    import torch.distributed.tensor.parallel  # noqa: F401 - PyTorch loads these when they are used, longer than a run

    while line := sys.stdin.readline():
        settings = json.loads(line)
        ranks = settings.pop("ranks", 1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pids = [fork(settings, ranks, rank, port) for rank in range(ranks)]
        print(json.dumps(pids), flush=True)
        sys.stdin.readline()  # until asked for the exit codes, the ids stay taken
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "serve":
        serve()
    elif "write" in (asked := json.loads(sys.argv[1])):
        write_stores(Path(asked["write"]))
    else:
        sys.exit(run(**asked))
