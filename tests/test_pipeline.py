"""The whole of a run, tiny: what it leaves, that it skips what is done, and what it does when killed or changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import lvmlite
from lvmlite.data.store import Store, sha256
from lvmlite.estimate import estimate, estimate_lines
from lvmlite.images import encode_png
from lvmlite.pipeline import Pipeline
from lvmlite.schema import load_recipe

RECIPE = Path(__file__).parent / "tiny.yaml"


def tiny(out: Path, *settings: str) -> Pipeline:
    return Pipeline(load_recipe(RECIPE, [f"out={out}", *settings]), quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "tiny"
    tiny(out).run()
    return out


def weights(run: Path) -> dict[str, str]:
    """Checksums of everything a run has learned and built."""
    files = [run / "model/model.safetensors", run / "tokenizer/final/model.safetensors"]
    files += sorted((run / "tokens").glob("*/*.npy")) + sorted((run / "pixels").glob("*/*.npy"))
    return {str(file.relative_to(run)): sha256(file) for file in files}


def command(out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "lvmlite", "run", str(RECIPE), f"out={out}", "--quiet", *words]


def test_a_run_leaves_everything_that_design_names(run: Path) -> None:
    for name in (
        "recipe.yaml", "steps.json", "results.json", "report/index.html", "report/hero.png", "pixels/store.json",
        "tokens/store.json", "tokenizer/final/config.json", "stages/single/log.jsonl", "stages/sequences/log.jsonl",
        "model/config.json", "model/lvmlite.json", "model/codes.safetensors", "model/tokenizer/model.safetensors",
        "model/prompts/seg/0-image.png",
    ):  # fmt: skip
        assert (run / name).is_file(), name
    steps = [step["step"] for step in json.loads((run / "steps.json").read_text())]
    assert steps == [
        "pixels", "tokenizer", "tokens", "stage single", "stage sequences", "model", "evaluate", "report",
    ]  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    assert [r["protocol"] for r in results["results"]] == [
        "gallery", "ladder", "next_frame", "reconstruction", "segmentation", "cost",
    ]  # fmt: skip
    assert Store.open(run / "tokens").verify() == []


def test_tokens_are_those_of_the_pictures(run: Path) -> None:
    from lvmlite.tokenizers import load_tokenizer
    from lvmlite.tokenizers.base import encode_pictures

    tokens, pixels = Store.open(run / "tokens"), Store.open(run / "pixels")
    tokenizer = load_tokenizer(run / "tokenizer/final")
    for a, b in zip(tokens.shards, pixels.shards, strict=True):
        for kind in a.info.columns:
            assert np.array_equal(a.column(kind), encode_pictures(tokenizer, np.array(b.column(kind))))


def test_the_model_can_be_prompted_and_read_by_transformers(run: Path) -> None:
    from transformers import LlamaForCausalLM

    lvm = lvmlite.load(str(run / "model"), device="cpu")
    pixels = Store.open(run / "pixels").select("test", ["world"])[0]
    a, a_seg, b = pixels.column("image")[0], pixels.column("seg")[0], pixels.column("image")[1]
    out = lvm.complete([a, a_seg, b], seed=3)
    assert out[0].size == (32, 32)
    assert np.array_equal(out.tokens, lvm.complete([a, a_seg, b], seed=3).tokens)
    assert out.read("seg").shape == (32, 32)
    assert 1 < lvm.perplexity([a, a_seg, b], [pixels.column("seg")[1]]) < 1e4
    theirs = LlamaForCausalLM.from_pretrained(run / "model").eval()
    tokens = torch.randint(64, (2, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (theirs(tokens).logits - lvm.model(tokens)).abs().max()
    assert float(difference) < 1e-4


def test_finished_steps_are_skipped_and_only_changed_ones_done_again(run: Path) -> None:
    before = weights(run)
    assert all(step["skipped"] for step in tiny(run).run())
    assert all(step["skipped"] for step in tiny(run, "stages[0].train.log_every=1", "data.workers=2").run())
    changed = tiny(run, "evaluate=[{protocol: reconstruction, n_pictures: 3}]").run()
    assert [step["step"] for step in changed if not step["skipped"]] == ["evaluate", "report"]
    again = tiny(run).run()
    assert [step["step"] for step in again if not step["skipped"]] == ["evaluate", "report"]
    assert weights(run) == before


# --- a recipe that changes


def log(run: Path, stage: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "stages" / stage / "log.jsonl").read_text().splitlines()]


def begun(run: Path) -> dict[str, int]:
    """When each step was begun, to see which were begun again."""
    return {path.stem: path.stat().st_mtime_ns for path in (run / "steps").glob("*.json")}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("stages[1].train.optim.lr=0.002", r"sequences: .*\(stage sequences\.train\.optim\.lr: 0\.001 -> 0\.002\)"),
        ("stages[0].train.batch_size=16", r"single: .*\(stage single\.train\.batch_size: 8 -> 16\)"),
        ("stages[0].train.steps=7", r"sequences: .*\(stage single\.train\.steps: 6 -> 7\)"),
        ("tokenizer.train.steps=7", r"single: .*\(tokenizer\.train\.steps: 6 -> 7\)"),
        ("tokenizer.train.optim.lr=0.01", r"tokenizer: .*\(tokenizer\.train\.optim\.lr: 0\.001 -> 0\.01\)"),
        ("model.dim=64", r"single: .*\(stage single\.model\.dim: 32 -> 64\)"),
    ],
)
def test_trained_weights_of_another_recipe_are_not_replaced_unasked(run: Path, setting: str, said: str) -> None:
    """And it is said before any work: a stage that may go on does not, if the one after it may not be replaced."""
    before, marks, recipe = weights(run), begun(run), (run / "recipe.yaml").read_bytes()
    with pytest.raises(ValueError, match=rf"/{said}; choose another out folder, or add --overwrite$") as error:
        tiny(run, setting).run()
    assert "\n" not in str(error.value)
    assert (weights(run), begun(run), (run / "recipe.yaml").read_bytes()) == (before, marks, recipe)


def test_what_changes_nothing_that_is_learned_is_no_change(run: Path) -> None:
    before = weights(run)
    for where in ("tokenizer", "stages[0]", "stages[1]"):
        writing = ("log_every=1", "checkpoint_every=5", "keep_checkpoints=1", "validate_every=2")
        computing = [f"{where}.train.micro_batch_size=2", *(f"{where}.train.{setting}" for setting in writing)]
        if where != "tokenizer":
            computing += [f"{where}.train.activations=block", f"{where}.train.parallel.shard=full"]
            computing += [f"{where}.validation_batches=2"]
        else:
            computing += ["tokenizer.train.validation_pictures=4"]
        assert all(step["skipped"] for step in tiny(run, *computing).run("model"))
    assert weights(run) == before


def test_more_steps_go_on_from_the_last_checkpoint(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    before = log(out, "sequences")
    how = ("stages[1].train.micro_batch_size=2", "stages[1].train.activations=block", "stages[1].train.log_every=1")
    done = tiny(out, "stages[1].train.steps=8", *how, "evaluate=[]").run()
    assert {step["step"]: step["skipped"] for step in done} == {
        "pixels": True, "tokenizer": True, "tokens": True, "stage single": True, "stage sequences": False,
        "model": False, "report": False,
    }  # fmt: skip
    after = log(out, "sequences")
    assert after[: len(before)] == before
    assert [line["step"] for line in after[len(before) :]] == [7, 8]
    info = json.loads((out / "model/lvmlite.json").read_text())
    assert [stage["steps"] for stage in info["history"]] == [6, 8]
    assert weights(out)["model/model.safetensors"] != weights(run)["model/model.safetensors"]
    assert all(step["skipped"] for step in tiny(out, "stages[1].train.steps=8", "evaluate=[]").run())


def test_more_steps_of_an_early_stage_and_the_later_one_anew_if_asked(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    early, late = log(out, "single"), log(out, "sequences")
    config = load_recipe(RECIPE, [f"out={out}", "stages[0].train.steps=8", "evaluate=[]"])
    Pipeline(config, quiet=True, overwrite=True).run("model")
    assert log(out, "single")[: len(early)] == early
    assert [line["step"] for line in log(out, "single")] == [2, 4, 6, 8]
    assert [line["step"] for line in log(out, "sequences")] == [2, 4, 6]
    assert log(out, "sequences")[0]["loss"] != late[0]["loss"]


def test_fewer_steps_are_refused_and_done_again_if_asked(run: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "run", ["stages[1].train.steps=4", "evaluate=[]"]
    shutil.copytree(run, out)
    with pytest.raises(ValueError, match=r"sequences: was trained for 6 steps, the recipe asks for 4; choose"):
        tiny(out, *settings).run("model")
    assert all(step["skipped"] for step in tiny(out, "evaluate=[]").run("stage single"))
    before = weights(out)
    assert all(step["skipped"] for step in tiny(out, "evaluate=[]").run("model"))  # the refused start left no trace
    assert weights(out) == before
    Pipeline(load_recipe(RECIPE, [f"out={out}", *settings]), quiet=True, overwrite=True).run("model")
    assert [line["step"] for line in log(out, "sequences")] == [2, 4]


def test_one_process_at_a_time_trains_in_a_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    with tiny(out).alone(), pytest.raises(ValueError, match=rf"run: another process \(pid {os.getpid()} on .*\) is at"):
        tiny(out, "evaluate=[]").run("model")
    assert all(step["skipped"] for step in tiny(out, "evaluate=[]").run("model"))  # the folder is free again


def test_a_tokenizer_goes_on_and_its_tokens_are_made_again(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.rmtree(out / "stages")
    settings = ["tokenizer.train.steps=8", "tokenizer.train.micro_batch_size=4", "stages=[]", "evaluate=[]"]
    done = tiny(out, *settings).run("tokens")
    assert [step["skipped"] for step in done] == [True, False, False]
    lines = [json.loads(line)["step"] for line in (out / "tokenizer/log.jsonl").read_text().splitlines()]
    assert lines == [2, 4, 6, 8]
    name = "tokenizer/final/model.safetensors"
    assert sha256(out / name) != sha256(run / name)


def test_the_same_seed_gives_the_same_run_and_another_gives_another(run: Path, tmp_path: Path) -> None:
    tiny(tmp_path / "a", "evaluate=[]").run("model")
    assert weights(tmp_path / "a") == weights(run)
    tiny(tmp_path / "b", "seed=1", "evaluate=[]").run("tokenizer")
    files = "tokenizer/final/model.safetensors"
    assert sha256(tmp_path / "b" / files) != sha256(run / files)


def test_killed_at_any_moment_and_run_again_ends_with_the_same_bits(run: Path, tmp_path: Path) -> None:
    """Real processes, real SIGKILLs: while drawing, in both kinds of training, while encoding; then once to the end."""
    out = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    milestones = [
        "steps/pixels.json",
        "tokenizer/checkpoints/step-2",
        "steps/tokens.json",
        "stages/single/checkpoints/step-2",
        "stages/sequences/checkpoints/step-4",
    ]
    words = ["evaluate=[]"]
    killed = 0
    for milestone in milestones:
        process = subprocess.Popen(command(out, *words), env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while process.poll() is None and not (out / milestone).exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    done = subprocess.run(command(out, *words), env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert weights(out) == weights(run)


def test_the_estimate_names_every_costly_step(tmp_path: Path) -> None:
    pipeline = tiny(tmp_path / "new")
    lines = "\n".join(estimate_lines(estimate(pipeline.work, pipeline.todo())))
    for word in (
        "pixels",
        "tokenizer",
        "tokens",
        "6 steps of 8 x 16 = 768 tokens",
        "6 steps of 4 x 64",
        "in all",
        "memory",
    ):
        assert word in lines
    assert not (tmp_path / "new").exists()


def test_a_handful_of_own_photos_joins_without_held_out_ones(tmp_path: Path) -> None:
    """Four photos leave no validation split: what cannot be validated is left out, the rest is trained."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    pipeline = tiny(
        tmp_path / "run",
        f"data.sources[2]={{source: photos, path: {folder}, crops: 2, val: 0, test: 0}}",
        "stages[1].data.sentences[2]={sentence: pairs, pairs: 2, share: 0.5, sources: [photos]}",
        "evaluate=[]",
    )
    done = pipeline.run("model")
    assert "1 inputs rejected" in done[0]["detail"]
    last = json.loads((tmp_path / "run/stages/sequences/log.jsonl").read_text().splitlines()[-1])
    assert any(name.startswith("val/discriminative/world") for name in last)
    assert not any("photos" in name for name in last)
    store = Store.open(tmp_path / "run/tokens")
    assert sum(shard.info.n_frames for shard in store.select("train", ["photos"])) == 8


def test_a_tokenizer_that_is_there_is_used_and_told_apart(run: Path, tmp_path: Path) -> None:
    """Its own run's tokens come out again; another tokenizer under the same path makes the tokens stale."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(run / "tokenizer/final", folder)
    words = [f"tokenizer.path={folder}", "evaluate=[]"]
    tiny(tmp_path / "run", *words).run("tokens")
    for shard in Store.open(run / "tokens").shards:
        file = f"tokens/{shard.info.name}/image.npy"
        assert sha256(tmp_path / "run" / file) == sha256(run / file)
    tensors = load_file(folder / "model.safetensors")
    tensors["quantize.embedding.weight"] += 1
    save_file(tensors, folder / "model.safetensors")
    assert [step["step"] for step in tiny(tmp_path / "run", *words).run("tokens") if not step["skipped"]] == ["tokens"]
    with pytest.raises(ValueError, match="nowhere"):
        tiny(tmp_path / "run", "tokenizer.path=/nowhere")


# --- kinds that join, pixels that are not kept, stores from elsewhere


def columns(folder: Path) -> dict[str, tuple[int, int]]:
    """Every column of the stores of a run: inode and time of change."""
    found = ((p, p.stat()) for name in ("pixels", "tokens") for p in (folder / name).rglob("*.npy"))
    return {str(p.relative_to(folder)): (stat.st_ino, stat.st_mtime_ns) for p, stat in found}


def test_a_kind_that_joins_is_drawn_and_encoded_alone(run: Path, tmp_path: Path) -> None:
    """The tokenizer, whose pictures do not name it, stays; what was trained on the tokens is not replaced unasked."""
    out, words = tmp_path / "run", ["data.kinds.lines={task: edges}"]
    shutil.copytree(run, out)
    before = columns(out)
    done = {step["step"]: step["skipped"] for step in tiny(out, *words).run("tokens")}
    assert done == {"pixels": False, "tokenizer": True, "tokens": False}
    after = columns(out)
    assert {name.rpartition("/")[2] for name in after if after[name] != before.get(name)} == {"lines.npy"}
    assert before.keys() <= after.keys()
    with pytest.raises(ValueError, match=r"stages/single: trained by another recipe"):
        tiny(out, *words).run()
    tiny(tmp_path / "anew", *words).run("tokens")
    for name in after:
        assert sha256(out / name) == sha256(tmp_path / "anew" / name), name
    with pytest.raises(ValueError, match=r"tokenizer: trained by another recipe .*grey"):
        tiny(out, "data.kinds.grey.task=edges").run()


def test_a_run_that_keeps_no_pixels_has_the_same_tokens_and_trains_alike(run: Path, tmp_path: Path) -> None:
    words = [f"tokenizer.path={run / 'tokenizer/final'}", "data.pixels=false", "evaluate=[]"]
    pipeline = tiny(tmp_path / "run", *words)
    assert "tokens" in "\n".join(estimate_lines(estimate(pipeline.work, pipeline.todo())))
    assert [step["step"] for step in pipeline.run()] == [
        "tokens", "stage single", "stage sequences", "model", "report",
    ]  # fmt: skip
    assert not (tmp_path / "run/pixels").exists()
    theirs = {name: digest for name, digest in weights(run).items() if name.startswith(("tokens", "model"))}
    tokens = {str(f.relative_to(tmp_path / "run")): sha256(f) for f in (tmp_path / "run/tokens").glob("*/*.npy")}
    assert {name: sha256(tmp_path / "run" / name) for name in theirs} == theirs
    assert tokens.items() <= theirs.items()
    assert all(step["skipped"] for step in tiny(tmp_path / "run", *words).run())


def test_stores_from_elsewhere_are_read_with_the_own(run: Path, tmp_path: Path) -> None:
    path, store = f"tokenizer.path={run / 'tokenizer/final'}", f"data.stores=[{run / 'tokens'}]"
    clips = "{source: world, name: more, train: 4, val: 1, test: 1, frames: 4, size: 32, supersample: 1}"
    words = [path, store, f"data.sources=[{clips}]", "data.only={more: []}", "data.pixels=false", "evaluate=[]"]
    done = tiny(tmp_path / "both", *words).run("model")
    assert [step["step"] for step in done] == ["tokens", "stage single", "stage sequences", "model"]
    info = json.loads((tmp_path / "both/model/lvmlite.json").read_text())
    assert set(info["sources"]) == {"more", "world", "clips"}
    assert set(info["kinds"]) == {"seg", "depth", "grey"}
    # none of its own: no step draws, and without the tokenizer's folder no model folder is written
    bare = [store, "data.sources=[]", "data.only={}", "data.kinds={}", "evaluate=[]"]
    assert [s["step"] for s in tiny(tmp_path / "bare", *bare).run()] == ["stage single", "stage sequences"]
    assert [s.name for s in tiny(tmp_path / "bare", path, *bare).steps][2:] == ["model", "report"]
    lines = "\n".join(estimate_lines(estimate((new := tiny(tmp_path / "new", *bare)).work, new.todo())))
    assert "6 steps of 4 x 64" in lines


def test_stores_that_cannot_be_read_together_are_one_line_before_any_work(run: Path, tmp_path: Path) -> None:
    path = f"tokenizer.path={run / 'tokenizer/final'}"
    other = tmp_path / "other"
    shutil.copytree(run / "tokens", other)
    info = json.loads((other / "store.json").read_text())
    (other / "store.json").write_text(json.dumps(info | {"code_fingerprint": "another"}))
    for words, said in (
        ([path, f"data.stores=[{other}]"], "its tokens were written by another tokenizer"),
        ([path, f"data.stores=[{run / 'tokens'}, {other}]"], "its tokens were written by another tokenizer"),
        ([path, f"data.stores=[{run / 'pixels'}]"], "holds pixels, tokens are needed"),
        ([path, f"data.stores=[{tmp_path / 'none'}]"], "not a finished store"),
        ([path, f"data.stores=[{run / 'tokens'}]", "model.max_seq_len=63"], "64 positions, model.max_seq_len is 63"),
        ([f"data.stores=[{run / 'tokens'}]"], "name its folder in tokenizer.path"),
        (["data.pixels=false", "evaluate=[]"], "data.pixels is false, but a tokenizer is trained"),
        ([path, "data.pixels=false"], "evaluate reads pixels, but data.pixels is false"),
        (["data.sources=[]", "data.only={}"], "sources is empty"),
        (["data.sources=[]", "data.only={}", f"data.stores=[{run / 'tokens'}]"], "evaluate reads pixels, but data.so"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            tiny(tmp_path / "run", *words)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_paths_may_stand_below_a_root(tmp_path: Path) -> None:
    source = "{source: photos, path: '${data.root}/photos'}"
    config = load_recipe(RECIPE, [f"data.sources[2]={source}", f"data.root={tmp_path}"])
    assert config.data.sources[2].path == f"{tmp_path}/photos"


def test_files_added_to_a_source_are_found_by_building_again(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)

    def save(n: int) -> None:
        (tmp_path / "photos" / f"{n:02d}.png").write_bytes(
            encode_png(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        )

    for n in range(20):
        save(n)
    photos = f"data.sources=[{{source: photos, path: {tmp_path / 'photos'}, part_size: 10}}]"
    mix = [f"stages[{i}].data.sentences=[{{sentence: single}}]" for i in (0, 1)]
    words = [photos, "data.kinds={}", "data.only={}", "tokenizer.train.pictures=[{sentence: single}]", "evaluate=[]"]

    def build(**how: bool) -> list[bool]:
        return [step["skipped"] for step in tiny(tmp_path / "run", *words, *mix).run("tokens", **how)]

    assert build() == [False, False, False]
    first = {path: sha256(path) for path in (tmp_path / "run/tokens").glob("*.00000.*/*.npy")}
    save(20)
    assert build() == [True, True, True]
    assert build(refresh=True) == [False, True, False]
    store = Store.open(tmp_path / "run/tokens")
    assert sum(shard.info.n_samples for shard in store.shards) == 21
    assert first == {path: sha256(path) for path in first}


def test_nothing_to_build_is_said(run: Path, tmp_path: Path) -> None:
    words = ["data.sources=[]", "data.only={}", "data.kinds={}", "evaluate=[]"]
    pipeline = tiny(tmp_path / "run", *words, f"data.stores=[{run / 'tokens'}]")
    with pytest.raises(ValueError, match=r"tiny: no tokens to make: data\.sources is empty"):
        pipeline.run("tokens")
    with pytest.raises(ValueError, match=r"tiny: no tokenizer to make: tokenizer\.path names one that is there"):
        pipeline.run("tokenizer")
    assert not (tmp_path / "run").exists()
