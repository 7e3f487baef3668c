"""COCO 2017 with objects, persons and panoptic maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .pictures import picture, save

SHAPE = (20, 30)
INSTANCES = "annotations/instances_train2017.json"
PERSONS = "annotations/person_keypoints_train2017.json"
PANOPTIC = "annotations/panoptic_train2017.json"
CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
PANOPTIC_CATEGORIES = [{**c, "isthing": 1} for c in CATEGORIES] + [{"id": 200, "name": "rug", "isthing": 0}]


def images(*ids: int) -> list[dict]:
    return [{"id": i, "file_name": f"{i:012d}.jpg", "height": SHAPE[0], "width": SHAPE[1]} for i in ids]


def rectangle(x: int, y: int, w: int, h: int) -> list[list[int]]:
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def thing(image: int, category: int, x: int, y: int, w: int, h: int, **more: Any) -> dict:
    box = {"image_id": image, "category_id": category, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
    return {**box, "segmentation": rectangle(x, y, w, h), **more}


def person(image: int, n: int, area: float) -> dict:
    """A person with n joints: joint j at (j, area / 10), the odd ones hidden; unlabelled ones hold stray numbers."""
    joints = [[j, area / 10, 2 - j % 2] if j < n else [7, 7, 0] for j in range(17)]
    return thing(image, 1, 0, 0, 5, 5, area=area, keypoints=[x for joint in joints for x in joint], num_keypoints=n)


def colours(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)


def documents() -> dict[str, Any]:
    """Photo 5 has three objects, a crowd and two persons; photo 9 nothing but a floor."""
    crowd = {"size": list(SHAPE), "counts": [0, 600]}
    return {
        INSTANCES: {
            "images": images(9, 5),
            "categories": CATEGORIES,
            "annotations": [
                thing(5, 3, 8, 8, 4, 4),
                thing(5, 1, 2, 2, 20, 16),
                thing(5, 90, 25, 15, 10, 10, area=30),
                thing(5, 1, 0, 0, 30, 20, iscrowd=1, segmentation=crowd),
            ],
        },
        PERSONS: {
            "images": images(5, 9),
            "categories": CATEGORIES[1:2],
            "annotations": [person(5, 4, 20), person(5, 17, 90), person(5, 0, 200)],
        },
        PANOPTIC: {
            "images": images(5, 9),
            "categories": PANOPTIC_CATEGORIES,
            "annotations": [
                {
                    "image_id": 5,
                    "file_name": "000000000005.png",
                    "segments_info": [
                        {"id": 70_000, "category_id": 3, "iscrowd": 0},
                        {"id": 300, "category_id": 1, "iscrowd": 0},
                        {"id": 9, "category_id": 1, "iscrowd": 0},
                        {"id": 8, "category_id": 90, "iscrowd": 1},
                        {"id": 7, "category_id": 200, "iscrowd": 0},
                    ],
                },
                {"image_id": 9, "file_name": "000000000009.png", "segments_info": [{"id": 1, "category_id": 200}]},
            ],
        },
    }


def segments() -> np.ndarray:
    ids = np.full(SHAPE, 7, np.int32)
    ids[0], ids[2:6, 2:6], ids[2:6, 10:14], ids[10:12], ids[14] = 0, 300, 9, 70_000, 8
    return ids


def write(root: Path, **changed: Any) -> Path:
    """The official layout, with one validation photo."""
    docs = documents() | changed
    docs.setdefault(
        INSTANCES.replace("train", "val"),
        {"images": images(6), "categories": CATEGORIES, "annotations": [thing(6, 90, 1, 1, 3, 3)]},
    )
    for name, document in docs.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(document))
    for i, split in ((5, "train"), (9, "train"), (6, "val")):
        save(root / f"{split}2017/{i:012d}.jpg", picture(i, SHAPE))
    save(root / "annotations/panoptic_train2017/000000000005.png", colours(segments()))
    save(root / "annotations/panoptic_train2017/000000000009.png", colours(np.ones(SHAPE, np.int32)))
    return root
