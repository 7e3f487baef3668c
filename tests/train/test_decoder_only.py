"""Tuning the decoder of a trained tokenizer, going on from one, and mirrored pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch

from lvmlite.tokenizers import load_tokenizer
from lvmlite.tokenizers.base import save_tokenizer, to_uint8
from lvmlite.train.loop import Trainer
from lvmlite.train.tokenizer import TokenizerLearner, TokenizerTrainConfig

CPU = torch.device("cpu")


def trained(learner: TokenizerLearner, folder: Path) -> TokenizerLearner:
    Trainer(learner, learner.config, folder, CPU, quiet=True).run()
    return learner


@pytest.fixture(scope="module")
def before(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder."""
    folder = tmp_path_factory.mktemp("before")
    made = trained(tiny_runs.tokenizer(data, steps=20)[0], folder / "run")
    save_tokenizer(made.trained, folder / "tokenizer")
    return folder / "tokenizer"


def going_on(before: Path, data: Path, what: str = "tokenizer", **settings: Any) -> TokenizerLearner:
    made, config = tiny_runs.LEARNERS[what](data, steps=8, start_codes_at=0, **settings)
    tokenizer: Any = load_tokenizer(before)
    return TokenizerLearner(tokenizer, made.stream, config, 1, made.validation, perceptual=made.perceptual, placed=True)


@pytest.mark.parametrize("what", ["tokenizer", "gan"])
def test_the_decoder_alone(what: str, before: Path, data: Path, tmp_path: Path) -> None:
    """Codes stay to the bit, pictures do not."""
    learner = going_on(before, data, what, train_only="decoder", micro_batch_size=4)
    old = load_tokenizer(before)
    first = learner.validate()
    trained(learner, tmp_path / "run")
    save_tokenizer(learner.trained, tmp_path / "tokenizer")
    new = load_tokenizer(tmp_path / "tokenizer")
    assert new.code_fingerprint == old.code_fingerprint
    assert new.decoder_fingerprint != old.decoder_fingerprint
    moved = {name.split(".")[0] for name, t in new.state_dict().items() if not t.equal(old.state_dict()[name])}
    assert moved == {"post_quant_conv", "decoder"}
    last = learner.validate()
    assert last["val_usage"] == first["val_usage"]
    assert last["val_perplexity"] == first["val_perplexity"]
    assert last["val_loss"] != first["val_loss"]


def test_what_is_frozen_has_no_gradient(before: Path, data: Path) -> None:
    learner = going_on(before, data, train_only="decoder")
    (piece,) = learner.micro_batches(0)
    loss, parts = learner.loss("generator", piece, 0)
    assert "commitment" not in parts
    loss.backward()
    got = {name.split(".")[0] for name, p in learner.tokenizer.named_parameters() if p.grad is not None}
    assert got == {"post_quant_conv", "decoder"}
    images = learner.tokenizer.decode(learner.tokenizer.encode(piece.data))
    error = (images - piece.data).abs().mean().item()
    assert parts["l1"].item() == pytest.approx(error, abs=1e-3)  # decode clips
    assert learner.after_step(0)["codes_used"] == len(learner.tokenizer.encode(piece.data).unique())


def test_going_on_keeps_the_codes_places(before: Path, data: Path, tmp_path: Path) -> None:
    """One more step moves the codes a little; placing them anew, or empty averages, would move them far."""
    learner = going_on(before, data)
    old = learner.tokenizer.quantize.embedding.weight.clone()
    first = learner.validate()["val_psnr"]
    Trainer(learner, learner.config, tmp_path, CPU, quiet=True).one_step(NoWindow())  # type: ignore[arg-type]
    new = learner.tokenizer.quantize.embedding.weight
    assert not new.equal(old)
    assert (new - old).norm() < 0.3 * old.norm()
    assert abs(learner.validate()["val_psnr"] - first) < 1.5


class NoWindow:
    def add(self, seconds: float, waited: float) -> None: ...


def test_decoder_only_has_no_codes_to_place() -> None:
    with pytest.raises(ValueError, match=r"^start_codes_at places codes, but train_only: decoder leaves them"):
        TokenizerTrainConfig(steps=9, start_codes_at=3, train_only="decoder")


def batch(learner: TokenizerLearner, step: int) -> np.ndarray:
    return np.concatenate([to_uint8(piece.data) for piece in learner.micro_batches(step)])


def test_mirrored_pictures_are_a_function_of_seed_and_step(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"steps": 50, "start_codes_at": 49}
    plain, half, other, all_of_them = (
        tiny_runs.tokenizer(data, flip=flip, **settings)[0] for flip in (0.0, 0.5, 0.5, 1.0)
    )
    other.seed = 2
    mirrored, differs = 0, False
    for step in range(40):
        a, b = plain.stream.batch(step), batch(half, step)
        assert batch(plain, step).tobytes() == a.tobytes()
        assert batch(all_of_them, step).tobytes() == a[:, :, ::-1].tobytes()
        flipped = [(y == x[:, ::-1]).all() for x, y in zip(a, b)]
        assert all(f or (y == x).all() for f, x, y in zip(flipped, a, b))
        mirrored += sum(flipped)
        assert batch(half, step).tobytes() == b.tobytes()
        differs |= batch(other, step).tobytes() != b.tobytes()
    assert 0.4 < mirrored / 320 < 0.6
    assert differs
    whole = batch(half, 7)
    monkeypatch.setattr("lvmlite.distributed.world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("lvmlite.distributed.rank", lambda rank=rank: rank)
        assert batch(half, 7).tobytes() == whole[4 * rank : 4 * rank + 4].tobytes()
