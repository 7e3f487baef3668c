"""Recipes: what is read, what is refused, and the exact line a newcomer reads when it is."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.recipe import Range, RecipeError, build, config_hash, difference, load, one_of, save, to_dict


@dataclass
class Single:
    type: Literal["single"] = "single"
    share: Annotated[float, Range(0)] = 1.0


@dataclass
class Video:
    type: Literal["video"] = "video"
    stride: Annotated[int, Range(1)] = 1
    sizes: list[int] = field(default_factory=lambda: [1, 2])


SENTENCES = {"single": Single, "video": Video}


@dataclass
class Geometry:
    size: Annotated[int, Range(8)] = 64
    fit: Literal["squash", "crop", "pad"] = "squash"


@dataclass
class Stage:
    steps: Annotated[int, Range(1)]
    lr: Annotated[float, Range(0, 1)] = 1e-3
    warmup_steps: int = 0
    sentences: list[Any] = field(default_factory=list, metadata=one_of("type", lambda: SENTENCES))

    def __post_init__(self) -> None:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds\n steps {self.steps}")


@dataclass
class Recipe:
    known: ClassVar[int] = 3

    name: str = "run"
    seed: int = 0
    geometry: Geometry = field(default_factory=Geometry)
    stages: list[Stage] = field(default_factory=lambda: [Stage(10), Stage(20, lr=0.5)])
    kinds: dict[str, Any] = field(
        default_factory=lambda: {"plain": Single(), "moving": Video(stride=2)},
        metadata=one_of("type", lambda: SENTENCES),
    )
    main: Any = field(default_factory=Single, metadata=one_of("type", lambda: SENTENCES))
    limit: int | None = None
    device: int | Literal["auto"] = "auto"
    threads: Annotated[int, Range(1)] | Literal["all"] | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    channels: tuple[int, ...] = (1, 2, 4)
    compile: bool = False
    bos: Literal["on", "off"] = "on"
    extra: Any = None
    weights: dict[str, float] = field(default_factory=dict)
    backup: Geometry | None = None
    derived: int = field(default=7, init=False)


def message(path: Path, text: str, *overrides: str) -> str:
    """The one line that loading `text` fails with, the file's folder left out."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load(path, Recipe, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{path.parent}{os.sep}", "")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.yaml"


def read(path: Path, text: str, *overrides: str) -> Recipe:
    path.write_text(text, encoding="utf-8")
    return load(path, Recipe, overrides)


class TestValues:
    def test_an_empty_file_is_all_defaults(self, file: Path) -> None:
        assert read(file, "") == Recipe()
        assert read(file, "# nothing yet\n") == Recipe()

    def test_every_type(self, file: Path) -> None:
        recipe = read(
            file,
            """
            name: "3"
            seed: 1e3
            geometry: {size: 128, fit: crop}
            stages:
              - {steps: 5, lr: 1e-4, sentences: [{type: video, stride: 4}, {type: single, share: 2}]}
            kinds: {a: {type: single}}
            main: {type: video}
            limit: null
            device: 0
            threads: all
            betas: [0, 1]
            channels: [8]
            compile: yes
            bos: "off"
            extra: {free: [1, two]}
            weights: {a: 1, b.c: 2.5}
            backup: {size: 8}
            """,
        )
        assert recipe.name == "3"
        assert recipe.seed == 1000
        assert type(recipe.seed) is int
        assert recipe.geometry == Geometry(128, "crop")
        assert recipe.stages == [Stage(5, 1e-4, 0, [Video(stride=4), Single(share=2.0)])]
        assert type(recipe.stages[0].sentences[1].share) is float
        assert recipe.kinds == {"a": Single()}
        assert recipe.main == Video()
        assert (recipe.limit, recipe.device, recipe.threads) == (None, 0, "all")
        assert recipe.betas == (0.0, 1.0)
        assert recipe.channels == (8,)
        assert recipe.compile is True
        assert recipe.bos == "off"
        assert recipe.extra == {"free": [1, "two"]}
        assert recipe.weights == {"a": 1.0, "b.c": 2.5}
        assert recipe.backup == Geometry(8)

    def test_references_follow_overrides(self, file: Path) -> None:
        recipe = read(file, "seed: 1\nlimit: ${seed}\nname: run-${seed}\n", "seed=5")
        assert (recipe.limit, recipe.name) == (5, "run-5")

    def test_build_takes_plain_values_and_prefixes_the_path(self) -> None:
        assert build(Geometry, {"size": 32}) == Geometry(32)
        with pytest.raises(RecipeError, match=r"^store\.json: geometry\.size: expected >= 8, got 4$"):
            build(Geometry, {"size": 4}, where="geometry", file="store.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stages: [{steps: 1, setps: 2}]", "x.yaml: stages[0].setps: unknown key; did you mean 'steps'?"),
        ("zzz: 1", "x.yaml: zzz: unknown key; allowed: name, seed, geometry, stages, kinds, main, limit, "
         "device, threads, betas, channels, compile, bos, extra, weights, backup"),
        ("geometry: {fit: cropp}",
         "x.yaml: geometry.fit: 'cropp' is not one of squash, crop, pad; did you mean 'crop'?"),
        ("geometry: {fit: stretch}", "x.yaml: geometry.fit: 'stretch' is not one of squash, crop, pad"),
        ("geometry: {size: -5}", "x.yaml: geometry.size: expected >= 8, got -5"),
        ("geometry: 64", "x.yaml: geometry: expected a mapping, got 64"),
        ("geometry:", "x.yaml: geometry: expected a mapping, got null"),
        ("geometry: {1: 2}", "x.yaml: geometry[1]: unknown key; allowed: size, fit"),
        ("stages: [{lr: 1}]", "x.yaml: stages[0].steps: missing; it must be given"),
        ("stages: [{steps: 1, lr: fast}]", "x.yaml: stages[0].lr: expected a number, got 'fast'"),
        ("stages: [{steps: 1, lr: 1.5}]", "x.yaml: stages[0].lr: expected between 0 and 1, got 1.5"),
        ("stages: [{steps: 1, lr: .nan}]", "x.yaml: stages[0].lr: expected a number, got NaN"),
        ("stages: [{steps: 1, lr: .inf}]", "x.yaml: stages[0].lr: expected a number, got Infinity"),
        (f"stages: [{{steps: 1, lr: 1{'0' * 400}}}]",
         f"x.yaml: stages[0].lr: expected a number, got 1{'0' * 76}..."),
        ("stages: [{steps: 1, lr: true}]", "x.yaml: stages[0].lr: expected a number, got true"),
        ("stages: [{steps: 1.5}]", "x.yaml: stages[0].steps: expected a whole number, got 1.5"),
        ("stages: [{steps: yes}]", "x.yaml: stages[0].steps: expected a whole number, got true"),
        ("stages: [{steps: '5'}]", "x.yaml: stages[0].steps: expected a whole number, got '5'"),
        ("stages: [{steps: 1, warmup_steps: 2}]", "x.yaml: stages[0]: warmup_steps 2 exceeds steps 1"),
        ("stages: {steps: 1}", "x.yaml: stages: expected a list, got a mapping"),
        ("stages: [5]", "x.yaml: stages[0]: expected a mapping, got 5"),
        ("name: 3", "x.yaml: name: expected text, got 3; put it in quotes"),
        ("name: [a]", "x.yaml: name: expected text, got a list"),
        ("name: ???", "x.yaml: name: has no value yet; give one, as in name=..."),
        ("compile: 1", "x.yaml: compile: expected true or false, got 1"),
        ("bos: off", "x.yaml: bos: false is not one of on, off; put words such as 'on' and 'off' in quotes"),
        ("limit: many", "x.yaml: limit: expected a whole number, got 'many'"),
        ("device: gpu", "x.yaml: device: expected a whole number or 'auto', got 'gpu'"),
        ("threads: 0", "x.yaml: threads: expected a whole number >= 1 or 'all' or null, got 0"),
        ("betas: [1]", "x.yaml: betas: expected a list of 2, got 1 entries"),
        ("betas: [1, x]", "x.yaml: betas[1]: expected a number, got 'x'"),
        ("channels: 4", "x.yaml: channels: expected a list, got 4"),
        ("channels: [1, 2.5]", "x.yaml: channels[1]: expected a whole number, got 2.5"),
        ("weights: {a: b}", "x.yaml: weights.a: expected a number, got 'b'"),
        ("weights: {a.b: c}", "x.yaml: weights[a.b]: expected a number, got 'c'"),
        ("weights: {1: 2}", "x.yaml: weights: the key 1 is not text; put it in quotes"),
        ("weights: [1]", "x.yaml: weights: expected a mapping, got a list"),
        ("backup: {sise: 9}", "x.yaml: backup.sise: unknown key; did you mean 'size'?"),
        ("main: {type: vidoe}",
         "x.yaml: main.type: 'vidoe' is not one of single, video; did you mean 'video'?"),
        ("main: {stride: 2}", "x.yaml: main.type: missing; one of single, video"),
        ("main: video", "x.yaml: main: expected a mapping such as {type: video}, got 'video'"),
        ("main: [video]", "x.yaml: main: expected a mapping such as {type: single}, got a list"),
        ("main: {type: [video]}", "x.yaml: main.type: a list is not one of single, video"),
        ("main: {type: single, stride: 2}", "x.yaml: main.stride: unknown key; allowed: type, share"),
        ("kinds: {a: {type: video, stride: 0}}", "x.yaml: kinds.a.stride: expected >= 1, got 0"),
        ("stages: [{steps: 1, sentences: [{type: x}]}]",
         "x.yaml: stages[0].sentences[0].type: 'x' is not one of single, video"),
        ("derived: 3", "x.yaml: derived: unknown key; did you mean 'device'?"),
    ],
)  # fmt: skip
def test_wrong_value(file: Path, text: str, expected: str) -> None:
    assert message(file, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2]", "x.yaml: expected a mapping of keys to values, as in 'seed: 0'"),
        ("hello", "x.yaml: expected a mapping of keys to values, as in 'seed: 0'"),
        ("seed: 1\nname: [a\nlimit: 3", "x.yaml: line 3: expected ',' or ']', but got ':'"),
        ("seed: 1\nseed: 2", "x.yaml: line 2: found duplicate key seed"),
        ("geometry:\n\tsize: 8", "x.yaml: line 2: found character '\\t' that cannot start any token"),
        ("name: !!python/object:os.system x", "x.yaml: line 1: could not determine a constructor for the tag "
         "'tag:yaml.org,2002:python/object:os.system'"),
        ("limit: ${sede}", "x.yaml: limit: refers to ${sede}, which the file does not give"),
        ("stages: [{steps: '${a.b}'}]",
         "x.yaml: stages[0].steps: refers to ${a.b}, which the file does not give"),
        ("limit: ${seed", "x.yaml: limit: cannot read the reference; write it as in ${seed}"),
        ("seed: ${limit}\nlimit: ${seed}", "x.yaml: seed: Recursive interpolation detected"),
        ("limit: ${magic:3}", "x.yaml: limit: Unsupported interpolation type magic"),
        ("extra: " + "[" * 5000, "x.yaml: is nested too deeply"),
    ],
)  # fmt: skip
def test_broken_file(file: Path, text: str, expected: str) -> None:
    assert message(file, text) == expected


def test_unreadable_file(tmp_path: Path) -> None:
    def line(path: Path) -> str:
        with pytest.raises(RecipeError) as caught:
            load(path, Recipe)
        return str(caught.value).replace(f"{tmp_path}{os.sep}", "")

    assert line(tmp_path / "none.yaml") == "none.yaml: cannot be read: No such file or directory"
    (tmp_path / "folder").mkdir()
    assert line(tmp_path / "folder") == "folder: cannot be read: Is a directory"
    (tmp_path / "photo.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    assert line(tmp_path / "photo.yaml") == "photo.yaml: is not text in UTF-8, so no recipe"


class TestOverrides:
    def test_scalars_lists_and_new_sections(self, file: Path) -> None:
        recipe = read(
            file,
            "stages: [{steps: 5}, {steps: 6}]",
            "seed=3", "stages[1].lr=3e-4", "stages.0.steps=7", "geometry.size=32", "channels=[3, 4]",
            "backup.fit=pad", "weights[a.b]=2", "name=a=b", "limit=",
        )  # fmt: skip
        assert recipe.seed == 3
        assert recipe.stages == [Stage(7), Stage(6, lr=3e-4)]
        assert recipe.geometry == Geometry(32)
        assert recipe.channels == (3, 4)
        assert recipe.backup == Geometry(fit="pad")
        assert recipe.weights == {"a.b": 2.0}
        assert recipe.name == "a=b"
        assert recipe.limit is None

    def test_a_later_override_wins(self, file: Path) -> None:
        assert read(file, "", "seed=1", "seed=2").seed == 2

    def test_an_empty_value_is_null(self, file: Path) -> None:
        assert read(file, "limit: 3", "limit=").limit is None

    def test_what_the_file_leaves_out_starts_from_its_default(self, file: Path) -> None:
        recipe = read(file, "", "stages[1].lr=0.25", "kinds.moving.stride=9", "kinds.moving.sizes[0]=5", "main.share=2")
        assert recipe.stages == [Stage(10), Stage(20, lr=0.25)]
        assert recipe.kinds == {"plain": Single(), "moving": Video(stride=9, sizes=[5, 2])}
        assert recipe.main == Single(share=2)

    def test_the_defaults_of_an_entry_named_in_the_file(self, file: Path) -> None:
        recipe = read(file, "kinds: {a: {type: video}}\nstages:\n", "kinds.a.sizes[1]=7", "stages[0].steps=3")
        assert recipe.kinds == {"a": Video(sizes=[1, 7])}
        assert recipe.stages == [Stage(3), Stage(20, lr=0.5)]

    def test_the_next_index_adds_an_entry(self, file: Path) -> None:
        assert read(file, "stages: [{steps: 5}]", "stages[1].steps=6").stages == [Stage(5), Stage(6)]
        recipe = read(file, "stages: [{steps: 5}]", "stages[0].sentences[0].type=video")
        assert recipe.stages[0].sentences == [Video()]

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("seed", "override 'seed': expected key=value, as in stages[0].lr=3e-4"),
            ("a..b=3", "override 'a..b=3': cannot read the key 'a..b'; write it as in stages[0].lr=3e-4"),
            ("=3", "override '=3': cannot read the key ''; write it as in stages[0].lr=3e-4"),
            ("stages[0=3",
             "override 'stages[0=3': cannot read the key 'stages[0'; write it as in stages[0].lr=3e-4"),
            ("sede=3", "override 'sede=3': sede: unknown key; did you mean 'seed'?"),
            ("stagess[0].lr=3", "override 'stagess[0].lr=3': stagess: unknown key; did you mean 'stages'?"),
            ("stages[0].setps=3",
             "override 'stages[0].setps=3': stages[0].setps: unknown key; did you mean 'steps'?"),
            ("seed=fast", "override 'seed=fast': seed: expected a whole number, got 'fast'"),
            ("stages[0].steps=-5", "override 'stages[0].steps=-5': stages[0].steps: expected >= 1, got -5"),
            ("stages[7].lr=1", "override 'stages[7].lr=1': stages: has 2 entries, counted from 0, so no [7]"),
            ("stages.lr=1", "override 'stages.lr=1': stages: has 2 entries, counted from 0, so no [lr]"),
            ("stages[-1].lr=1",
             "override 'stages[-1].lr=1': stages: has 2 entries, counted from 0, so no [-1]"),
            ("stages[2].lr=1", "x.yaml: stages[2].steps: missing; it must be given"),
            ("seed.x=1", "override 'seed.x=1': seed: is 0, so it has no 'x'"),
            ("seed=[1", "override 'seed=[1': seed: line 2: did not find expected ',' or ']'"),
            ("limit=${sede}",
             "override 'limit=${sede}': limit: refers to ${sede}, which the file does not give"),
            ("limit=${", "override 'limit=${': limit: cannot read the reference; write it as in ${seed}"),
            ("main.type=vidoe",
             "override 'main.type=vidoe': main.type: 'vidoe' is not one of single, video; "
             "did you mean 'video'?"),
            ("stages[0].warmup_steps=50", "override 'stages[0].warmup_steps=50': stages[0]: "
             "warmup_steps 50 exceeds steps 10"),
        ],
    )  # fmt: skip
    def test_wrong_override(self, file: Path, override: str, expected: str) -> None:
        assert message(file, "", override) == expected

    def test_the_file_is_blamed_for_its_own_mistakes(self, file: Path) -> None:
        assert message(file, "limit: x", "seed=1") == "x.yaml: limit: expected a whole number, got 'x'"
        assert message(file, "stages: [{steps: x}]", "stages[0].lr=0.5") == (
            "x.yaml: stages[0].steps: expected a whole number, got 'x'"
        )


class TestExtends:
    """`extends: other.yaml`: every other key is a dotted path into that file."""

    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        (tmp_path / "small").mkdir()
        text = "seed: 3\nname: run-${seed}\nstages: [{steps: 5, lr: 0.1}, {steps: 6}]\ngeometry: {size: 32, fit: pad}\n"
        (tmp_path / "base.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "small" / "x.yaml"

    def test_dotted_keys_replace_values_of_the_other_file(self, base: Path) -> None:
        recipe = read(
            base,
            """
            extends: ../base.yaml
            seed: 4
            stages[1].lr: 2e-3
            stages[0].sentences: [{type: video, stride: 4}]
            stages[2]: {steps: 9}
            geometry: {size: 16}
            kinds.moving.sizes[0]: 5
            backup.fit: crop
            weights: {a.b: 2}
            limit:
            """,
        )
        assert recipe.stages == [Stage(5, 0.1, sentences=[Video(stride=4)]), Stage(6, 2e-3), Stage(9)]
        assert recipe.geometry == Geometry(16)  # a mapping replaces the whole
        assert recipe.kinds["moving"] == Video(stride=2, sizes=[5, 2])  # of a default, the rest stays
        assert recipe.backup == Geometry(fit="crop")
        assert recipe.weights == {"a.b": 2.0}
        assert recipe.limit is None
        assert recipe.name == "run-4"  # references are resolved last

    def test_a_chain_and_then_the_command_line(self, base: Path) -> None:
        read(base, "extends: ../base.yaml\nstages: [{steps: 7}]\ngeometry.size: 8\n")
        last = base.with_name("y.yaml")
        recipe = read(last, "extends: x.yaml\nstages[0].lr: 0.5\nlimit: ${stages[0].steps}\n", "stages[0].steps=8")
        assert recipe == Recipe(name="run-3", seed=3, stages=[Stage(8, 0.5)], geometry=Geometry(8, "pad"), limit=8)

    def test_what_is_saved_stands_alone(self, base: Path) -> None:
        recipe = read(base, "extends: ../base.yaml\nseed: 9\n")
        save(recipe, base.with_name("saved.yaml"))
        assert "extends" not in base.with_name("saved.yaml").read_text(encoding="utf-8")
        assert load(base.with_name("saved.yaml"), Recipe) == recipe

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("sede: 3", "x.yaml: sede: unknown key; did you mean 'seed'?"),
            ("stages[0].setps: 3", "x.yaml: stages[0].setps: unknown key; did you mean 'steps'?"),
            ("stages[0].steps: fast", "x.yaml: stages[0].steps: expected a whole number, got 'fast'"),
            ("stages[0].steps: '7'", "x.yaml: stages[0].steps: expected a whole number, got '7'"),
            ("stages: [{lr: 0.1}]", "x.yaml: stages[0].steps: missing; it must be given"),
            ("geometry: {sise: 8}", "x.yaml: geometry.sise: unknown key; did you mean 'size'?"),
            ("stages[7].lr: 1", "x.yaml: stages: has 2 entries, counted from 0, so no [7]"),
            ("seed.x: 1", "x.yaml: seed: is 3, so it has no 'x'"),
            ("a..b: 1", "x.yaml: cannot read the key 'a..b'; write it as in stages[0].lr=3e-4"),
            ("limit: ${sede}", "x.yaml: limit: refers to ${sede}, which the file does not give"),
            ("stages[1].warmup_steps: 7", "x.yaml: stages[1]: warmup_steps 7 exceeds steps 6"),
        ],
    )
    def test_the_file_and_the_key_are_named(self, base: Path, text: str, expected: str) -> None:
        assert message(base, f"extends: ../base.yaml\n{text}\n") == expected

    def test_mistakes_of_the_file_below_and_of_the_command_line(self, base: Path) -> None:
        (base.parent / "low.yaml").write_text("seed: x\n", encoding="utf-8")
        assert message(base, "extends: low.yaml\nlimit: 3\n") == "low.yaml: seed: expected a whole number, got 'x'"
        line = message(base, "extends: ../base.yaml\nstages[0].steps: 9\n", "stages[0].steps=0")
        assert line == "override 'stages[0].steps=0': stages[0].steps: expected >= 1, got 0"
        (base.parent / "low.yaml").write_text("seed: [\n", encoding="utf-8")
        assert message(base, "extends: low.yaml\n").startswith("low.yaml: line 2: ")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("extends: none.yaml", "x.yaml: extends: there is no file none.yaml"),
            ("extends: .", "x.yaml: extends: there is no file DIR"),
            ("extends:", "x.yaml: extends: expected a path, as in ../quickstart.yaml"),
            ("extends: [a.yaml]", "x.yaml: extends: expected a path, as in ../quickstart.yaml"),
            ("extends: x.yaml", "x.yaml: extends: the files extend each other: x.yaml -> x.yaml"),
            ("extends: y.yaml", "y.yaml: extends: the files extend each other: x.yaml -> y.yaml -> x.yaml"),
        ],
    )
    def test_a_file_that_cannot_be_extended(self, base: Path, text: str, expected: str) -> None:
        base.with_name("y.yaml").write_text("extends: x.yaml\nseed: 1\n", encoding="utf-8")
        assert message(base, text).replace(str(base.parent), "DIR") == expected


# --- round trips

words = st.text(max_size=12).filter(lambda text: text != "???") | st.sampled_from(
    [
        "",
        "null",
        "yes",
        "1e-4",
        "1_000",
        "0x1f",
        "${seed}",
        r"\${seed}",
        r"a\\${b}c\\",
        "a: b",
        "- x",
        "'",
        "#",
        "~",
    ]
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
sentences = st.builds(Single, share=st.floats(0, 1e9)) | st.builds(
    Video, stride=st.integers(1), sizes=st.lists(st.integers())
)
geometries = st.builds(Geometry, size=st.integers(8), fit=st.sampled_from(["squash", "crop", "pad"]))
recipes = st.builds(
    Recipe,
    name=words,
    seed=st.integers(),
    geometry=geometries,
    stages=st.lists(
        st.builds(
            Stage,
            steps=st.integers(1),
            lr=st.floats(0, 1),
            warmup_steps=st.integers(max_value=1),
            sentences=st.lists(sentences, max_size=3),
        ),
        max_size=3,
    ),
    kinds=st.dictionaries(words, sentences, max_size=3),
    main=sentences,
    limit=st.none() | st.integers(),
    device=st.integers() | st.just("auto"),
    threads=st.none() | st.integers(1) | st.just("all"),
    betas=st.tuples(numbers, numbers),
    channels=st.lists(st.integers()).map(tuple),
    compile=st.booleans(),
    bos=st.sampled_from(["on", "off"]),
    extra=st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | words,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
        max_leaves=4,
    ),
    weights=st.dictionaries(words, numbers, max_size=3),
    backup=st.none() | geometries,
)


@given(recipe=recipes)
@settings(max_examples=100, deadline=None)
def test_round_trips(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("round") / "recipe.yaml"
    plain = to_dict(recipe)
    assert json.loads(json.dumps(plain)) == plain
    assert build(Recipe, plain) == recipe
    save(recipe, file)
    again = load(file, Recipe)
    assert again == recipe
    assert config_hash(again) == config_hash(recipe)
    assert difference(recipe, again) == []
    assert [entry.name for entry in file.parent.iterdir()] == ["recipe.yaml"]


@given(a=recipes, b=recipes)
@settings(max_examples=50, deadline=None)
def test_difference_and_hash_agree_with_equality(a: Recipe, b: Recipe) -> None:
    assert bool(difference(a, b)) == (a != b) == (config_hash(a) != config_hash(b))


def test_difference_lines() -> None:
    a = Recipe(stages=[Stage(5, lr=0.001)], weights={"x": 1.0}, name="a")
    b = Recipe(stages=[Stage(5, lr=0.002), Stage(6)], weights={}, name="b", limit=3)
    assert difference(a, b) == [
        'name: "a" -> "b"',
        "stages[0].lr: 0.001 -> 0.002",
        'stages[1]: absent -> {"steps": 6, "lr": 0.001, "warmup_steps": 0, "sentences": []}',
        "limit: null -> 3",
        "weights.x: 1.0 -> absent",
    ]


def test_hash_is_stable_between_runs_and_spellings() -> None:
    assert config_hash({"a": 1, "b": [0.5, None, True]}) == "0a9a4aa5cc528a7d"
    assert config_hash({"b": [0.5, None, True], "a": 1.0}) == "0a9a4aa5cc528a7d"
    assert config_hash({"a": 1, "b": [0.5, None, False]}) != "0a9a4aa5cc528a7d"


def test_to_dict_is_plain_and_detached() -> None:
    recipe = Recipe()
    plain = to_dict(recipe)
    assert plain["betas"] == [0.9, 0.95]
    assert "derived" not in plain
    assert "known" not in plain
    plain["stages"].clear()
    assert len(recipe.stages) == 2


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(RecipeError("wrong", "a.b", "x.yaml")))
    assert str(error) == "x.yaml: a.b: wrong"
