"""The tokenizer and its adversary: who gets which gradient, the adaptive weight, averages, NaN, resuming."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from torch import Tensor

from lvmlite.train import checkpoint
from lvmlite.train.adversary import LECAM_DECAY, AdversarialConfig
from lvmlite.train.discriminators import PatchGANConfig, StyleGANConfig
from lvmlite.train.loop import Diverged, MicroBatch, Trainer
from lvmlite.train.losses import reconstruction_loss
from lvmlite.train.optim import OptimConfig, learning_rate
from lvmlite.train.tokenizer import TokenizerLearner, TokenizerTrainConfig

CPU = torch.device("cpu")
SMALL = PatchGANConfig(channels=8, n_layers=2)


class NoWindow:
    def add(self, seconds: float, waited: float) -> None: ...


def gan(data: Path, **settings: Any) -> TokenizerLearner:
    return tiny_runs.gan(data, **({"steps": 10} | settings))[0]


def adversarial(**settings: Any) -> AdversarialConfig:
    return AdversarialConfig(discriminator=SMALL, **settings)


def trainer(learner: TokenizerLearner, folder: Path) -> Trainer:
    return Trainer(learner, learner.config, folder, CPU, quiet=True)


def state(made: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.state().tensors.items()}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def gradients(learner: TokenizerLearner, name: str) -> int:
    """How many parameters of a module have a gradient."""
    return sum(p.grad is not None for p in learner.modules[name].parameters())


def test_phases_begin_with_the_adversary(data: Path) -> None:
    learner = gan(data)
    assert [learner.phases(step) for step in (0, 2, 3)] == [["generator"]] * 2 + [["generator", "discriminator"]]
    assert gan(data, adversarial=None).phases(9) == ["generator"]


def test_each_phase_moves_its_own_net(data: Path) -> None:
    learner = gan(data, adversarial=adversarial())
    (piece,) = learner.micro_batches(5)
    loss, parts = learner.loss("generator", piece, 5)
    loss.backward()
    assert parts["adversarial"].item() != 0
    assert gradients(learner, "discriminator") == 0
    assert gradients(learner, "tokenizer") == len(list(learner.tokenizer.parameters()))
    before = {name: p.grad.clone() for name, p in learner.tokenizer.named_parameters() if p.grad is not None}
    loss, _ = learner.loss("discriminator", piece, 5)
    loss.backward()
    assert gradients(learner, "discriminator") == len(list(learner.modules["discriminator"].parameters()))
    for name, p in learner.tokenizer.named_parameters():
        assert p.grad is not None
        assert p.grad.equal(before[name]), name
    assert gradients(learner, "average") == 0
    assert learner.adversary is not None
    assert not learner.adversary.fakes  # nothing is held beyond the step


def test_the_discriminator_is_shown_this_steps_reconstructions(data: Path) -> None:
    learner = gan(data, adversarial=adversarial(), micro_batch_size=3)
    pieces = learner.micro_batches(5)
    made = []
    for piece in pieces:
        learner.loss("generator", piece, 5)
        made.append(learner.tokenizer(piece.data).images.detach())
    for piece, images in zip(pieces, made):
        _, parts = learner.loss("discriminator", piece, 5)
        judge = learner.modules["discriminator"]
        assert parts["logit_fake"].item() == pytest.approx(judge(images).mean().item(), abs=1e-5)
        assert parts["logit_real"].item() == pytest.approx(judge(piece.data).mean().item(), abs=1e-5)


def test_the_adaptive_weight_by_hand(data: Path) -> None:
    config = adversarial(adaptive=True, weight=0.7)
    learner = gan(data, adversarial=config)
    (piece,) = learner.micro_batches(5)
    loss, parts = learner.loss("generator", piece, 5)
    net, last = learner.tokenizer, learner.tokenizer.decoder.conv_out.weight
    out = net(piece.data)
    reconstruction, _ = reconstruction_loss(learner.config.losses, out.images, piece.data, learner.perceptual)
    against = -learner.modules["discriminator"](out.images).mean()
    pulls = [
        torch.autograd.grad(x, last, retain_graph=True)[0].square().sum().sqrt() for x in (reconstruction, against)
    ]
    weight = pulls[0].item() / (pulls[1].item() + 1e-4)
    assert parts["adaptive_weight"].item() == pytest.approx(weight, rel=1e-4)
    total = reconstruction.item() + out.loss.item() + 0.7 * weight * against.item()
    assert loss.item() == pytest.approx(total, rel=1e-4)
    fixed = gan(data, adversarial=replace(config, adaptive=False))
    (piece,) = fixed.micro_batches(5)
    loss, parts = fixed.loss("generator", piece, 5)
    assert "adaptive_weight" not in parts
    assert loss.item() == pytest.approx(reconstruction.item() + out.loss.item() + 0.7 * against.item(), rel=1e-4)


@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_equal_the_batch(size: int, data: Path, tmp_path: Path) -> None:
    whole, split = gan(data, log_every=1), gan(data, log_every=1, micro_batch_size=size)
    trainer(whole, tmp_path / "whole").run()
    trainer(split, tmp_path / "split").run()
    timed = ("seconds", "data_wait", "memory_gb", "images_per_s", "device_hours")
    for a, b in zip(log(tmp_path / "whole"), log(tmp_path / "split")):
        assert a.keys() == b.keys()
        for name in a.keys() - timed:
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-5), name
    for name, module in whole.modules.items():
        for p, q in zip(module.parameters(), split.modules[name].parameters()):
            assert torch.allclose(p, q, atol=1e-4), name


def test_lecam_averages_follow_the_logits(data: Path, tmp_path: Path) -> None:
    learner = gan(data, micro_batch_size=2)
    made, expected = trainer(learner, tmp_path), [0.0, 0.0]
    for _ in range(6):
        entry = made.one_step(NoWindow())  # type: ignore[arg-type]
        if "logit_real" in entry:
            for i, name in enumerate(("logit_real", "logit_fake")):
                expected[i] = LECAM_DECAY * expected[i] + (1 - LECAM_DECAY) * entry[name]
    assert learner.extra_state()["logit_averages"].tolist() == pytest.approx(expected, rel=1e-4)
    assert expected[0] != 0


def test_the_discriminator_has_a_schedule_of_its_own(data: Path, tmp_path: Path) -> None:
    optim = OptimConfig(lr=5e-3, min_lr=1e-3, warmup_steps=2, betas=(0.5, 0.9))
    learner = gan(data, adversarial=adversarial(start_step=4, optim=optim), log_every=1)
    trainer(learner, tmp_path).run()
    entries = log(tmp_path)
    assert ["discriminator_lr" in entry for entry in entries] == [False] * 4 + [True] * 6
    assert [e["discriminator_lr"] for e in entries[4:]] == [learning_rate(optim, i, 6) for i in range(6)]
    assert entries[4]["discriminator_lr"] == 2.5e-3
    assert [e["lr"] for e in entries] == [learning_rate(learner.config.optim, i, 10) for i in range(10)]
    assert learner.optimizers["discriminator"].param_groups[0]["betas"] == (0.5, 0.9)


def test_the_discriminator_learns_to_tell(data: Path, tmp_path: Path) -> None:
    optim = OptimConfig(lr=3e-3, min_lr=3e-3, warmup_steps=0, betas=(0.5, 0.9))
    config = AdversarialConfig(StyleGANConfig(channels=8), weight=0.0, loss="non-saturating", optim=optim)
    learner = gan(data, adversarial=config, steps=40, log_every=1)
    trainer(learner, tmp_path).run()
    entries = log(tmp_path)
    assert entries[-1]["logit_real"] > entries[-1]["logit_fake"] + 1
    assert entries[-1]["discriminator_loss"] < 0.5 < math.log(2) - 0.1


def poison(learner: TokenizerLearner, phase: str, steps: range) -> None:
    """Make the loss of a phase NaN at some steps."""
    loss = learner.loss

    def poisoned(p: str, piece: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        found, parts = loss(p, piece, step)
        return (found * float("nan") if p == phase and step in steps else found), parts

    learner.loss = poisoned  # type: ignore[method-assign]


@pytest.mark.parametrize("phase", ["generator", "discriminator"])
def test_a_bad_phase_leaves_no_trace(phase: str, data: Path, tmp_path: Path) -> None:
    """Neither in weights and moments of both nets, nor in averages, codes and LeCam."""
    learner = gan(data, micro_batch_size=4)
    poison(learner, phase, range(5, 6))
    made = trainer(learner, tmp_path)
    for _ in range(5):
        made.one_step(NoWindow())  # type: ignore[arg-type]
    before = state(made)
    entry = made.one_step(NoWindow())  # type: ignore[arg-type]
    assert entry["bad_batch"] == 5
    after = state(made)
    assert [name for name in before if not before[name].equal(after[name])] == []
    entry = made.one_step(NoWindow())  # type: ignore[arg-type]
    assert "bad_batch" not in entry
    after = state(made)
    changed = {name for name in before if not before[name].equal(after[name])}
    assert {
        "extra/use", "extra/logit_averages", "module/tokenizer.quantize.embedding.weight",
        "module/average.quantize.embedding.weight", "module/average.decoder.conv_out.weight",
        "module/discriminator.main.0.weight", "optimizer/discriminator/discriminator.main.0.weight/exp_avg",
    } <= changed  # fmt: skip


def test_a_broken_discriminator_stops_the_run_with_a_good_checkpoint(data: Path, tmp_path: Path) -> None:
    learner = gan(data, steps=30, checkpoint_every=2)
    poison(learner, "discriminator", range(7, 30))
    with pytest.raises(Diverged, match=r"not finite for 5 steps in a row, last at step 12 \(batch 11\)"):
        trainer(learner, tmp_path).run()
    found, warnings = checkpoint.latest(tmp_path / "checkpoints")
    assert found is not None
    assert warnings == []
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    fresh = gan(data, steps=30, checkpoint_every=2)
    made = trainer(fresh, tmp_path)
    made.load(found)
    assert made.step == 6  # the last before the streak
    assert fresh.validate()["val_loss"] < 1
    made.one_step(NoWindow())  # type: ignore[arg-type]


def test_weights_that_blow_up_do_not_reach_a_checkpoint(data: Path, tmp_path: Path) -> None:
    """An infinite weight in the discriminator: its logits are not finite, in the generator's phase already."""
    learner = gan(data, steps=30, checkpoint_every=2)
    made = trainer(learner, tmp_path)
    for _ in range(5):
        made.one_step(NoWindow())  # type: ignore[arg-type]
    next(learner.modules["discriminator"].parameters()).data.fill_(float("inf"))
    before = state(made)
    assert made.one_step(NoWindow())["bad_batch"] == 5  # type: ignore[arg-type]
    after = state(made)
    assert all(before[name].equal(after[name]) for name in before)


def test_validation_and_the_result_are_of_the_average(data: Path, tmp_path: Path) -> None:
    learner = gan(data, ema_decay=0.5, steps=12)
    trainer(learner, tmp_path).run()
    assert learner.average is not None
    assert learner.trained is learner.average.net is not learner.tokenizer
    found, plain = learner.validate(), learner.tokenizer
    learner.average = None
    assert learner.trained is plain
    assert found["val_loss"] != learner.validate()["val_loss"]
    assert {"val_loss", "val_psnr", "val_usage", "val_perplexity", "val_lpips"} == found.keys()
    assert "val_lpips" not in tiny_runs.tokenizer(data)[0].validate()


def test_validation_counts_codes_and_distances(data: Path) -> None:
    learner = gan(data, validation_pictures=8)
    assert learner.validation is not None
    assert learner.perceptual is not None
    x = torch.from_numpy(learner.validation.batch(0)).permute(0, 3, 1, 2) / 255
    net = learner.trained
    codes = net.encode(x)
    shares = codes.flatten().bincount() / codes.numel()
    shares = shares[shares > 0]
    found = learner.validate()
    assert found["val_perplexity"] == pytest.approx(math.exp(-(shares * shares.log()).sum().item()), rel=1e-5)
    assert found["val_lpips"] == pytest.approx(learner.perceptual(x, net.decode(codes)).mean().item(), rel=1e-5)


def test_codes_jump_in_the_average_too(data: Path, tmp_path: Path) -> None:
    """When they are placed, and when a dead one is revived."""
    learner = gan(data, steps=20)
    made = trainer(learner, tmp_path)
    assert learner.average is not None
    mine, theirs = learner.average.net.quantize.embedding.weight, learner.tokenizer.quantize.embedding.weight
    for _ in range(2):
        made.one_step(NoWindow())  # type: ignore[arg-type]
    learner.micro_batches(2)
    assert mine.equal(theirs)
    revived = []
    for _ in range(18):
        entry = made.one_step(NoWindow())  # type: ignore[arg-type]
        if entry.get("revived"):
            revived.append(entry["revived"])
            unmoved = len(theirs) - int(entry["codes_used"])  # a code that wins nothing has no gradient and no decay
            assert entry["revived"] <= int((mine == theirs).all(1).sum()) <= entry["revived"] + unmoved
    assert revived


def test_an_adversary_must_come_before_the_end() -> None:
    with pytest.raises(ValueError, match=r"adversarial.start_step 7 is not before the last of 7 steps"):
        TokenizerTrainConfig(steps=7, adversarial=AdversarialConfig(start_step=7))
