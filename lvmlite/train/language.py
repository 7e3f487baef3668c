"""The language learner: a decoder learns the next code of visual sentences.

In: a `Stream` of tokens. Out: a trained `Transformer`. One phase; the loss is the mean over all targets of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lvmlite import distributed
from lvmlite.data.stream import IGNORE, Batch, Stream
from lvmlite.model.transformer import Activations, Transformer
from lvmlite.train.loop import MicroBatch, TrainConfig
from lvmlite.train.optim import OptimConfig, adamw
from lvmlite.train.parallel import ParallelConfig


@dataclass
class LanguageTrainConfig(TrainConfig):
    """How a decoder is trained.

    Attributes:
        activations: what is kept for the backward: "keep" everything; "selective" everything but the wide MLP; "block"
            the input of each block; "bpt" the same, with MLP and loss in chunks, as LVM trains.
        parallel: how the model lies on several devices.
    """

    activations: Activations = "keep"
    parallel: ParallelConfig = field(default_factory=ParallelConfig)


class LanguageLearner:
    """See `loop.Learner`.

    Args:
        model: on its device; stream: of training batches.
        validation: streams of held-out batches by name; `validation_batches` of each are read.
    """

    unit = "tokens"

    def __init__(
        self,
        model: Transformer,
        stream: Stream,
        config: TrainConfig,
        validation: dict[str, Stream] | None = None,
        validation_batches: int = 4,
        bf16: bool = False,
    ):
        self.model, self.stream, self.config = model, stream, config
        self.validation, self.validation_batches, self.bf16 = validation or {}, validation_batches, bf16
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimizers: dict[str, torch.optim.Optimizer] = {"language": adamw(model.named_parameters(), config.optim)}
        self.device = model.lm_head.weight.device

    def phases(self, step: int) -> list[str]:
        return ["language"]

    def schedule(self, phase: str) -> tuple[OptimConfig, int]:
        return self.config.optim, 0

    def micro_batches(self, step: int) -> list[MicroBatch]:
        self.model.train()
        batch = self.stream.batch(step, distributed.rank(), distributed.world_size())
        n_targets = distributed.total(float((batch.targets != IGNORE).sum()), self.device)
        size = self.config.micro_batch_size or len(batch.inputs)
        pieces = []
        for at in range(0, len(batch.inputs), size):
            rows = slice(at, at + size)
            weight = float((batch.targets[rows] != IGNORE).sum()) / n_targets
            pieces.append(MicroBatch(self.tensors(batch, rows), weight))
        return pieces

    def tensors(self, batch: Batch, rows: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        inputs, targets = (torch.from_numpy(x[rows]).to(self.device) for x in (batch.inputs, batch.targets))
        document = torch.from_numpy(batch.document[rows]).to(self.device) if batch.packed else None
        return inputs, targets, document

    def loss(self, phase: str, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets, document = micro_batch.data
        losses = self.model(inputs, targets, document)
        return losses.sum() / (targets != IGNORE).sum().clamp_min(1), {}

    def after_step(self, step: int) -> dict[str, float]:
        return {"padding": round(self.stream.padding, 4)} if self.stream.padding else {}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Nats per token on held-out sentences: `val_loss` over all, `val/<type>` for each sentence type.

        Ranks share the batches; all must call.
        """
        self.model.eval()
        sums: dict[str, Tensor] = {}  # type -> (summed nats, tokens)
        for stream in self.validation.values():
            found = {t.name: sums.setdefault(t.name, torch.zeros(2, dtype=torch.float64)) for t in stream.types}
            for i in range(self.validation_batches):
                batch = stream.batch(i, distributed.rank(), distributed.world_size())
                size = self.config.micro_batch_size or len(batch.inputs)
                for at in range(0, len(batch.inputs), size):
                    rows = slice(at, at + size)
                    inputs, targets, document = self.tensors(batch, rows)
                    with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                        losses = self.model(inputs, targets, document).cpu().double().sum(1)
                    counts = torch.from_numpy((batch.targets[rows] != IGNORE).sum(1))
                    for loss, count, t in zip(losses, counts, batch.type[rows]):
                        found[stream.types[t].name] += torch.stack((loss, count.double()))
        values = distributed.totals([v for name in sorted(sums) for v in sums[name].tolist()], self.device)
        entries = {name: (a, n) for name, a, n in zip(sorted(sums), values[::2], values[1::2]) if n}
        if not entries:
            return {}
        loss, n = (sum(column) for column in zip(*entries.values()))
        return {"val_loss": loss / n} | {f"val/{name}": a / b for name, (a, b) in entries.items()}

    def size(self) -> int:
        return self.stream.batch_size * self.stream.context

    def extra_state(self) -> dict[str, Tensor]:
        return {}
