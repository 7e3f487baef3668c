"""A recipe whose parts do not fit each other is refused when it is read, in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from lvmlite.schema import load_recipe

TINY = Path(__file__).parent / "tiny.yaml"
VIDEOS = "data.sources=[{source: videos, name: v, path: x, frame_step: 10}]"


def refused(*overrides: str) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        load_recipe(TINY, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_recipes_that_come_with_it_load() -> None:
    recipes = Path(__file__).parents[1] / "recipes"
    found = sorted(str(path.relative_to(recipes).with_suffix("")) for path in recipes.rglob("*.yaml"))
    assert {"quickstart", "data/mixed"} <= set(found)
    for name in found:
        assert load_recipe(name).name == Path(name).name


def test_the_recipes_of_the_paper_are_its_tables() -> None:
    """Tables 7 and 8: steps x batch x context, rates, warm-up; the baseline and the ablation at their budgets."""
    epoch = 1_281_167
    for preset in ("300m", "600m", "1b", "3b"):
        config = load_recipe(f"paper/{preset}")
        single, sequences = config.stages
        assert config.model.preset == preset
        assert config.model.resolve(8192).max_seq_len == 4096
        assert (single.data.pictures, single.train.batch_size, single.train.steps) == (1, 8192, 125_112)
        assert (sequences.data.pictures, sequences.train.batch_size, sequences.train.steps) == (16, 512, 3 * 15_639)
        for stage, lr, warmup in ((single, 1.5e-4, 2000), (sequences, 1.5e-5, 0)):
            optim = stage.train.optim
            assert (optim.lr, optim.min_lr, optim.warmup_steps) == (lr, pytest.approx(lr / 10), warmup)
            assert (optim.betas, optim.weight_decay) == ((0.9, 0.95), 0.1)
            assert stage.train.batch_size % (8 * (stage.train.micro_batch_size or 1)) == 0  # eight GPUs
    random, ablation = load_recipe("paper/300m-random"), load_recipe("paper/300m-ablation")
    single = load_recipe("paper/300m").stages[0]
    first = random.stages[0]
    assert first.train.batch_size * first.data.pictures == single.train.batch_size * single.data.pictures
    assert (first.train.steps, first.train.optim) == (single.train.steps, single.train.optim)
    assert random.stages[1] == load_recipe("paper/300m").stages[1]
    seen = [stage.train.steps * stage.train.batch_size * stage.data.pictures / epoch for stage in ablation.stages]
    assert seen == [pytest.approx(200, rel=1e-3), pytest.approx(100, rel=1e-3)]
    (long,) = load_recipe("paper/300m-16k").stages
    assert (long.data.pictures, long.train.steps, long.train.activations) == (64, 1500, "bpt")
    assert load_recipe("paper/300m-16k").model.max_seq_len == 64 * 256


def test_the_small_arms_see_the_same_pictures() -> None:
    single, random, ablation = (load_recipe(f"small/{name}").stages for name in ("two-stage", "random", "ablation"))
    for ours, theirs in zip(single, random, strict=True):
        each = [s.train.steps * s.train.batch_size * s.data.pictures for s in (ours, theirs)]
        assert each[0] == each[1]
    tokens = [s.train.steps * s.train.batch_size * s.data.pictures for s in ablation]
    assert tokens[0] == 2 * tokens[1]  # as 200 + 100


def test_a_kind_that_no_source_has() -> None:
    message = refused("stages[1].data.sentences=[{sentence: pairs, kinds: [pose]}]")
    assert "stage 'sequences': sentence 'pairs' names a kind 'pose' that data.kinds does not have" in message
    assert "there are image, seg, depth, grey" in message
    assert "tokenizer.train.pictures: " in refused("tokenizer.train.pictures=[{sentence: single, kinds: [edges]}]")


def test_a_source_that_is_not_there() -> None:
    message = refused("stages[0].data.sentences=[{sentence: single, sources: [photo]}]")
    assert "names a source 'photo' that data.sources does not have; there are world, clips" in message


@pytest.mark.parametrize("sentence", ["video", "long", "annotated_video"])
def test_strides_are_multiples_of_the_frames_kept(sentence: str) -> None:
    only, pictures = "data.only={}", "tokenizer.train.pictures=[{sentence: single}]"
    mix = f"[{{sentence: {sentence}, strides: [10, 15]}}]"
    stage = f"stages=[{{name: s, data: {{pictures: 64, sentences: {mix}}}}}]"
    message = refused(VIDEOS, only, pictures, stage, "model.max_seq_len=4096")
    assert f"sentence '{sentence}': stride 15 is no multiple of 10, the frame_step of source 'v'" in message
    load_recipe(TINY, [VIDEOS, only, pictures, stage.replace("15", "20"), "model.max_seq_len=4096"])


def test_shares_that_sum_to_nothing() -> None:
    assert "the shares of the sentences sum to nothing" in refused(
        "stages[0].data.sentences=[{sentence: single, share: 0.0}]"
    )


def test_stores_have_names_of_their_own() -> None:
    mix = "stages[0].data.sentences=[{sentence: whole, sources: [imported]}]"
    words = ["data.sources=[]", "data.only={}", "data.stores=[x]", "tokenizer.path=x", "evaluate=[]", mix]
    assert load_recipe(TINY, words).stages[0].data.sentences[0].sources == ["imported"]
