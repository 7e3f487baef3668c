"""The codes of a tokenizer in training: placed once, followed after each step, revived when they die.

In: latents (N, C) float32 and their codes (N,) of a step. Out: a quantiser whose codes are used, and numbers to log.
All ranks call together, and hold the same codes afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lvmlite import distributed
from lvmlite.data.keyed import key_of
from lvmlite.tokenizers.quantizers import Quantizer
from lvmlite.train.loop import Diverged

LATENTS_PER_CODE = 16  # to place the codes on
LATENTS = 1 << 18  # of which large codebooks make do with fewer a code


class Codes:
    """Args: quantizer: on its device; optimizer: of its learned vectors, if any; seed: of placement and revival."""

    def __init__(self, quantizer: Quantizer, optimizer: torch.optim.Optimizer, seed: int):
        self.quantizer, self.optimizer, self.seed = quantizer, optimizer, seed

    def generator(self, name: str, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(key_of(self.seed, name, step) % 2**63)

    def settle(self) -> None:
        """Take codes that were learned before as they are: all count as in use."""
        if self.quantizer.has_codebook:
            every = torch.arange(self.quantizer.codebook_size, device=next(self.quantizer.parameters()).device)
            self.quantizer.revive(every, self.quantizer.decode(every).detach())

    def place(self, batches: Iterable[Tensor], step: int) -> None:
        """Place the codes on latents of as many batches as give 16 latents a code, or `LATENTS` and one a code where
        that is less; rank 0 does it for all.

        Raises:
            Diverged: the latents are not finite.
        """
        quantizer = self.quantizer
        if distributed.is_main():
            latents: list[Tensor] = []
            n = 0
            for batch in batches:
                latents.append(batch)
                n += len(batch)
                if n >= min(LATENTS_PER_CODE * quantizer.codebook_size, max(LATENTS, quantizer.codebook_size)):
                    break
            found = torch.cat(latents)
            if not found.isfinite().all():
                raise Diverged(
                    f"step {step}: the codes have no place, the latents are not finite; lower the learning rate"
                )
            quantizer.place(found, self.generator("place", step))
        distributed.broadcast_([*quantizer.state_dict().values(), *quantizer.training_state().values()])

    def follow(self, latents: Tensor, codes: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """Move the codes after this rank's latents of a step; gives those that were revived (D,), and what to log."""
        quantizer = self.quantizer
        tally = quantizer.tally(latents, codes)
        distributed.sum_(tally)
        revived = quantizer.update(*tally)
        if len(revived):  # onto latents drawn from the whole batch, of which each rank holds an equal slice
            n = len(latents)
            pick = torch.randint(
                n * distributed.world_size(), (len(revived),), generator=self.generator("revive", step)
            ).to(latents.device)
            mine = pick // n == distributed.rank()
            candidates = latents[pick % n] * mine[:, None]
            distributed.sum_([candidates])
            quantizer.revive(revived, candidates)
            self.forget(revived)
        return revived, {"revived": len(revived), **use_of_codes(tally[0])}

    def count(self, latents: Tensor, codes: Tensor) -> dict[str, float]:
        """What to log of a step that leaves the codes as they are."""
        tally = self.quantizer.tally(latents, codes)
        distributed.sum_(tally[:1])
        return use_of_codes(tally[0])

    def forget(self, rows: Tensor) -> None:
        """Clear the moments of codes that were moved: they are of where the codes were before."""
        for parameter in self.quantizer.parameters():
            for moment in self.optimizer.state.get(parameter, {}).values():
                if moment.shape == parameter.shape:
                    moment[rows] = 0


def use_of_codes(counts: Tensor) -> dict[str, float]:
    """counts: (K,) latents that each code won."""
    return {"codes_used": int((counts > 0).sum()), "perplexity": perplexity(counts)}


def perplexity(counts: Tensor) -> float:
    """How many codes would carry as much if all were used alike: K if all are, 1 if only one is; 0 of no latents."""
    shares = counts[counts > 0].double() / counts.sum().double()
    return float(torch.exp(-(shares * shares.log()).sum())) if len(shares) else 0.0
