"""A kind that is added, removed, changed or moved touches its own files only, and the store ends as if built anew."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmlite.data.build import build_pixels, build_tokens, encode_sources, read_rejects
from lvmlite.data.pictures import draw_sample
from lvmlite.data.sources.base import Part, Source
from lvmlite.data.store import Store
from lvmlite.images import Geometry, Unreadable
from lvmlite.sample import Sample
from lvmlite.tasks.base import Task
from lvmlite.tasks.depth import Depth, DepthConfig

from . import builder
from .toys import GEOMETRY, KINDS, Item, Label, Noise, Toy, ToyConfig, ToyTokenizer, toy, tree


class Picky(Label):
    """Labels, but not those of one number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def fit(self, annotation: Any, geometry: Geometry, shape: tuple[int, int]) -> Any:
        if annotation.flat[0] == self.number:
            raise Unreadable(f"{self.number} is not drawn")
        return annotation


RECIPES: dict[str, dict[str, Task]] = {
    "none": {},
    "label": {"label": Label(3)},
    "noise": {"noise": Noise(2)},
    "both": {"label": Label(3), "noise": Noise(2)},
    "turned": {"noise": Noise(2), "label": Label(3)},
    "fewer": {"label": Label(1), "noise": Noise(2)},
    "more": {"more": Noise(1), "label": Label(3), "noise": Noise(2), "again": Label(2)},
    "picky": {"label": Label(3), "picky": Picky(3), "noise": Noise(2)},
    "pickier": {"label": Label(3), "picky": Picky(3), "one": Picky(13), "alike": Picky(3)},
    "alike": {"alike": Picky(3), "zebra": Picky(3)},
}


def settings(kinds: Mapping[str, Task]) -> dict[str, Any]:
    return {kind: {"task": type(task).__name__, **vars(task)} for kind, task in kinds.items()}


def pixels(out: Path, kinds: Mapping[str, Task], source: Source | None = None, **more: Any) -> Store:
    return build_pixels([source or builder.source()], kinds, settings(kinds), GEOMETRY, out / "pixels", **more)


def both(out: Path, kinds: Mapping[str, Task], source: Source | None = None, **more: Any) -> Store:
    return build_tokens(pixels(out, kinds, source, **more), ToyTokenizer(), out / "tokens", batch=4)


def directly(out: Path, kinds: Mapping[str, Task], source: Source | None = None, **more: Any) -> Store:
    sources = [source or builder.source()]
    return encode_sources(sources, kinds, settings(kinds), GEOMETRY, ToyTokenizer(), out / "tokens", batch=4, **more)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Every column: inode and time of change."""
    found = ((p, p.stat()) for p in folder.rglob("*.npy"))
    return {str(p.relative_to(folder)): (stat.st_ino, stat.st_mtime_ns) for p, stat in found}


@pytest.fixture(scope="module", params=[both, directly])
def anew(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A way of building, and the stores it makes of each recipe from nothing."""
    root = tmp_path_factory.mktemp("anew")
    for name, kinds in RECIPES.items():
        request.param(root / name, kinds)
    return request.param, root


@pytest.mark.parametrize("before", RECIPES)
def test_whatever_the_kinds_were_the_store_ends_as_if_built_anew(
    tmp_path: Path, anew: tuple[Any, Path], before: str
) -> None:
    build, root = anew
    for after in RECIPES:
        out = tmp_path / after
        shutil.copytree(root / before, out)
        assert build(out, RECIPES[after]).verify() == []
        assert tree(out) == tree(root / after), after


@pytest.mark.parametrize("build", [both, directly])
@pytest.mark.parametrize(
    ("before", "after", "touched"),
    [
        ("label", "both", {"noise"}),
        ("both", "label", set()),
        ("both", "turned", set()),
        ("both", "fewer", {"label"}),
        ("both", "more", {"more", "again"}),
        ("more", "none", set()),
        ("picky", "pickier", {"one", "alike"}),
    ],
)
def test_only_the_files_of_that_kind_are_written(
    tmp_path: Path, build: Any, before: str, after: str, touched: set[str]
) -> None:
    source = builder.source() if after != "pickier" else toy(2, per_part=2)
    build(tmp_path, RECIPES[before], source)
    old = stamps(tmp_path)
    build(tmp_path, RECIPES[after], source)
    new = stamps(tmp_path)
    written = {Path(name).name.partition(".")[0] for name in new if new[name] != old.get(name)}
    assert written == touched
    gone = {Path(name).name.partition(".")[0] for name in old.keys() - new.keys()}
    assert gone <= set(RECIPES[before]) - set(RECIPES[after]) | touched


def test_only_parts_that_can_have_a_kind_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of one source does not open the other; nor does one that goes, or a change of order."""
    log = tmp_path / "log"
    plain = Toy(ToyConfig("plain", toy(1, label=False).config.parts))
    sources = [plain, toy(1)]

    def build(kinds: Mapping[str, Task], **more: Any) -> int:
        log.write_text("")
        monkeypatch.setenv("TOY_LOG", str(log))
        build_pixels(sources, kinds, settings(kinds), GEOMETRY, tmp_path / "out", **more)
        return len(log.read_text().split())

    assert build(RECIPES["noise"]) == 8
    assert build(RECIPES["turned"]) == 4
    assert build(RECIPES["both"]) == 0
    assert build(RECIPES["noise"]) == 0
    assert build(RECIPES["both"], only={"toy": ["noise"]}) == 0
    assert build(RECIPES["both"], only={"toy": []}) == 0
    assert build(RECIPES["both"]) == 4


def test_a_kind_that_rejects_what_was_accepted_redraws_that_part(tmp_path: Path) -> None:
    """Number 3 is of the first part: only that one's photos are drawn again."""
    both(tmp_path, RECIPES["both"])
    old = stamps(tmp_path / "pixels")
    both(tmp_path, RECIPES["picky"])
    photos = {name for name, stamp in stamps(tmp_path / "pixels").items() if old.get(name) != stamp and "image" in name}
    assert {name.rpartition(".train")[0] or name.rpartition(".val")[0] for name in photos} == {"toy.000"}
    found = [(r["key"], r["reason"], r["kind"]) for r in read_rejects(tmp_path / "tokens") if "kind" in r]
    assert found == [("3", "3 is not drawn", "picky")]


def test_the_order_of_kinds_does_not_decide_who_is_to_blame(tmp_path: Path) -> None:
    kinds = {"zebra": Picky(0), "ape": Picky(0)}
    for order in (kinds, dict(reversed(kinds.items()))):
        pixels(tmp_path, order, toy(1))
        assert [(r["key"], r["kind"]) for r in read_rejects(tmp_path / "pixels")] == [("0", "ape")]


def test_samples_stay_where_they_are_whatever_the_kinds(tmp_path: Path) -> None:
    rows = []
    for name in ("none", "label", "more"):
        store = pixels(tmp_path / name, RECIPES[name])
        rows.append([(s.info.name, list(s.keys()), s.samples().tolist()) for s in store.shards])
    assert rows[0] == rows[1] == rows[2]
    assert [s.info.annotations for s in store.shards[:3]] == [["label"], ["label"], []]


class Files(Toy):
    """A source whose parts do not show what is in their files."""

    def __init__(self, source: Toy) -> None:
        super().__init__(source.config)
        self.now = source.config

    def parts(self) -> list[Part]:
        return [Part(name, tuple(item.number for item in items)) for name, items in self.now.parts]

    def samples(self, part: Part) -> Iterator[Any]:
        return super().samples(Part(part.name, dict(self.now.parts)[part.name]))


def test_samples_that_changed_unnoticed_redraw_their_part(tmp_path: Path) -> None:
    """A file was mended, or lost, between the two builds: then its part is drawn whole."""
    source = Toy(ToyConfig(parts=(("000", (Item(1), Item(2, frames=2, fault="torn"), Item(3))), ("001", (Item(4),)))))
    files = Files(source)
    both(tmp_path / "a", RECIPES["label"], files)
    mended = replace(source.config.parts[0][1][1], fault="")
    files.now = ToyConfig(parts=(("000", (Item(1), mended, Item(3))), ("001", (Item(4),))))
    both(tmp_path / "a", RECIPES["both"], files)
    both(tmp_path / "b", RECIPES["both"], files)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert Store.open(tmp_path / "a" / "pixels").shards[0].info.n_frames == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_sources_are_encoded_without_keeping_pixels(tmp_path: Path, workers: int) -> None:
    both(tmp_path / "a", KINDS)
    directly(tmp_path / "b", KINDS, workers=workers)
    assert tree(tmp_path / "a" / "tokens") == tree(tmp_path / "b" / "tokens")
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["tokens"]
    before = stamps(tmp_path / "b")
    both(tmp_path / "b", KINDS)  # pixels after all: the tokens are as they were
    assert {name: stamp for name, stamp in stamps(tmp_path / "b").items() if name.startswith("tokens")} == before


def test_only_a_few_parts_are_drawn_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the encoding, at most workers + 2 parts lie on the disk."""
    seen = []

    class Slow(ToyTokenizer):
        def encode(self, images: Any) -> Any:
            time.sleep(0.15)
            seen.append(len(list((tmp_path / "tokens" / ".drawing").iterdir())))
            return super().encode(images)

    encode_sources([toy(12, 1)], {}, {}, GEOMETRY, Slow(), tmp_path / "tokens", workers=1)
    assert len(seen) == 12
    assert 2 <= max(seen) <= 3


def test_sources_need_the_size_of_the_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pictures of 16 px, the tokenizer takes 8"):
        encode_sources([toy(1)], {}, {}, replace(GEOMETRY, size=16), ToyTokenizer(), tmp_path)
    with pytest.raises(ValueError, match="the sources gave no sample"):
        encode_sources([Toy(ToyConfig(parts=(("p", ()),)))], {}, {}, GEOMETRY, ToyTokenizer(), tmp_path)


# --- bad data and bad recipes


def sample(*frames: dict[str, Any]) -> Sample:
    return Sample("k", "k", "toy", "train", None, frames)


PHOTO = np.zeros((12, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([{"image": PHOTO, "depth": np.ones((12, 16), np.float32)}, {"image": PHOTO}], "different annotations"),
        ([{"depth": np.ones((12, 16), np.float32)}], "no photo"),
        ([{"image": PHOTO, "depth": np.ones((16, 12), np.float32)}], "differ in shape"),
        ([{"image": PHOTO, "depth": np.ones((0, 16), np.float32)}], "differ in shape"),
    ],
)
def test_frames_that_do_not_go_together_are_unreadable(frames: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        draw_sample(sample(*frames), {"depth": Depth(DepthConfig())}, GEOMETRY, 0)


def test_a_map_of_the_photos_shape_may_be_smaller() -> None:
    found = draw_sample(
        sample({"image": PHOTO, "depth": np.ones((6, 8), np.float32)}), {"depth": Depth(DepthConfig())}, GEOMETRY, 0
    )
    assert found["depth", 0].shape == (1, 8, 8, 3)


def test_a_kind_that_no_source_gives_is_one_line_before_anything_is_drawn(tmp_path: Path) -> None:
    sources = [toy(1), toy(1, name="other")]
    sources[1].annotations = ()
    with pytest.raises(ValueError, match=r"kinds: 'far' is drawn from 'depth', which no source gives") as error:
        build_pixels(sources, {"far": Depth(DepthConfig())}, {}, GEOMETRY, tmp_path / "out")
    assert str(error.value).endswith("(toy: label; other: none)")
    assert not (tmp_path / "out").exists()


def test_a_stamp_that_changed_draws_its_part_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))
    source = toy(2)
    build_pixels([source], {}, {}, GEOMETRY, tmp_path / "out")
    log.write_text("")
    first = source.parts()
    monkeypatch.setattr(source, "parts", lambda: [first[0], replace(first[1], stamp="new")])
    build_pixels([source], {}, {}, GEOMETRY, tmp_path / "out")
    assert len(log.read_text().split()) == 4
