"""What every source of `SOURCES` must do, and do with files that are damaged."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from lvmlite.data.sources import SOURCES, build_source
from lvmlite.data.sources.base import Part, Reject, Source
from lvmlite.data.sources.videos import Clips
from lvmlite.images import Unreadable
from lvmlite.recipe import build, to_dict
from lvmlite.sample import ANNOTATIONS, Sample

from .checks import CHECKS, check_frame, check_sample
from .layouts import LAYOUTS

SAME = Callable[[Sample, Sample], bool]
NOT_IN_ARCHIVES = ("videos", "video_lists", "parquet", "webdataset")
MAX_SPOILT = 12  # files of a layout that are spoilt, one after the other


def make(layout: str, settings: dict[str, Any]) -> Source:
    return build_source(build(SOURCES[layout.partition("/")[0]][0], settings), seed=3)


def all_samples(source: Source) -> list[Sample]:
    return [item for part in source.parts() for item in source.samples(part) if isinstance(item, Sample)]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fresh(layout: str, tmp_path: Path) -> Callable[..., Source]:
    """fresh(max_samples=2): a new source of the same files."""
    settings = LAYOUTS[layout](tmp_path)
    return lambda **more: make(layout, settings | more)


def test_every_source_has_a_layout_and_every_annotation_a_check() -> None:
    for name in SOURCES:
        assert name in LAYOUTS, f"source {name}: write its layout in layouts/ and list it in LAYOUTS"
    assert {layout.partition("/")[0] for layout in LAYOUTS} == set(SOURCES)
    assert set(CHECKS) == set(ANNOTATIONS)


@pytest.mark.parametrize("name", SOURCES)
def test_the_config_names_itself_and_survives_a_recipe(name: str, tmp_path: Path) -> None:
    config_class, source_class = SOURCES[name]
    assert issubclass(source_class, Source)
    assert get_args(get_type_hints(config_class)["source"]) == (name,)
    config = build(config_class, LAYOUTS[name](tmp_path))
    assert (config.source, config.name) == (name, name)
    assert build(config_class, to_dict(config)) == config


def test_a_missing_path_is_one_line_that_names_it(layout: str, tmp_path: Path) -> None:
    settings = LAYOUTS[layout](tmp_path)
    if "path" not in settings:
        assert "path" not in {field.name for field in fields(SOURCES[layout.partition("/")[0]][0])}
        return
    gone = str(tmp_path / "gone")
    with pytest.raises(ValueError, match=re.escape(gone)) as error:
        make(layout, settings | {"path": gone}).parts()
    assert "\n" not in str(error.value)


def test_parts_and_samples(fresh: Callable[..., Source], same: SAME) -> None:
    source = fresh()
    assert source.licence.strip()
    about = source.about()
    assert (about["licence"], about["frame_step"], about["views"]) == (source.licence, source.frame_step, source.views)
    assert source.frame_step >= 1

    parts = source.parts()
    assert parts == source.parts() == fresh().parts()
    names = [part.name for part in parts]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w~%-][\w.~%-]{0,150}", name) for name in names)

    samples = all_samples(source)
    assert samples
    assert len({sample.key for sample in samples}) == len(samples)
    found: set[str] = set()
    for sample in samples:
        check_sample(sample, source)
        frames = list(sample.frames)
        for frame in frames:
            assert frame.keys() == frames[0].keys()
            check_frame(frame, source.annotations)
        found |= set(frames[0]) - {"image"}
        assert same(sample, source.sample(sample.key)), sample.key
    assert found == set(source.annotations)

    copy = pickle.loads(pickle.dumps(source))
    other = fresh()
    backwards = {
        item.key: item for part in reversed(copy.parts()) for item in copy.samples(part) if isinstance(item, Sample)
    }
    assert backwards.keys() == {sample.key for sample in samples}
    for sample in samples:
        assert same(sample, backwards[sample.key])
        assert same(sample, other.sample(sample.key))


def test_parts_may_be_read_in_turns(fresh: Callable[..., Source], same: SAME) -> None:
    source = fresh()
    expected = {sample.key: sample for sample in all_samples(source)}
    readers = [iter(source.samples(part)) for part in source.parts()]
    found = []
    while readers:
        for reader in [*readers]:
            item = next(reader, None)
            if item is None:
                readers.remove(reader)
            elif isinstance(item, Sample):
                found.append(item)
    assert {sample.key for sample in found} == expected.keys()
    assert all(same(sample, expected[sample.key]) for sample in found)


def test_unknown_keys(fresh: Callable[..., Source]) -> None:
    source = fresh()
    key = all_samples(source)[-1].key
    wrong = ["", "/", "#", "\0", "nothing", f"{key}x", f"x{key}", f"{key}/", f"{key}#000001", f"0{key}", key[:-1]]
    for unknown in wrong:
        with pytest.raises(KeyError):
            source.sample(unknown)


def test_max_samples(layout: str, fresh: Callable[..., Source], same: SAME) -> None:
    if "max_samples" not in {field.name for field in fields(SOURCES[layout.partition("/")[0]][0])}:
        assert layout.startswith(("bundled", "world"))  # which say how many by other settings
        return
    few = fresh(max_samples=1)
    everything = all_samples(fresh())
    groups = {sample.group for sample in everything}
    some = all_samples(few)
    counted = {s.key.rpartition("#")[0] for s in some} if isinstance(few, Clips) else some
    assert len(counted) == 1
    assert {sample.group for sample in some} <= groups
    many = all_samples(fresh(max_samples=10**6))
    assert all(same(a, b) for a, b in zip(many, everything, strict=True))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_give_the_same(layout: str, tmp_path: Path, same: SAME, kind: str) -> None:
    settings = LAYOUTS[layout](tmp_path / "in")
    if "path" not in settings or layout.startswith(NOT_IN_ARCHIVES):
        return
    packed = shutil.make_archive(str(tmp_path / Path(settings["path"]).name), kind, settings["path"])
    expected, source = all_samples(make(layout, settings)), make(layout, settings | {"path": packed})
    elsewhere = pickle.loads(pickle.dumps(source))
    for a, b in zip(expected, all_samples(source), strict=True):
        assert same(a, b)
        assert same(a, elsewhere.sample(a.key))


# --- damaged files


def drain(make_source: Callable[[], Source], folder: Path, between: Callable[[], object] = lambda: None) -> None:
    """Read all there is: samples, rejects, `Unreadable` frames; or a ValueError of one line when it is listed.

    `between`: done after parts are listed and before they are read.
    """
    found = listing(make_source)
    if isinstance(found, ValueError):
        assert not isinstance(found, Unreadable), "Unreadable says not where"
        assert re.fullmatch(r"[^\n\r]{10,600}", str(found))
        assert str(folder) in str(found)
        return
    source, parts = found
    between()
    for part in parts:
        for item in source.samples(part):
            assert item.key.encode(), "keys are written as UTF-8"
            if isinstance(item, Reject):
                check_reason(item.reason)
                continue
            check_sample(item, source)
            for frame in readable(item):
                check_frame(frame, source.annotations)
            try:
                assert source.sample(item.key).key == item.key
            except Unreadable as error:
                check_reason(error.reason)


def listing(make_source: Callable[[], Source]) -> tuple[Source, list[Part]] | ValueError:
    try:
        source = make_source()
        return source, source.parts()
    except ValueError as error:
        return error


def readable(sample: Sample) -> Iterator[Any]:
    for t in range(len(sample.frames)):
        try:
            yield sample.frames[t]
        except Unreadable as error:
            check_reason(error.reason)


def check_reason(reason: str) -> None:
    assert re.fullmatch(r"[^\n\r]{3,300}", reason)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def nothing(data: bytes) -> bytes:
    return b""


def junk(data: bytes) -> bytes:
    return bytes((31 * i * i + 7 * i) % 256 for i in range(300))


def text(data: bytes) -> bytes:
    return b'{"a": [1, null, "x"]}\n1 2 3\n\n'


@pytest.mark.parametrize("spoil", [half, nothing, junk, text])
def test_damaged_files_are_rejects_or_one_line(layout: str, spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    settings = LAYOUTS[layout](tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for path in files[:: -(-len(files) // MAX_SPOILT) or 1]:
        whole = path.read_bytes()
        for between in (False, True):
            try:
                change = partial(path.write_bytes, spoil(whole))
                if between:
                    drain(partial(make, layout, settings), tmp_path, change)
                else:
                    change()
                    drain(partial(make, layout, settings), tmp_path)
            except Exception as error:
                error.add_note(f"{path.relative_to(tmp_path)}, {spoil.__name__}, after listing: {between}")
                raise
            path.write_bytes(whole)


def test_files_that_go_after_listing_are_rejects(layout: str, tmp_path: Path) -> None:
    settings = LAYOUTS[layout](tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    if files:
        drain(partial(make, layout, settings), tmp_path, lambda: [path.unlink() for path in files])
