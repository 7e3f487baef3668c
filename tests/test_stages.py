"""Stages that start from any model, adapters, moments that are carried over, and what does not fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lvmlite.data.store import Store
from lvmlite.estimate import estimate, estimate_lines
from lvmlite.model.architecture import ModelConfig, RopeScaling
from lvmlite.model.files import Weights, save_weights
from lvmlite.model.transformer import Transformer
from lvmlite.pipeline import Pipeline
from lvmlite.schema import load_recipe
from lvmlite.stages import architecture
from lvmlite.train import checkpoint
from lvmlite.train.language import LanguageLearner
from lvmlite.train.loop import MicroBatch

RECIPE = Path(__file__).parent / "tiny.yaml"
NO_DATA = ("data.sources=[]", "data.only={}", "data.kinds={}", "evaluate=[]")
STILL = "{lr: 0, min_lr: 0, warmup_steps: 0}"  # weights stay as they are
ADAPTERS = "stages[0].lora={rank: 2, alpha: 4, targets: [q_proj, down_proj]}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to its model folder."""
    out = tmp_path_factory.mktemp("run") / "first"
    Pipeline(load_recipe(RECIPE, [f"out={out}", "evaluate=[]"]), quiet=True).run("model")
    return out


def words(run: Path, out: Path, *settings: str) -> list[str]:
    """One stage on the tokens of a run; the shape of the model is left out."""
    train = f"{{steps: 3, batch_size: 4, checkpoint_every: 2, optim: {STILL}}}"
    data = "{pictures: 4, sentences: [{sentence: pairs, pairs: 2}]}"
    stage = f"stages=[{{name: tune, data: {data}, train: {train}, validation_batches: 1}}]"
    tokens = (f"data.stores=[{run / 'tokens'}]", f"tokenizer.path={run / 'tokenizer/final'}")
    return [f"out={out}", *NO_DATA, *tokens, "model={}", stage, *settings]


def tune(run: Path, out: Path, *settings: str) -> Pipeline:
    return Pipeline(load_recipe(RECIPE, words(run, out, *settings)), quiet=True)


def refused(run: Path, out: Path, *settings: str) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        tune(run, out, *settings)
    assert "\n" not in str(error.value)
    assert not out.exists()
    return str(error.value)


def state(folder: Path) -> dict[str, torch.Tensor]:
    weights = Weights(folder)
    return {name: weights[name] for name in weights}


def other(folder: Path, vocab_size: int = 66, **shape: Any) -> Path:
    """A model of Hugging Face's that knows nothing of us but `codebook_size`, in several files."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    known = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    config = LlamaConfig(**{**known, "vocab_size": vocab_size, "max_position_embeddings": 64, **shape})
    config.codebook_size = 64
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


# --- init_from


@pytest.mark.parametrize("theirs", [False, True])
def test_a_stage_starts_from_the_weights_of_a_folder(run: Path, tmp_path: Path, theirs: bool) -> None:
    """The recipe names no shape: it is the folder's. At a rate of 0 the weights come out as they were."""
    folder = other(tmp_path / "other") if theirs else run / "model"
    tune(run, tmp_path / "out", f"stages[0].init_from={folder}").run("model")
    before, after = state(folder), state(tmp_path / "out/model")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = json.loads((tmp_path / "out/model/config.json").read_text())
    assert config["vocab_size"] == (66 if theirs else 128)
    history = json.loads((tmp_path / "out/model/lvmlite.json").read_text())["history"]
    assert history[0]["init_from"] == str(folder)
    assert all(step["skipped"] for step in tune(run, tmp_path / "out", f"stages[0].init_from={folder}").run("model"))


def test_a_later_stage_may_start_anew(run: Path, tmp_path: Path) -> None:
    second = f"stages[1]={{name: next, data: {{sentences: [{{sentence: single}}]}}, init_from: {run / 'model'}}}"
    shape = "model={dim: 32, hidden_dim: 64, n_heads: 2, n_layers: 2, max_seq_len: 128}"
    still = f"stages[1].train={{steps: 1, batch_size: 4, optim: {STILL}}}"
    tune(run, tmp_path / "out", shape, second, still).run("model")
    after = state(tmp_path / "out/model")
    assert all(torch.equal(tensor, after[name]) for name, tensor in state(run / "model").items())


def test_other_weights_in_the_folder_are_another_recipe(run: Path, tmp_path: Path) -> None:
    folder = other(tmp_path / "other")
    setting = f"stages[0].init_from={folder}"
    tune(run, tmp_path / "out", setting).run("model")
    shutil.move(folder, tmp_path / "moved")
    moved = tune(run, tmp_path / "out", f"stages[0].init_from={tmp_path / 'moved'}").run("model")
    assert all(step["skipped"] for step in moved)  # it is the weights that count
    file = min((tmp_path / "moved").glob("*.safetensors"))
    tensors = load_file(file)
    next(iter(tensors.values())).mul_(2)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"trained by another recipe \(stage tune\.init_from: "):
        tune(run, tmp_path / "out", f"stages[0].init_from={tmp_path / 'moved'}").run()


def test_what_does_not_fit_the_folder_is_one_line_before_any_work(run: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", other(tmp_path / "other")
    init = f"stages[0].init_from={folder}"
    assert "nowhere: no such folder" in refused(run, out, f"stages[0].init_from={tmp_path / 'nowhere'}")
    said = "other: dim is 48 in the folder, 64 in the recipe's model"
    assert said in refused(run, out, init, "model.dim=64")
    assert "dim is 48 in the folder, 128 in the recipe's model" in refused(run, out, init, "model.preset=pico")
    assert "4 pictures are 64 positions, model.max_seq_len is 32" in refused(
        run, out, "model={dim: 32, hidden_dim: 64, n_heads: 2, n_layers: 2, max_seq_len: 32}"
    )
    second = f"stages[1]={{name: next, data: {{sentences: [{{sentence: single}}]}}, init_from: {run / 'model'}}}"
    assert "model: dim is 32 in the folder, 48 in this recipe" in refused(run, out, init, second)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "codebook_size": 62}))
    assert "other: a model of 62 codes, the tokenizer of this recipe has 64" in refused(run, out, init)
    small = other(tmp_path / "small", vocab_size=65)
    eos = f"stages[0].init_from={small}"
    assert "vocabulary of 65 has no EOS; set data.eos=false" in refused(run, out, eos, "stages[0].data.eos=true")


def test_a_run_does_not_start_from_what_it_replaces(run: Path) -> None:
    with pytest.raises(ValueError, match=r"init_from is the model that this run would replace; choose another out"):
        tune(run, run, f"stages[0].init_from={run / 'model'}")


def test_the_estimate_takes_a_step_as_training_does(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learner's micro batches, and what its blocks keep."""
    seen = []
    loss = LanguageLearner.loss

    def watched(self: LanguageLearner, phase: str, piece: MicroBatch, step: int) -> Any:
        blocks: Any = self.model.model.layers
        seen.append((step, tuple(piece.data[0].shape), blocks[0].activations))
        return loss(self, phase, piece, step)

    monkeypatch.setattr(LanguageLearner, "loss", watched)
    how = ("stages[0].train.micro_batch_size=2", "stages[0].train.activations=selective")
    pipeline = tune(run, tmp_path / "out", f"stages[0].init_from={run / 'model'}", *how)
    lines = estimate_lines(estimate(pipeline.work, pipeline.todo()))
    assert set(seen) == {(2, (2, 64), "selective")}
    assert len(seen) == 4 * 2  # one to warm up, three timed
    assert "memory" in lines[-1]
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_tokenizer_is_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run / "model", folder)
    info = json.loads((folder / "lvmlite.json").read_text())
    (folder / "lvmlite.json").write_text(json.dumps({**info, "code_fingerprint": "0" * 16}))
    message = refused(run, tmp_path / "out", f"stages[0].init_from={folder}")
    ours = Store.open(run / "tokens").info.code_fingerprint
    assert f"trained on the codes of another tokenizer (0000000000000000, this recipe's is {ours})" in message


def test_a_batch_that_does_not_split_is_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    shape = "model={dim: 32, hidden_dim: 64, n_heads: 2, n_layers: 2, max_seq_len: 128}"
    assert "micro batches of 3" in refused(run, tmp_path / "out", shape, "stages[0].train.micro_batch_size=3")
    assert "parallel.tensor=2 does not divide the 1 ranks" in refused(
        run, tmp_path / "out", shape, "stages[0].train.parallel.tensor=2"
    )


def test_a_context_too_long_for_a_tokenizer_to_go_on_from(run: Path, tmp_path: Path) -> None:
    """Known before any picture is drawn, though the net is another than the recipe's default."""
    train = "train: {steps: 2, batch_size: 8, pictures: [{sentence: single}]}"
    settings = [f"tokenizer={{init: {run / 'tokenizer/final'}, {train}}}", "evaluate=[]", f"out={tmp_path / 'out'}"]
    with pytest.raises(ValueError, match=r"stage 'sequences': 4 pictures are 64 positions, model\.max_seq_len is 48"):
        Pipeline(load_recipe(RECIPE, [*settings, "model.max_seq_len=48"]), quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["stages[0].init_from=x"], "stage 'single': init_from names a model, which reads the codes of its own tok"),
        (["stages[0].lora={}"], "stage 'single': lora adapts trained weights: name a model folder in init_from"),
        (["stages[0].carry_optimizer=true"], "stage 'single': carry_optimizer goes on from a stage before"),
        (
            ["tokenizer.path=x", "stages[1].init_from=x", "stages[1].carry_optimizer=true"],
            "stage 'sequences': carry_optimizer goes on from a stage before",
        ),
        (["stages[1].lora={}", "stages[1].carry_optimizer=true"], "carry_optimizer needs the same parameters before"),
        (["stages[1].lora={rank: 0}"], "stages[1].lora.rank: expected >= 1"),
        (["stages[1].lora={targets: [lm_head]}"], "'lm_head' is not one of q_proj"),
    ],
)
def test_recipes_that_start_from_nowhere(settings: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        load_recipe(RECIPE, settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# --- shapes and positions


def folder_of(path: Path, **shape: Any) -> Weights:
    arch = ModelConfig(dim=32, hidden_dim=64, n_heads=2, n_layers=2, **shape).resolve(64)
    save_weights(path, arch, Transformer(arch).init_weights(0).state_dict())
    return Weights(path)


def test_positions_may_be_others_than_the_folders(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, max_seq_len=64, rope_theta=5e5)
    assert architecture(ModelConfig(max_seq_len=32), 64, folder) == folder.arch
    longer = architecture(ModelConfig(max_seq_len=256), 64, folder)
    assert (longer.max_seq_len, longer.rope_theta, longer.dim) == (256, 5e5, 32)
    assert architecture(ModelConfig(rope_theta=2e6), 64, folder).rope_theta == 2e6
    linear = ModelConfig(rope_theta=5e5, rope_scaling=RopeScaling("linear", 4))
    assert architecture(linear, 64, folder).rope_factor == 4
    with pytest.raises(
        ValueError, match=r"rope_theta is 500000, but model.rope_scaling would stretch 10000; set model"
    ):
        architecture(ModelConfig(rope_scaling=RopeScaling("ntk", 4)), 64, folder)


def test_a_stretched_model_is_not_stretched_again(tmp_path: Path) -> None:
    config = ModelConfig(max_seq_len=256, rope_scaling=RopeScaling("ntk", 4))
    stretched = architecture(config, 64, folder_of(tmp_path / "a", max_seq_len=64))
    assert stretched.rope_theta == pytest.approx(1e4 * 4 ** (16 / 14))  # of the folder's head dimension
    save_weights(tmp_path / "b", stretched, Transformer(stretched).init_weights(0).state_dict())
    assert architecture(config, 64, Weights(tmp_path / "b")) == stretched
    assert architecture(ModelConfig(), 64, Weights(tmp_path / "b")).rope_theta == stretched.rope_theta


# --- adapters and moments


def test_adapters_are_trained_and_merged(run: Path, tmp_path: Path) -> None:
    """Only what has adapters changes; the next stage goes on from the merged weights, and the model holds no other."""
    from transformers import LlamaForCausalLM

    out, base = tmp_path / "out", state(run / "model")
    settings = [f"stages[0].init_from={run / 'model'}", ADAPTERS, "stages[0].train.optim={lr: 0.02, warmup_steps: 0}"]
    pipeline = tune(run, out, *settings)
    lines = estimate_lines(estimate(pipeline.work, pipeline.todo()))
    assert "3 steps of 4 x 64" in "\n".join(lines)
    pipeline.run("model")
    after = state(out / "model")
    changed = {name for name in base if not torch.equal(base[name], after[name])}
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "down_proj"}
    assert len(changed) == 4
    assert base.keys() == after.keys()
    found, _ = checkpoint.latest(out / "stages/tune/checkpoints")
    assert found is not None
    layer = "module/model.model.layers.1.mlp.down_proj"
    product = found.tensors[f"{layer}.lora_b"] @ found.tensors[f"{layer}.lora_a"]
    expected = base["model.layers.1.mlp.down_proj.weight"] + 2 * product
    torch.testing.assert_close(after["model.layers.1.mlp.down_proj.weight"], expected)
    assert {name.rpartition("/")[0].rpartition(".")[2] for name in found.tensors.under("optimizer/language/")} == {
        "lora_a",
        "lora_b",
    }
    assert LlamaForCausalLM.from_pretrained(out / "model").num_parameters() == sum(t.numel() for t in base.values())
    second = (
        f"stages[1]={{name: next, data: {{sentences: [{{sentence: single}}]}}, train: {{steps: 1, optim: {STILL}}}}}"
    )
    more = [second, "stages[1].train.batch_size=4"]
    assert [s["skipped"] for s in tune(run, out, *settings, *more).run("model")] == [True, False, False]
    again = state(out / "model")
    assert all(torch.equal(after[name], again[name]) for name in after)


@pytest.mark.parametrize("carry", [True, False])
def test_moments_of_the_stage_before(run: Path, tmp_path: Path, carry: bool) -> None:
    shape = "model={dim: 32, hidden_dim: 64, n_heads: 2, n_layers: 2, max_seq_len: 128}"
    second = (
        f"stages[1]={{name: next, data: {{sentences: [{{sentence: single}}]}}, carry_optimizer: {str(carry).lower()}}}"
    )
    train = f"stages[1].train={{steps: 1, batch_size: 4, optim: {STILL}}}"
    tune(run, tmp_path / "out", shape, second, train).run("stage next")
    name = "optimizer/language/model.model.norm.weight"
    moments = []
    for stage in ("tune", "next"):
        found, _ = checkpoint.latest(tmp_path / "out/stages" / stage / "checkpoints")
        assert found is not None
        moments.append({key: found.tensors[f"{name}/{key}"] for key in ("step", "exp_avg_sq")})
    assert [float(m["step"]) for m in moments] == [3, 4 if carry else 1]
    share = float((moments[1]["exp_avg_sq"] / (0.95 * moments[0]["exp_avg_sq"])).min())
    assert (share >= 1 - 1e-6) == carry


# --- several ranks


def test_two_ranks_leave_the_model_of_one(run: Path, tmp_path: Path) -> None:
    """Sharded training with adapters, the model exported from the pieces of both; one rank goes on from them."""
    rate = "stages[0].train.optim={lr: 0.01, min_lr: 0.001, warmup_steps: 0}"
    settings = [f"stages[0].init_from={run / 'model'}", rate, "stages[0].train.parallel.shard=full", ADAPTERS]
    tune(run, tmp_path / "one", *settings).run("model")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lvmlite"]
    command = [*launch, "train", str(RECIPE), *words(run, tmp_path / "two", *settings), "--quiet"]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two/stages/tune/checkpoints/step-3/rank-1.safetensors").exists()
    one, two = state(tmp_path / "one/model"), state(tmp_path / "two/model")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-4)
    more = tune(run, tmp_path / "two", *settings, "stages[0].train.steps=5").run("model")
    assert [step["skipped"] for step in more] == [False, False]
    steps = [json.loads(line)["step"] for line in (tmp_path / "two/stages/tune/log.jsonl").read_text().splitlines()]
    assert steps[-2:] == [3, 5]
