"""The two learners: micro-batches, the NaN rule, placing and reviving codes, validation numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch
import torch.nn.functional as F
from torch import Tensor

from lvmlite.data.stream import IGNORE
from lvmlite.tokenizers.base import to_float
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.tokenizers.vqgan import VQGAN, VQGANConfig
from lvmlite.train.language import LanguageLearner
from lvmlite.train.loop import Diverged, MicroBatch, Trainer
from lvmlite.train.losses import ReconstructionConfig, reconstruction_loss
from lvmlite.train.optim import OptimConfig
from lvmlite.train.tokenizer import TokenizerLearner, TokenizerTrainConfig

CPU = torch.device("cpu")


def language(data: Path, **settings: Any) -> LanguageLearner:
    return tiny_runs.language(data, **settings)[0]


def tokenizer(data: Path, **settings: Any) -> TokenizerLearner:
    return tiny_runs.tokenizer(data, **settings)[0]


def trained(learner: Any, folder: Path) -> Trainer:
    made = Trainer(learner, learner.config, folder, CPU, quiet=True)
    made.run()
    return made


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("size", [1, 2])
def test_micro_batches_equal_the_batch_language(data: Path, tmp_path: Path, size: int) -> None:
    """Slots hold different numbers of targets, pieces different numbers of slots."""
    whole, split = (language(data, steps=10, log_every=1, micro_batch_size=n) for n in (None, size))
    weights = [piece.weight for piece in split.micro_batches(0)]
    assert len(weights) == -(-4 // size)
    assert sum(weights) == pytest.approx(1)
    trained(whole, tmp_path / "whole")
    trained(split, tmp_path / "split")
    for a, b in zip(log(tmp_path / "whole"), log(tmp_path / "split")):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-6)
    assert a["val_loss"] == pytest.approx(b["val_loss"], rel=2e-6)
    for p, q in zip(whole.model.parameters(), split.model.parameters()):
        assert torch.allclose(p, q, atol=2e-5)


def test_micro_batches_equal_the_batch_tokenizer(data: Path, tmp_path: Path) -> None:
    whole, split = (tokenizer(data, steps=10, log_every=1, micro_batch_size=n) for n in (None, 2))
    assert [piece.weight for piece in split.micro_batches(0)] == [2 / 8] * 4
    trained(whole, tmp_path / "whole")
    trained(split, tmp_path / "split")
    for a, b in zip(log(tmp_path / "whole"), log(tmp_path / "split")):
        for name in ("loss", "l1", "l2", "commitment"):
            assert a.get(name, 0.0) == pytest.approx(b.get(name, 0.0), rel=1e-5, abs=1e-8)
        assert [a.get(n) for n in ("revived", "codes_used")] == [b.get(n) for n in ("revived", "codes_used")]
    assert a["val_psnr"] == pytest.approx(b["val_psnr"], rel=1e-5)
    assert torch.allclose(whole.tokenizer.quantize.total, split.tokenizer.quantize.total, atol=1e-4)
    for p, q in zip(whole.tokenizer.parameters(), split.tokenizer.parameters()):
        assert torch.allclose(p, q, atol=2e-5)


def test_a_piece_without_targets_costs_nothing(data: Path) -> None:
    learner = language(data)
    ((inputs, targets, document),) = (piece.data for piece in learner.micro_batches(0))
    empty = MicroBatch((inputs, torch.full_like(targets, IGNORE), document), 0.0)
    loss, _ = learner.loss("language", empty, 0)
    assert loss.item() == 0


def test_the_loss_is_the_mean_over_all_targets(data: Path) -> None:
    learner = language(data)
    (piece,) = learner.micro_batches(3)
    inputs, targets, document = piece.data
    loss, _ = learner.loss("language", piece, 3)
    logits = learner.model(inputs, document=document)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert document is not None  # photos are packed


def test_validation_is_nats_per_token(data: Path) -> None:
    learner = language(data)
    stream = learner.validation["val"]
    sums: dict[int, list[float]] = {0: [], 1: []}
    for i in range(2):
        batch = stream.batch(i)
        for row in range(4):
            inputs, targets, document = learner.tensors(batch, slice(row, row + 1))
            logits = learner.model(inputs, document=document)[0].log_softmax(-1)
            for position, target in enumerate(targets[0].tolist()):
                if target != IGNORE:
                    sums[int(batch.type[row])].append(-logits[position, target].item())
    found = learner.validate()
    assert found["val/single"] == pytest.approx(float(np.mean(sums[0])), rel=1e-5)
    assert found["val/video"] == pytest.approx(float(np.mean(sums[1])), rel=1e-5)
    assert found["val_loss"] == pytest.approx(float(np.mean(sums[0] + sums[1])), rel=1e-5)
    assert found["val_loss"] == pytest.approx(float(np.log(128)), abs=0.2)  # an untrained model knows nothing
    assert learner.validate() == found


def test_validation_of_the_tokenizer(data: Path) -> None:
    learner = tokenizer(data, validation_pictures=12)
    found = learner.validate()
    pictures = np.concatenate([learner.validation.batch(i) for i in range(2)])  # type: ignore[union-attr]
    x = to_float(pictures)
    codes = learner.tokenizer.encode(x)
    error = (learner.tokenizer.decode(codes) - x).square().flatten(1).mean(1)
    l1 = (learner.tokenizer.decode(codes) - x).abs().mean()
    weights = learner.config.losses
    assert found["val_loss"] == pytest.approx((weights.l1 * l1 + weights.l2 * error.mean()).item(), rel=1e-5)
    assert found["val_psnr"] == pytest.approx((-10 * error.log10()).mean().item(), rel=1e-5)
    assert found["val_usage"] == len(codes.unique()) / 16


def test_both_learn(data: Path, tmp_path: Path) -> None:
    trained(language(data, steps=150, batch_size=8), tmp_path / "language")
    first, *_, last = log(tmp_path / "language")
    assert first["loss"] > 4
    assert last["val_loss"] < 2.5  # a photo has one free code of four, a clip one of sixteen: ln(32) / 4 = 0.87
    trained(tokenizer(data, steps=100), tmp_path / "tokenizer")
    entries = log(tmp_path / "tokenizer")
    assert entries[-1]["val_psnr"] > 15
    assert entries[-1]["val_usage"] > 0.5


class EightPictures:
    """The same eight pictures in every batch: smooth fields with a disc each."""

    batch_size = 8

    def batch(self, index: int, rank: int = 0, world_size: int = 1) -> np.ndarray:
        y, x = np.mgrid[:32, :32] / 32
        found = []
        for i in range(8):
            fields = np.stack([np.sin(3 * x + i), np.cos(4 * y * (i + 1) / 4), np.sin(5 * (x - y) + 2 * i)], axis=2)
            fields[(x - i / 8) ** 2 + (y - 0.5) ** 2 < 0.05] = np.cos(i + np.arange(3))
            found.append(fields * 100 + 128)
        return np.stack(found).astype(np.uint8)


def test_a_tiny_tokenizer_overfits_eight_pictures(tmp_path: Path) -> None:
    """128 latents on 64 codes: 20 dB is far from the 12.6 dB of flat grey, and needs every part to work."""
    net = VQGANConfig(
        channels=32, multipliers=(1, 2), n_res_blocks=1, n_decoder_res_blocks=1, z_channels=32, patch=4,
        quantizer=NearestCodeConfig(codebook_size=64, codebook_dim=16, ema_decay=0.9),
    )  # fmt: skip
    optim = OptimConfig(lr=3e-3, min_lr=3e-4, warmup_steps=5, weight_decay=0.0)
    config = TokenizerTrainConfig(steps=160, batch_size=8, optim=optim, start_codes_at=60, validation_pictures=8)
    pictures: Any = EightPictures()
    learner = TokenizerLearner(VQGAN(net, 32).init_weights(0), pictures, config, 0, pictures)
    flat = pictures.batch(0) / 255
    assert -10 * np.log10(flat.var((1, 2, 3))).mean() < 13
    trained(learner, tmp_path)
    last = log(tmp_path)[-1]
    assert last["val_psnr"] > 20
    assert last["val_usage"] > 0.5


def state(made: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.state().tensors.items()}


class NoWindow:
    def add(self, seconds: float, waited: float) -> None: ...


@pytest.mark.parametrize("what", ["language", "tokenizer", "gan"])
def test_a_bad_step_leaves_no_trace(what: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving averages and revival belong to the step: the codebook must not follow latents of a step not taken."""
    learner, config = tiny_runs.LEARNERS[what](data, steps=10, micro_batch_size=4)
    made = Trainer(learner, config, tmp_path, CPU, quiet=True)
    for _ in range(4):
        made.one_step(NoWindow())  # type: ignore[arg-type]
    before, loss = state(made), learner.loss

    def poisoned(phase: str, piece: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        found, parts = loss(phase, piece, step)
        return found * float("nan"), parts

    monkeypatch.setattr(learner, "loss", poisoned)
    entry = made.one_step(NoWindow())  # type: ignore[arg-type]
    assert entry["bad_batch"] == 4
    after = state(made)
    assert before.keys() == after.keys()
    assert [name for name in before if not before[name].equal(after[name])] == []
    monkeypatch.setattr(learner, "loss", loss)
    entry = made.one_step(NoWindow())  # type: ignore[arg-type]
    after = state(made)
    changed = {name for name in before if not before[name].equal(after[name])}
    assert "bad_batch" not in entry
    if what == "tokenizer":
        assert {"extra/use", "extra/total", "module/tokenizer.quantize.embedding.weight"} <= changed


def test_codes_are_placed_at_their_step(data: Path, tmp_path: Path) -> None:
    learner = tokenizer(data, steps=6, start_codes_at=3)
    made = Trainer(learner, learner.config, tmp_path, CPU, quiet=True)
    codes = learner.tokenizer.quantize.embedding.weight
    untouched = codes.clone()
    for step in range(3):
        entry = made.one_step(NoWindow())  # type: ignore[arg-type]
        assert "commitment" not in entry
        assert "codes_used" not in entry
        assert codes.equal(untouched), step
    entry = made.one_step(NoWindow())  # type: ignore[arg-type]
    assert not codes.equal(untouched)
    assert entry["codes_used"] > 1


def test_latents_that_are_not_finite_give_no_codes(data: Path) -> None:
    learner = tokenizer(data, steps=3, start_codes_at=0)
    learner.tokenizer.quant_conv.weight.data.fill_(float("nan"))
    with pytest.raises(Diverged, match="the codes have no place"):
        learner.micro_batches(0)


def test_start_codes_at_must_lie_before_the_end() -> None:
    with pytest.raises(ValueError, match="start_codes_at 7 is not before the last of 7 steps"):
        TokenizerTrainConfig(steps=7, start_codes_at=7)


def test_reconstruction_loss() -> None:
    output, target = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.0]])
    loss, parts = reconstruction_loss(ReconstructionConfig(l1=2.0, l2=4.0), output, target)
    assert parts["l1"].item() == 0.75
    assert parts["l2"].item() == 0.625
    assert loss.item() == 4.0
    with pytest.raises(ValueError, match="nothing would be learned"):
        ReconstructionConfig(l1=0, l2=0)
