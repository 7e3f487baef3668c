"""A few samples of every source, written as they are published: what the tests of all sources read.

`LAYOUTS` maps the name of a source to a writer: it writes below a folder and gives the config settings to read that.
A source of several layouts has several, "name/layout".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import ade20k, bsds500, cityscapes, coco, imagenet, parquet, rgbd, vipseg, voc, vos, webdataset
from .pictures import picture, save, save_video

Settings = dict[str, Any]

RAMP = np.linspace(0, 65535, 96).reshape(8, 12)  # a map of 16 bits


def at(write: Callable[[Path], Path], **settings: Any) -> Callable[[Path], Settings]:
    """The writer of what `write` writes into a folder it is given, read with these settings."""

    def layout(folder: Path) -> Settings:
        return {"path": str(write(folder / "data")), **settings}

    return layout


def _cityscapes(root: Path) -> Path:
    cityscapes.write_disparity(cityscapes.write(root))
    return root


def _coco_without_maps(root: Path) -> Path:
    """So classes are painted from the objects."""
    (coco.write(root) / coco.PANOPTIC).unlink()
    return root


def _frames(root: Path) -> Path:
    for folder, numbers in (("run/1", range(2, 13)), ("walk/2", (1, 2, 3, 5, 6))):
        for i in numbers:
            save(root / folder / f"img_{i}.jpg", picture(i))
    return root


def _paired(root: Path) -> Path:
    for split, keys in (("train", "ab"), ("test", "c")):
        for number, key in enumerate(keys):
            name = f"{split}/{key}"
            save(root / f"{name}.jpg", picture(number, (8, 12)))
            save(root / f"{name}.after.png", picture(10 + number, (8, 12)))
            save(root / f"{name}.normals.png", picture(20 + number, (8, 12)))
            save(root / f"{name}.classes.png", np.arange(96).reshape(8, 12) % 5, palette=True)
            save(root / f"{name}.objects.png", np.arange(96).reshape(8, 12) // 40, np.uint16)
            save(root / f"{name}.edges.png", np.arange(96).reshape(8, 12) * 2)
            for kind in ("depth", "disparity"):
                save(root / f"{name}.{kind}.png", RAMP, np.uint16)
    save(root / "train/alone.jpg", picture(9, (8, 12)))
    return root


PARTNERS = {
    "classes": "classes",
    "instances": "objects",
    "boundaries": "edges",
    "depth": "depth",
    "disparity": "disparity",
    "normals": "normals",
    "target": "after",
}


def _parquet(root: Path) -> Path:
    for split, n in (("train", 5), ("validation", 2)):
        masks = [parquet.mask(i) for i in range(n)]
        photos = [parquet.picture(i) for i in range(n)]
        parquet.hugging_face(root / f"data/{split}-00000-of-00001.parquet", [*photos], rows=2, mask=masks)
    return root


def _photos(root: Path) -> Path:
    for i, name in enumerate(("train/cat/a.png", "train/dog/b.jpg", "test/cat/c.webp")):
        save(root / name, picture(i))
    (root / "train/notes.md").write_text("not a photo")
    return root


def _7scenes(root: Path) -> Path:
    rgbd.write_7scenes(root)
    (root / "intrinsics.txt").write_text(rgbd.MATRIX)
    return root


def _tum(root: Path) -> Path:
    return rgbd.write_tum(root / "rgbd_dataset_freiburg1_xyz", (1.0, 1.03, 1.06), (1.01, 1.04, 1.07))


def _scannet(root: Path) -> Path:
    for t in (0, 10, 20):
        rgbd.save_pair(root / f"scene0000_00/color/{t}.jpg", root / f"scene0000_00/depth/{t}.png", t)
    return root


def _ucf101(folder: Path) -> Settings:
    for name in ("Archery/v_Archery_g08_c01.avi", "Archery/v_Archery_g01_c01.avi", "Biking/v_Biking_g09_c01.avi"):
        save_video(folder / "data" / name, 6)
    lists = {
        "trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\r\nBiking/v_Biking_g25_c01.avi 2\r\n",
        "testlist01.txt": "Archery/v_Archery_g01_c01.avi\n",
    }
    return _listed(folder, "ucf101", lists)


def _kinetics(folder: Path) -> Settings:
    save_video(folder / "data/air drumming/_dbcJuKJQNs_000040_000050.mp4", 6)
    save_video(folder / "data/val/air_drumming/--nQbRBEz2s_000104_000114.mkv", 6)
    head = "label,youtube_id,time_start,time_end,split\n"
    lists = {
        "train.csv": f'{head}"air drumming",_dbcJuKJQNs,40,50,train\n',
        "validate.csv": f"{head}air drumming,--nQbRBEz2s,104,114,validate\n",
    }
    return _listed(folder, "kinetics", lists)


def _ssv2(folder: Path) -> Settings:
    for number in (78687, 42):
        save_video(folder / f"data/{number}.mp4", 6)
    lists = {
        "something-something-v2-train.json": '[{"id": "78687", "template": "Holding [something]"}]',
        "something-something-v2-test.json": '[{"id": "42"}]',
    }
    return _listed(folder, "ssv2", lists)


def _listed(folder: Path, form: str, lists: dict[str, str]) -> Settings:
    for name, text in lists.items():
        (folder / name).write_text(text)
    paths = [str(folder / name) for name in lists]
    return {"path": str(folder / "data"), "lists": paths, "format": form, "frame_step": 2, "val": 0}


def _videos(root: Path) -> Path:
    save_video(root / "run/a.mp4", 14)
    save_video(root / "walk/b.mkv", 5)
    return root


def _webdataset(root: Path) -> Path:
    for number in (0, 1):
        masks = [(f"{i:05d}.mask.png", webdataset.mask(i)) for i in range(3)]
        webdataset.shard(root / f"{number}.tar", sorted([*webdataset.simple(3), *masks]))
    webdataset.shard(
        root / "2.tar.gz", [("a.png", webdataset.picture(7)), ("a.mask.png", webdataset.mask(9))], mode="w:gz"
    )
    return root


def _world(content: str) -> Callable[[Path], Settings]:
    def layout(folder: Path) -> Settings:
        counts = {"train": 2, "val": 1, "test": 1, "part_size": 2}
        return {"content": content, "frames": 2, "size": 16, "supersample": 1, **counts}

    return layout


LAYOUTS: dict[str, Callable[[Path], Settings]] = {
    "ade20k": at(ade20k.write),
    "bsds500": at(bsds500.write),
    "bundled": lambda folder: {"crops": 2, "frame_step": 40, "clip_frames": 16, "max_side": 64},
    "cityscapes": at(_cityscapes),
    "coco": at(coco.write),
    "coco/objects": at(_coco_without_maps, annotations=["boxes", "instances", "classes"]),
    "frames": at(_frames, frame_step=2, clip_frames=3),
    "imagenet": at(imagenet.write_kaggle),
    "imagenet/tiny": at(imagenet.write_tiny, boxes=True),
    "paired": at(
        _paired,
        image="{split}/{key}.jpg",
        partners={name: f"{{split}}/{{key}}.{suffix}.png" for name, suffix in PARTNERS.items()},
        ignore=[4],
    ),
    "parquet": at(_parquet, category="label", columns={"mask": "classes"}),
    "photos": at(_photos, crops=2),
    "rgbd": at(_7scenes, clip_frames=2),
    "rgbd/tum": at(_tum),
    "rgbd/scannet": at(_scannet),
    "video_lists": _ucf101,
    "video_lists/kinetics": _kinetics,
    "video_lists/ssv2": _ssv2,
    "videos": at(_videos, frame_step=2, clip_frames=3),
    "vipseg": at(vipseg.write, clip_frames=3),
    "voc": at(voc.write),
    "vos": at(vos.write_davis, clip_frames=4),
    "vos/youtube": at(vos.write_youtube),
    "webdataset": at(_webdataset, columns={"mask.png": "instances"}),
    "world": _world("objects"),
    "world/turntable": _world("turntable"),
    "world/figures": _world("figures"),
}
