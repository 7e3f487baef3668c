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
