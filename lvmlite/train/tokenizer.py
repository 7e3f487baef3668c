"""The tokenizer learner: a VQGAN learns to put pictures through its codes.

In: a `PixelStream`. Out: a trained tokenizer. One phase: reconstruction + commitment; the codebook follows by moving
average after each step, and dead codes are revived from the step's latents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from lvmlite import distributed
from lvmlite.data.keyed import key_of
from lvmlite.data.sentences import sentence_configs
from lvmlite.data.stream import PixelStream
from lvmlite.recipe import Range, one_of
from lvmlite.tokenizers.base import to_float
from lvmlite.tokenizers.vqgan import VQGAN
from lvmlite.train.loop import Diverged, MicroBatch, TrainConfig
from lvmlite.train.losses import ReconstructionConfig, reconstruction_loss
from lvmlite.train.optim import adamw


@dataclass
class TokenizerTrainConfig(TrainConfig):
    """How a tokenizer is trained.

    Attributes:
        pictures: the mix of pictures, as `single` sentences with shares.
        losses: of the reconstruction.
        start_codes_at: until this step the net trains without quantiser; then the codes are placed on its latents by
            k-means. Codes placed on an untrained net's latents mostly die.
        validation_pictures: held-out pictures for `val_loss`.
    """

    pictures: list[Any] = field(default_factory=list, metadata=one_of("sentence", sentence_configs))
    losses: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    start_codes_at: Annotated[int, Range(0)] = 0
    validation_pictures: Annotated[int, Range(1)] = 256

    def __post_init__(self) -> None:
        if self.start_codes_at >= self.steps:
            raise ValueError(f"start_codes_at {self.start_codes_at} is not before the last of {self.steps} steps")


class TokenizerLearner:
    """See `loop.Learner`.

    Args:
        tokenizer: on its device; stream: of training pictures; seed: of code placement and revival.
        validation: of held-out pictures.
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
    ):
        self.tokenizer, self.stream, self.config = tokenizer, stream, config
        self.seed, self.validation, self.bf16 = seed, validation, bf16
        self.modules: dict[str, nn.Module] = {"tokenizer": tokenizer}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generator": adamw(tokenizer.named_parameters(), config.optim)
        }
        self.device = tokenizer.device
        self.seen: list[tuple[Tensor, Tensor]] = []

    def phases(self, step: int) -> list[str]:
        return ["generator"]

    def micro_batches(self, step: int) -> list[MicroBatch]:
        if step == self.config.start_codes_at:
            self.place_codes(step)
        self.tokenizer.train()
        self.seen = []
        pictures = self.stream.batch(step, distributed.rank(), distributed.world_size())
        size = self.config.micro_batch_size or len(pictures)
        total = len(pictures) * distributed.world_size()
        pieces = [pictures[at : at + size] for at in range(0, len(pictures), size)]
        return [MicroBatch(to_float(piece, self.device), len(piece) / total) for piece in pieces]

    @torch.no_grad()
    def place_codes(self, step: int) -> None:
        """Place the codes on latents of as many batches as give 16 latents a code; rank 0 does it for all.

        Raises:
            Diverged: the latents are not finite.
        """
        quantizer = self.tokenizer.quantize
        if distributed.is_main():
            latents: list[Tensor] = []
            n = 0
            while n < 16 * self.tokenizer.codebook_size:
                pictures = self.stream.batch(step + len(latents))
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    latents.append(self.tokenizer.latents(to_float(pictures, self.device)))
                n += len(latents[-1])
            found = torch.cat(latents)
            if not found.isfinite().all():
                raise Diverged(
                    f"step {step}: the codes have no place, the latents are not finite; lower the learning rate"
                )
            quantizer.place(found, self.generator("place", step))
        distributed.broadcast_([*quantizer.state_dict().values(), *quantizer.training_state().values()])

    def generator(self, name: str, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(key_of(self.seed, name, step) % 2**63)

    def loss(self, phase: str, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        quantize = step >= self.config.start_codes_at
        out = self.tokenizer(micro_batch.data, quantize)
        if quantize:
            self.seen.append((out.latents, out.codes))
        loss, parts = reconstruction_loss(self.config.losses, out.images, micro_batch.data)
        return loss + out.loss, parts | out.parts

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float]:
        if not self.seen:
            return {}
        latents, codes = (torch.cat(parts) for parts in zip(*self.seen))
        quantizer = self.tokenizer.quantize
        tally = quantizer.tally(latents, codes)
        distributed.sum_(tally)
        revived = quantizer.update(*tally)
        if len(revived):  # onto latents drawn from the whole batch, of which each rank holds an equal slice
            n = len(latents)
            pick = torch.randint(
                n * distributed.world_size(), (len(revived),), generator=self.generator("revive", step)
            ).to(self.device)
            mine = pick // n == distributed.rank()
            candidates = latents[pick % n] * mine[:, None]
            distributed.sum_([candidates])
            quantizer.revive(revived, candidates)
        return {"revived": len(revived), "codes_used": int((tally[0] > 0).sum())}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """`val_loss` (mean squared error), PSNR in dB over it, and the share of codes used on held-out pictures.

        Ranks share the batches; all must call.
        """
        if self.validation is None:
            return {}
        self.tokenizer.eval()
        used = torch.zeros(self.tokenizer.codebook_size, device=self.device)
        error, decibels, n = 0.0, 0.0, 0
        for i in range(-(-self.config.validation_pictures // self.validation.batch_size)):
            pictures = self.validation.batch(i, distributed.rank(), distributed.world_size())
            size = self.config.micro_batch_size or len(pictures)
            for at in range(0, len(pictures), size):
                x = to_float(pictures[at : at + size], self.device)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    codes = self.tokenizer.encode(x)
                    y = self.tokenizer.decode(codes)
                used[codes.flatten()] = 1.0
                errors = (x - y).square().mean((1, 2, 3)).cpu().double()
                error, n = error + float(errors.sum()), n + len(errors)
                decibels += float(-10 * errors.clamp_min(1e-10).log10().sum())
        distributed.sum_([used])
        error, decibels, total = distributed.totals([error, decibels, n], self.device)
        usage = float((used > 0).double().mean())
        return {"val_loss": error / total, "val_psnr": decibels / total, "val_usage": usage}

    def size(self) -> int:
        return self.stream.batch_size

    def extra_state(self) -> dict[str, Tensor]:
        return self.tokenizer.quantize.training_state()
