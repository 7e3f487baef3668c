"""The tokenizer learner: a VQGAN learns to put pictures through its codes.

In: a `PixelStream`. Out: a trained tokenizer. Phases: the generator (reconstruction, the quantiser's own loss and,
once it is there, the adversary's) and, from the adversary's start on, the discriminator. After a step the codes
follow, dead ones are revived from the step's latents, and the averaged weights follow the trained ones.

Paper: Taming Transformers (arXiv 2012.09841).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lvmlite import distributed
from lvmlite.data.keyed import key_of, uniform_integers
from lvmlite.data.sentences import sentence_configs
from lvmlite.data.stream import PixelStream
from lvmlite.recipe import Range, one_of
from lvmlite.tokenizers.base import to_float
from lvmlite.tokenizers.vqgan import VQGAN, Reconstruction
from lvmlite.train.adversary import AdversarialConfig, Adversary
from lvmlite.train.ahead import Ahead
from lvmlite.train.average import Average
from lvmlite.train.codes import Codes, perplexity
from lvmlite.train.loop import Learner, MicroBatch, TrainConfig
from lvmlite.train.losses import ReconstructionConfig, adaptive_weight, reconstruction_loss
from lvmlite.train.optim import OptimConfig, adamw


@dataclass
class TokenizerTrainConfig(TrainConfig):
    """How a tokenizer is trained.

    Attributes:
        pictures: the mix of pictures, as `single` sentences with shares.
        losses: of the reconstruction; adversarial: of a discriminator, if given.
        train_only: "decoder" leaves encoder and codes as they are, to the bit: stores of tokens stay valid.
        start_codes_at: until this step the net trains without quantiser; then the codes are placed on its latents by
            k-means. Codes placed on an untrained net's latents mostly die.
        ema_decay: of a moving average of the weights, which is validated and saved; 0 keeps none.
        flip: probability that a picture is mirrored.
        validation_pictures: held-out pictures for `val_loss`.
    """

    pictures: list[Any] = field(default_factory=list, metadata=one_of("sentence", sentence_configs))
    losses: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    adversarial: AdversarialConfig | None = None
    train_only: Literal["all", "decoder"] = "all"
    start_codes_at: Annotated[int, Range(0)] = 0
    ema_decay: Annotated[float, Range(0, 0.999999)] = 0.0
    flip: Annotated[float, Range(0, 1)] = 0.0
    validation_pictures: Annotated[int, Range(1)] = 256

    def __post_init__(self) -> None:
        if self.start_codes_at >= self.steps:
            raise ValueError(f"start_codes_at {self.start_codes_at} is not before the last of {self.steps} steps")
        if self.adversarial and self.adversarial.start_step >= self.steps:
            raise ValueError(
                f"adversarial.start_step {self.adversarial.start_step} is not before the last of {self.steps} steps"
            )
        if self.train_only == "decoder" and self.start_codes_at:
            raise ValueError("start_codes_at places codes, but train_only: decoder leaves them as they are")


class Made(NamedTuple):
    """What the tokenizer makes of a piece of the batch, and what is said about it."""

    out: Reconstruction
    reconstruction: Tensor  # loss, weighted
    adversarial: Tensor | None  # loss, unweighted; None while nobody listens to the discriminator
    parts: dict[str, Tensor]


class TokenizerLearner(Learner):
    """See `loop.Learner`.

    Args:
        tokenizer: on its device; stream: of training pictures; seed: of code placement and revival, of mirroring and
            of the discriminator.
        validation: of held-out pictures.
        perceptual: the net of `losses.lpips`: (x, y in [0, 1]) -> (B,).
        placed: the tokenizer was trained before: its codes are where they belong.

    Attributes:
        trained: the net that is validated and is to be saved, the averaged one if there is one.
    """

    unit = "images"

    def __init__(
        self,
        tokenizer: VQGAN,
        stream: PixelStream,
        config: TokenizerTrainConfig,
        seed: int,
        validation: PixelStream | None = None,
        bf16: bool = False,
        perceptual: nn.Module | None = None,
        placed: bool = False,
    ):
        assert (perceptual is not None) == bool(config.losses.lpips)
        self.tokenizer, self.stream, self.config = tokenizer, stream, config
        self.seed, self.validation, self.bf16 = seed, validation, bf16
        self.perceptual, self.placed = perceptual, placed
        self.device = tokenizer.device
        if config.train_only == "decoder":
            tokenizer.requires_grad_(False)
            tokenizer.decoder.requires_grad_(True)
            tokenizer.post_quant_conv.requires_grad_(True)
        self.modules: dict[str, nn.Module] = {"tokenizer": tokenizer}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generator": adamw(tokenizer.named_parameters(), config.optim)
        }
        self.codes = Codes(tokenizer.quantize, self.optimizers["generator"], seed)
        if placed and config.train_only == "all":
            self.codes.settle()
        self.average: Average | None = None
        if config.ema_decay:
            self.average = Average(tokenizer, config.ema_decay)
            self.modules["average"] = self.average.net
        self.adversary: Adversary | None = None
        if config.adversarial:
            draws = self.codes.generator("discriminator", 0)
            self.adversary = Adversary(config.adversarial, tokenizer.image_size, self.device, draws)
            self.modules["discriminator"] = self.adversary.discriminator
            self.optimizers["discriminator"] = self.adversary.optimizer
        self.ahead = Ahead(self.draw)
        self.pieces: list[MicroBatch] = []  # of this step, as are the next two
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.balance: Tensor | None = None

    @property
    def trained(self) -> VQGAN:
        return self.average.net if self.average else self.tokenizer

    def opponent(self, step: int) -> Adversary | None:
        """The adversary, once it takes part."""
        return self.adversary if self.adversary and step >= self.adversary.config.start_step else None

    def phases(self, step: int) -> list[str]:
        return ["generator", "discriminator"] if self.opponent(step) else ["generator"]

    def schedule(self, phase: str) -> tuple[OptimConfig, int]:
        if phase == "discriminator":
            assert self.adversary is not None
            return self.adversary.config.optim, self.adversary.config.start_step
        return self.config.optim, 0

    def micro_batches(self, step: int) -> list[MicroBatch]:
        if step == self.config.start_codes_at and self.tokenizer.quantize.has_codebook and not self.placed:
            self.ahead.rest()
            self.codes.place(self.latents_from(step), step)
            if self.average:
                self.average.jump("quantize.")
        self.tokenizer.train()
        self.seen, self.balance = [], None
        if self.adversary:
            self.adversary.begin_step()
        pictures = self.ahead.get(step)
        self.waited = self.ahead.waited
        size = self.config.micro_batch_size or len(pictures)
        total = len(pictures) * distributed.world_size()
        pieces = [pictures[at : at + size] for at in range(0, len(pictures), size)]
        self.pieces = [MicroBatch(to_float(piece, self.device), len(piece) / total) for piece in pieces]
        return self.pieces

    def draw(self, step: int) -> np.ndarray:
        """This rank's pictures of batch `step`: (B, H, W, 3) uint8."""
        pictures = self.stream.batch(step, distributed.rank(), distributed.world_size())
        return self.mirror(pictures, step) if self.config.flip else pictures

    @torch.no_grad()
    def latents_from(self, step: int) -> Iterator[Tensor]:
        """The latents of this batch, the next, ..., piece by piece: (N, C) float32."""
        while True:
            pictures = self.stream.batch(step)
            size = self.config.micro_batch_size or len(pictures)
            for at in range(0, len(pictures), size):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    found = self.tokenizer.latents(to_float(pictures[at : at + size], self.device))
                yield found
            step += 1

    def mirror(self, pictures: np.ndarray, step: int) -> np.ndarray:
        """Pictures of this rank with some mirrored: a function of (seed, step, slot in the global batch)."""
        n, fine = len(pictures), 1 << 24
        slots = (step * distributed.world_size() + distributed.rank()) * n + np.arange(n)
        draws = uniform_integers(key_of(self.seed, "flip"), slots, np.full(n, fine))
        return np.where((draws < self.config.flip * fine)[:, None, None, None], pictures[:, :, ::-1], pictures)

    # --- the loss

    def loss(self, phase: str, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        opponent = self.opponent(step)
        if phase == "discriminator":
            assert opponent is not None
            return opponent.loss(micro_batch)
        adaptive = opponent is not None and opponent.config.adaptive
        if adaptive and self.balance is None and len(self.pieces) > 1:  # all are made twice: the balance is of all
            self.balance = self.balanced((self.make(piece, step), piece.weight) for piece in self.pieces)
        made = self.make(micro_batch, step)
        if adaptive and self.balance is None:
            self.balance = self.balanced([(made, micro_batch.weight)])
        out, parts = made.out, made.parts | made.out.parts
        if len(out.codes):
            self.seen.append((out.latents, out.codes))
        loss = made.reconstruction + out.loss
        if opponent is not None and made.adversarial is not None:
            opponent.keep(micro_batch, out.images)
            weight = opponent.config.weight * (1.0 if self.balance is None else self.balance)
            loss = loss + weight * made.adversarial
            parts["adversarial"] = made.adversarial
            if self.balance is not None:
                parts["adaptive_weight"] = self.balance
        return loss, parts

    def make(self, piece: MicroBatch, step: int) -> Made:
        out = self.reconstruct(piece.data, step)
        loss, parts = reconstruction_loss(self.config.losses, out.images, piece.data, self.perceptual)
        opponent = self.opponent(step)
        return Made(out, loss, opponent.judge(out.images) if opponent else None, parts)

    def reconstruct(self, x: Tensor, step: int) -> Reconstruction:
        if self.config.train_only == "all":
            out: Reconstruction = self.tokenizer(x, step >= self.config.start_codes_at)
            return out
        with torch.no_grad():
            latents = self.tokenizer.latents(x)
            with torch.autocast(self.device.type, enabled=False):
                codes = self.tokenizer.quantize.encode(latents)
                quantized = self.tokenizer.quantize.decode(codes)
        return Reconstruction(self.tokenizer.pixels(quantized), latents, codes, latents.new_zeros(()), {})

    def balanced(self, found: Iterable[tuple[Made, float]]) -> Tensor:
        """The adaptive weight of the whole batch, from (made, weight) of all this rank's pieces: (,).

        The gradients are summed over pieces and ranks before their norms are taken, since a mean of ratios would
        depend on how the batch is split. They stop at the decoder's last layer, behind the losses' own nets.
        """
        last = self.tokenizer.decoder.conv_out.weight
        pulls = torch.zeros((2, *last.shape), device=self.device)
        for made, weight in found:
            for pull, loss in zip(pulls, (made.reconstruction, made.adversarial)):
                assert loss is not None
                pull += weight * torch.autograd.grad(loss, last, retain_graph=True)[0]
            del made, loss  # one graph at a time
        distributed.sum_([pulls])
        return adaptive_weight(*pulls)

    # --- after it

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float]:
        entry: dict[str, float] = {}
        revived = torch.zeros(0, dtype=torch.long, device=self.device)
        if self.seen:
            latents, codes = (torch.cat(parts) for parts in zip(*self.seen))
            if self.config.train_only == "decoder":
                entry = self.codes.count(latents, codes)
            else:
                revived, entry = self.codes.follow(latents, codes, step)
        if self.average:
            self.average.update(step)
            self.average.jump("quantize.", revived)
        if self.adversary:
            self.adversary.after_step()
        return entry

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """On held-out pictures: `val_loss` (of the reconstruction, as weighted in training), PSNR in dB, the share of
        codes used, the perplexity of their use, and the perceptual distance if the loss has it.

        Ranks share the batches; all must call.
        """
        if self.validation is None:
            return {}
        net = self.trained.eval()
        counts = torch.zeros(net.codebook_size, device=self.device)
        lost, decibels, distance, n = 0.0, 0.0, 0.0, 0
        for i in range(-(-self.config.validation_pictures // self.validation.batch_size)):
            pictures = self.validation.batch(i, distributed.rank(), distributed.world_size())
            size = self.config.micro_batch_size or len(pictures)
            for at in range(0, len(pictures), size):
                x = to_float(pictures[at : at + size], self.device)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    codes = net.encode(x)
                    y = net.decode(codes)
                    loss, parts = reconstruction_loss(self.config.losses, y, x, self.perceptual)
                counts += torch.bincount(codes.flatten(), minlength=len(counts))
                errors = (x - y).square().mean((1, 2, 3)).cpu().double()
                lost, n = lost + float(loss) * len(x), n + len(x)
                decibels += float(-10 * errors.clamp_min(1e-10).log10().sum())
                distance += float(parts.get("lpips", 0.0)) * len(x)
        distributed.sum_([counts])
        lost, decibels, distance, total = distributed.totals([lost, decibels, distance, n], self.device)
        usage = float((counts > 0).double().mean())
        found = {"val_loss": lost / total, "val_psnr": decibels / total, "val_usage": usage}
        found["val_perplexity"] = perplexity(counts)
        return found | ({"val_lpips": distance / total} if self.perceptual else {})

    def size(self) -> int:
        return self.stream.batch_size

    def extra_state(self) -> dict[str, Tensor]:
        return self.tokenizer.quantize.training_state() | (self.adversary.state() if self.adversary else {})
