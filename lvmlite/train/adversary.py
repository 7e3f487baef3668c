"""The tokenizer's adversary: a discriminator, its optimiser, and what it remembers within and between steps.

In: pictures and reconstructions of a step. Out: the adversarial loss of the tokenizer, and the discriminator's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor

from lvmlite import distributed
from lvmlite.recipe import Range, one_of
from lvmlite.train.discriminators import PatchGANConfig, build_discriminator, discriminator_configs
from lvmlite.train.loop import MicroBatch
from lvmlite.train.losses import GanLoss, discriminator_loss, generator_loss, lecam
from lvmlite.train.optim import OptimConfig, adamw

LECAM_DECAY = 0.99  # of its paper


def discriminator_optim() -> OptimConfig:
    """Low momentum, since the reconstructions it is shown keep changing; no decay."""
    return OptimConfig(lr=1e-4, min_lr=1e-4, warmup_steps=0, betas=(0.5, 0.9), weight_decay=0.0)


@dataclass
class AdversarialConfig:
    """Adversarial training.

    Attributes:
        discriminator: the net.
        weight: of the adversarial loss in the tokenizer's.
        start_step: the step from which on the discriminator learns and is listened to.
        loss: of both.
        adaptive: scale the weight so that reconstruction and adversarial loss pull equally hard (see `losses`).
        lecam: weight of LeCam's regulariser, which helps where pictures are few.
        optim: of the discriminator; its schedule begins at start_step.
    """

    discriminator: Any = field(default_factory=PatchGANConfig, metadata=one_of("discriminator", discriminator_configs))
    weight: Annotated[float, Range(0)] = 0.5
    start_step: Annotated[int, Range(0)] = 0
    loss: GanLoss = "hinge"
    adaptive: bool = False
    lecam: Annotated[float, Range(0)] = 0.0
    optim: OptimConfig = field(default_factory=discriminator_optim)


class Adversary:
    """Keeps apart what each phase may change: in the generator's, the discriminator has no gradient; in its own, it
    sees the reconstructions of that phase as fixed pictures.

    Attributes:
        averages: (2,) moving averages of the logits of pictures and of reconstructions, for LeCam.
    """

    def __init__(self, config: AdversarialConfig, image_size: int, device: torch.device, generator: torch.Generator):
        self.config = config
        self.discriminator = build_discriminator(config.discriminator, image_size, generator).to(device)
        self.optimizer = adamw(self.discriminator.named_parameters(), config.optim)
        self.averages = torch.zeros(2, device=device)
        self.fakes: dict[int, Tensor] = {}  # of this step, by piece
        self.logits: list[Tensor] = []  # of this step: each piece's share in the mean logits, (2,)

    def begin_step(self) -> None:
        self.fakes, self.logits = {}, []

    def judge(self, images: Tensor) -> Tensor:
        """The adversarial loss of reconstructions, unweighted."""
        self.discriminator.requires_grad_(False)
        return generator_loss(self.config.loss, self.discriminator(images))

    def keep(self, piece: MicroBatch, images: Tensor) -> None:
        """Remember a piece's reconstructions for the discriminator's phase."""
        self.fakes[id(piece)] = images.detach()

    def loss(self, piece: MicroBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's loss of a piece whose reconstructions were kept."""
        self.discriminator.requires_grad_(True)
        both = torch.cat((piece.data, self.fakes.pop(id(piece))))
        real, fake = self.discriminator(both).chunk(2)
        means = torch.stack((real.detach().mean(), fake.detach().mean()))
        self.logits.append(means * piece.weight)
        loss, parts = discriminator_loss(self.config.loss, real, fake), {"logit_real": means[0], "logit_fake": means[1]}
        if self.config.lecam:
            parts["lecam"] = lecam(real, fake, *self.averages)
            loss = loss + self.config.lecam * parts["lecam"]
        return loss, parts

    def after_step(self) -> None:
        """Average the logits of all pieces and ranks."""
        if self.config.lecam and self.logits:
            means = torch.stack(self.logits).sum(0)
            distributed.sum_([means])
            self.averages.lerp_(means, 1 - LECAM_DECAY)

    def state(self) -> dict[str, Tensor]:
        return {"logit_averages": self.averages} if self.config.lecam else {}
