"""Stores built from many sources at once: every annotation is drawn by the tasks that are made for it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from lvmlite.data.build import build_pixels, read_rejects
from lvmlite.data.sources import SOURCES, build_source
from lvmlite.data.sources.base import Reject, Source
from lvmlite.images import Geometry
from lvmlite.recipe import build
from lvmlite.sample import Sample
from lvmlite.tasks import TASK_CONFIGS, build_task

from .layouts import LAYOUTS

KINDS = {
    "seg": {"task": "segmentation"},
    "foreground": {"task": "foreground"},
    "instances": {"task": "instances"},
    "panoptic": {"task": "panoptic"},
    "boundaries": {"task": "boundaries"},
    "depth": {"task": "depth"},
    "disparity": {"task": "disparity"},
    "normals": {"task": "normals"},
    "boxes": {"task": "boxes"},
    "pose": {"task": "pose"},
    "points": {"task": "keypoint", "annotation": "keypoints", "n_points": 3},
    "second": {"task": "paired"},
    "edges": {"task": "edges"},
}
GEOMETRY = Geometry(32, "squash")


def test_all_sources_are_drawn_into_one_store(tmp_path: Path) -> None:
    sources: list[Source] = []
    for layout, write in LAYOUTS.items():
        if layout == "bundled":
            continue  # its clips are real and take seconds
        settings = write(tmp_path / "in" / layout) | {"name": layout}
        sources.append(build_source(build(SOURCES[layout.partition("/")[0]][0], settings), seed=1))
    kinds = {kind: build_task(build(TASK_CONFIGS[each["task"]], each)) for kind, each in KINDS.items()}
    settings_of = {kind: dict(each) for kind, each in KINDS.items()}
    store = build_pixels(sources, kinds, settings_of, GEOMETRY, tmp_path / "out")

    expected: dict[str, set[str]] = {}
    rejects = set()
    for source in sources:
        items = [item for part in source.parts() for item in source.samples(part)]
        expected[source.name] = {item.key for item in items if isinstance(item, Sample)}
        rejects |= {(source.name, item.key, item.reason) for item in items if isinstance(item, Reject)}
    found, drawn = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    shown: set[str] = set()
    for shard in store.shards:
        found[shard.info.source].update(key for key, *_ in [*shard.keys()])
        drawn[shard.info.source] |= set(shard.info.columns)
        shown |= {kind for kind in shard.info.columns if np.asarray(shard.column(kind)).max() > 0}
    listed = {(each["source"], each["key"], each["reason"]) for each in read_rejects(tmp_path / "out")}
    assert listed == rejects
    assert found == expected
    for source in sources:
        fitting = {kind for kind, task in kinds.items() if task.annotation in source.annotations}
        assert drawn[source.name] == fitting | {"image", "edges"}, source.name
    assert shown == set(KINDS) | {"image"}
    assert {name: about["licence"] for name, about in store.info.sources.items()} == {
        s.name: s.licence for s in sources
    }
