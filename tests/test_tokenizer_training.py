"""A tokenizer trained by recipe with all there is, and one that goes on from another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lvmlite.pipeline import Pipeline
from lvmlite.schema import load_recipe
from lvmlite.tokenizers import build_tokenizer, load_tokenizer
from lvmlite.tokenizers.base import save_tokenizer
from lvmlite.tokenizers.vqgan import VQGANConfig
from lvmlite.train import checkpoint

RECIPE = Path(__file__).parent / "tiny.yaml"
ADVERSARIAL = (
    "{discriminator: {discriminator: stylegan, channels: 8}, weight: 0.5, start_step: 3, loss: non-saturating, "
    "adaptive: true, lecam: 0.001, optim: {lr: 1.0e-3, min_lr: 1.0e-4, warmup_steps: 0, betas: [0.5, 0.9]}}"
)
TRAIN = "steps: 3, batch_size: 8, pictures: [{sentence: single}]"


def pipeline(out: Path, *settings: str) -> Pipeline:
    config = load_recipe(RECIPE, [f"out={out}", "stages=[]", "evaluate=[]", "data.kinds={}", *settings])
    return Pipeline(config, quiet=True)


def going_on(out: Path, init: Path, extra: str = "", *settings: str) -> Pipeline:
    """tiny.yaml's net is taken back: `tokenizer` is given anew."""
    return pipeline(out, f"tokenizer={{init: {init}, train: {{{TRAIN}{extra}}}}}", *settings)


def refused(tokenizer: str) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        load_recipe(RECIPE, [f"tokenizer={tokenizer}"])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to its tokens."""
    out = tmp_path_factory.mktemp("run") / "first"
    settings = ("tokenizer.train.ema_decay=0.9", "tokenizer.train.flip=0.5")
    photos = "tokenizer.train.pictures=[{sentence: single}]"
    pipeline(out, f"tokenizer.train.adversarial={ADVERSARIAL}", photos, *settings).run("tokens")
    return out


def test_a_recipe_with_an_adversary(first: Path) -> None:
    lines = [json.loads(line) for line in (first / "tokenizer/log.jsonl").read_text().splitlines()]
    assert ["discriminator_loss" in line for line in lines] == [False, True, True]
    saved = load_tokenizer(first / "tokenizer/final").state_dict()
    state, _ = checkpoint.latest(first / "tokenizer/checkpoints")
    assert state is not None
    for name, tensor in saved.items():
        assert tensor.equal(state.tensors[f"module/average.{name}"])
    last = "decoder.conv_out.weight"
    assert not saved[last].equal(state.tensors[f"module/tokenizer.{last}"])


def test_the_decoder_is_tuned_and_tokens_stay(first: Path, tmp_path: Path) -> None:
    init, out = first / "tokenizer/final", tmp_path / "second"
    going_on(out, init, ", train_only: decoder").run("tokens")
    old, new = load_tokenizer(init), load_tokenizer(out / "tokenizer/final")
    assert new.code_fingerprint == old.code_fingerprint
    assert new.decoder_fingerprint != old.decoder_fingerprint
    found = [sorted(folder.rglob("*.npy")) for folder in (first / "tokens", out / "tokens")]
    assert found[0]
    for a, b in zip(*found, strict=True):
        assert a.read_bytes() == b.read_bytes()
    # the saved recipe is read back, though it spells out the net that `init` brings
    assert load_recipe(out / "recipe.yaml").tokenizer.init == str(init)


def test_the_step_depends_on_what_it_starts_from(first: Path, tmp_path: Path) -> None:
    init = tmp_path / "init"
    tokenizer = load_tokenizer(first / "tokenizer/final")
    save_tokenizer(tokenizer, init)
    keys = [{s.name: s.key for s in going_on(tmp_path / "out", init).steps}]
    tokenizer.state_dict()["decoder.conv_out.bias"] += 1
    save_tokenizer(tokenizer, init)
    keys.append({s.name: s.key for s in going_on(tmp_path / "out", init).steps})
    assert keys[0]["pixels"] == keys[1]["pixels"]
    assert keys[0]["tokenizer"] != keys[1]["tokenizer"]
    assert keys[0]["tokens"] != keys[1]["tokens"]


def test_another_picture_size_is_one_line(tmp_path: Path) -> None:
    save_tokenizer(build_tokenizer(VQGANConfig(channels=8, multipliers=(1,), z_channels=8, patch=8), 64), tmp_path)
    said = f"^tokenizer.init: {tmp_path} takes pictures of 64 px, data.geometry.size is 32$"
    with pytest.raises(ValueError, match=said):
        going_on(tmp_path / "out", tmp_path)
    with pytest.raises(ValueError, match=r"not a whole tokenizer folder, config.json is missing$"):
        going_on(tmp_path / "out", tmp_path / "none")


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        (f"{{train: {{{TRAIN}, train_only: decoder}}}}", "needs a tokenizer to start from: name its folder in init"),
        (f"{{init: a, path: b, train: {{{TRAIN}}}}}", "give one of them"),
        (
            f"{{net: {{tokenizer: vqgan, quantizer: {{quantizer: lfq}}}}, train: {{{TRAIN}, micro_batch_size: 2}}}}",
            "of a whole batch",
        ),
        (f"{{init: a, train: {{{TRAIN}, start_codes_at: 2}}}}", "those of init have their places"),
        (f"{{train: {{{TRAIN}, adversarial: {{start_step: 3}}}}}}", "start_step 3 is not before the last of 3 steps"),
        (f"{{train: {{{TRAIN}, adversarial: {{discriminator: {{discriminator: dcgan}}}}}}}}", "patchgan, stylegan"),
        (f"{{train: {{{TRAIN}, losses: {{l1: 0, l2: 0}}}}}}", "l1, l2 and lpips are all 0"),
        (f"{{train: {{{TRAIN}, ema_decay: 1.0}}}}", "expected between 0 and 0.999999"),
        (f"{{train: {{{TRAIN}, flip: 2}}}}", "expected between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_one_line(tokenizer: str, said: str) -> None:
    assert said in refused(tokenizer)
