"""The language learner: a decoder learns the next code of visual sentences.

In: a `Stream` of tokens, a placed `Transformer` (`parallel.py`). Out: the same, trained. One phase; the loss is the
mean over all targets of a batch.

All ranks have equally many micro batches, in training and validation, since the global batch splits into them evenly
(`loop.check_split`): ranks that share a model must all call it, equally often.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lvmlite import distributed
from lvmlite.data.stream import IGNORE, Batch, Stream
from lvmlite.model.attention import Documents
from lvmlite.model.flops import training_flops
from lvmlite.model.transformer import Activations, Block, Transformer
from lvmlite.train.ahead import Ahead
from lvmlite.train.loop import Learner, MicroBatch, TrainConfig
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


class LanguageLearner(Learner):
    """See `loop.Learner`.

    Args:
        model: placed; of one with adapters, they alone are trained.
        stream: of training batches.
        validation: streams of held-out batches by name; `validation_batches` of each are read.
        bf16: whether validation is under bf16 autocast, as the loop's steps are.
    """

    unit = "tokens"

    def __init__(
        self,
        model: Transformer,
        stream: Stream,
        config: LanguageTrainConfig,
        validation: dict[str, Stream] | None = None,
        validation_batches: int = 4,
        bf16: bool = False,
    ):
        self.model, self.stream, self.config = model, stream, config
        self.validation, self.validation_batches, self.bf16 = validation or {}, validation_batches, bf16
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimizers: dict[str, torch.optim.Optimizer] = {"language": adamw(model.named_parameters(), config.optim)}
        self.device = model.lm_head.weight.device
        self.tensor_ranks = config.parallel.tensor
        self.flops = self.needed_flops()
        self.ahead = Ahead(lambda step: self.draw(stream, step))
        for block in model.model.layers:
            assert isinstance(block, Block)
            block.activations = config.activations

    def phases(self, step: int) -> list[str]:
        return ["language"]

    def schedule(self, phase: str) -> tuple[OptimConfig, int]:
        return self.config.optim, 0

    def draw(self, stream: Stream, index: int) -> Batch:
        """The part of a batch that this rank reads; ranks that share every product read the same."""
        shares = self.tensor_ranks
        return stream.batch(index, distributed.rank() // shares, distributed.world_size() // shares)

    def micro_batches(self, step: int) -> list[MicroBatch]:
        self.model.train()
        batch = self.ahead.get(step)
        self.waited = self.ahead.waited
        counts, n_targets = (batch.targets != IGNORE).sum(1), self.stream.n_targets(step)
        shares = [(rows, float(counts[rows].sum()) / n_targets) for rows in self.rows(batch)]
        return [MicroBatch(self.tensors(batch, rows), share) for rows, share in shares]

    def rows(self, batch: Batch) -> list[slice]:
        """The micro batches of a batch."""
        n = len(batch.inputs)
        size = self.config.micro_batch_size or n
        return [slice(at, at + size) for at in range(0, n, size)]

    def tensors(self, batch: Batch, rows: slice) -> tuple[Tensor, Tensor, Documents | None]:
        inputs, targets = (self.sent(x[rows]) for x in (batch.inputs, batch.targets))
        document = Documents(torch.from_numpy(batch.document[rows]), self.device) if batch.packed else None
        return inputs, targets, document

    def sent(self, x: np.ndarray) -> Tensor:
        """On the device; on its way there the GPU goes on with what it has to do."""
        tensor = torch.from_numpy(x)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def loss(self, phase: str, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets, document = micro_batch.data
        return self.model(inputs, targets, document, mean=True), {}

    def after_step(self, step: int) -> dict[str, float]:
        return {"padding": round(self.stream.padding, 4)} if self.stream.padding else {}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Nats per token on held-out sentences: `val_loss` over all, `val/<type>` for each sentence type.

        Ranks share the batches; all must call.
        """
        self.model.eval()
        sums: dict[str, np.ndarray] = {}  # type -> (summed nats, tokens) of this rank
        for stream in self.validation.values():
            names = [t.name for t in stream.types]
            for name in names:
                sums.setdefault(name, np.zeros(2))
            for i in range(self.validation_batches):
                batch = self.draw(stream, i)
                for rows in self.rows(batch):
                    inputs, targets, document = self.tensors(batch, rows)
                    with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                        losses = self.model(inputs, targets, document).cpu().double().sum(1)
                    counts = (batch.targets[rows] != IGNORE).sum(1)
                    for loss, count, t in zip(losses.tolist(), counts, batch.type[rows]):
                        sums[names[t]] += (loss, count)
        values = distributed.totals([v for name in sorted(sums) for v in sums[name].tolist()], self.device)
        entries = {name: (a, n) for name, a, n in zip(sorted(sums), values[::2], values[1::2]) if n}
        if not entries:
            return {}
        loss, n = (sum(column) for column in zip(*entries.values()))  # ranks that read the same cancel out
        return {"val_loss": loss / n} | {f"val/{name}": a / b for name, (a, b) in entries.items()}

    def needed_flops(self) -> float:
        """Training FLOPs of a global batch: attention within each sentence; frozen weights need no gradient."""
        model, stream = self.model, self.stream
        needed = sum(n * training_flops(model.arch, length, length) for length, n in stream.lengths.items())
        frozen = any(not parameter.requires_grad for parameter in model.parameters())
        return needed * 2 / 3 if frozen else needed

    def size(self) -> int:
        return self.stream.batch_size * self.stream.context

    def pictures(self) -> float:
        return self.stream.n_pictures

    def extra_state(self) -> dict[str, Tensor]:
        return {}
