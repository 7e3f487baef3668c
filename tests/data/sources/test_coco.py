"""The source `coco`: the official layout and other names, values, and files that are not what they should be."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmlite.data.sources.coco import Coco, CocoConfig
from lvmlite.data.sources.published import OUTSIDE
from lvmlite.images import decode
from lvmlite.sample import split_of

from .layouts.coco import INSTANCES, PANOPTIC, PERSONS, SHAPE, colours, documents, images, segments, write
from .layouts.pictures import save


def coco(root: Path, **options: Any) -> Coco:
    return Coco(CocoConfig(path=str(root), **options))


@pytest.fixture
def spoiled(tmp_path: Path, read: Callable) -> Callable[..., dict[str, str]]:
    """spoiled(file, change, **config): the reasons of rejects, by key, when `change(document)` spoils a file."""

    def spoil(name: str, change: Callable[[Any], Any], **options: Any) -> dict[str, str]:
        document = copy.deepcopy(documents()[name])
        change(document)
        source = coco(write(tmp_path, **{name: document}), **options)
        reasons = {}
        for item in [item for part in source.parts() for item in source.samples(part)]:
            if hasattr(item, "reason"):
                reasons[item.key] = item.reason
                continue
            try:
                item.frames[0]
            except ValueError as error:
                reasons[item.key] = str(error)
        return reasons

    return spoil


def test_the_official_layout(tmp_path, read):
    source = coco(write(tmp_path))
    samples, rejects = read(source)
    assert rejects == []
    assert source.annotations == ("boxes", "instances", "classes", "panoptic", "pose")
    assert source.class_names == ("person", "car", "toothbrush", "rug")
    assert [s.key for s in samples] == [
        "train2017/000000000005.jpg",
        "train2017/000000000009.jpg",
        "val2017/000000000006.jpg",
    ]
    assert [s.group for s in samples] == ["000000000005", "000000000009", "000000000006"]
    assert [s.split for s in samples] == [split_of(s.group, 0.02, 0) for s in samples[:2]] + ["test"]
    first, empty, val = (s.frames[0] for s in samples)
    assert np.array_equal(first["image"], decode(tmp_path / samples[0].key))
    assert list(first) == list(empty) == ["image", *source.annotations]
    assert list(val) == ["image", "boxes", "instances"]


def test_boxes_and_outlines_largest_first_and_the_smaller_in_front(tmp_path, read):
    frame = coco(write(tmp_path)).sample("train2017/000000000005.jpg").frames[0]
    assert frame["boxes"].dtype == np.float32
    assert frame["boxes"].tolist() == [[2, 2, 22, 18, 1, 1], [25, 15, 30, 20, 3, 2], [8, 8, 12, 12, 2, 3]]
    expected = np.zeros(SHAPE, np.uint16)
    expected[2:18, 2:22], expected[15:20, 25:30], expected[8:12, 8:12] = 1, 2, 3
    assert frame["instances"].dtype == np.uint16
    assert np.array_equal(frame["instances"], expected)


def test_without_panoptic_maps_classes_are_painted_from_the_objects(tmp_path):
    root = write(tmp_path)
    (root / PANOPTIC).unlink()
    source = coco(root)
    assert source.annotations == ("boxes", "instances", "classes", "pose")
    frame = source.sample("train2017/000000000005.jpg").frames[0]
    assert frame["classes"].dtype == np.uint8
    assert np.array_equal(frame["classes"], np.array([0, 1, 3, 2])[frame["instances"]])


def test_panoptic_maps(tmp_path):
    frame = coco(write(tmp_path)).sample("train2017/000000000005.jpg").frames[0]
    ids = segments()
    assert frame["panoptic"].dtype == np.int32
    of = {0: (0, 0), 7: (4000, 4), 300: (1001, 1), 9: (1002, 1), 70_000: (2001, 2), 8: (0, 3)}
    for stored, (panoptic, class_id) in of.items():
        assert set(frame["panoptic"][ids == stored]) == {panoptic}
        assert set(frame["classes"][ids == stored]) == {class_id}


def test_poses_largest_first_without_unlabelled_persons(tmp_path):
    source = coco(write(tmp_path))
    pose = source.sample("train2017/000000000005.jpg").frames[0]["pose"]
    assert (pose.shape, pose.dtype) == ((2, 17, 3), np.float32)
    assert pose[0, :, 0].tolist() == list(range(17))
    assert pose[0, 0].tolist() == [0, 9, 2]
    assert pose[1, 3].tolist() == [3, 2, 1]
    assert not pose[1, 4:].any()


def test_a_photo_without_objects_or_persons_has_empty_annotations(tmp_path):
    frame = coco(write(tmp_path)).sample("train2017/000000000009.jpg").frames[0]
    assert frame["boxes"].shape == (0, 6)
    assert frame["pose"].shape == (0, 17, 3)
    assert not frame["instances"].any()
    assert (frame["panoptic"] == 4000).all()


def test_only_what_is_asked_for_is_read_and_checked(tmp_path):
    root = write(tmp_path, **{INSTANCES: {"images": "broken"}})
    source = coco(root, annotations=["pose"])
    assert list(source.sample("train2017/000000000005.jpg").frames[0]) == ["image", "pose"]
    assert source.annotations == ("pose",)
    with pytest.raises(ValueError, match=r"instances_train2017\.json: images: expected a list, found a text"):
        coco(root)


def test_an_annotation_whose_file_is_missing(tmp_path):
    root = write(tmp_path)
    (root / PERSONS).unlink()
    with pytest.raises(ValueError, match="'pose' needs a file of keypoints"):
        coco(root, annotations=["pose"])
    with pytest.raises(ValueError, match="min_keypoints"):
        coco(root, min_keypoints=3)
    with pytest.raises(ValueError, match="annotations is empty"):
        coco(root, annotations=[])


def test_photos_of_too_few_joints_are_left_out(tmp_path):
    root = write(tmp_path)
    assert list(coco(root, min_keypoints=5).entries) == ["train2017/000000000005.jpg"]
    assert list(coco(root, min_keypoints=17).entries) == ["train2017/000000000005.jpg"]
    document = copy.deepcopy(documents()[PERSONS])
    del document["annotations"][1]
    assert list(coco(write(tmp_path, **{PERSONS: document}), min_keypoints=5).entries) == []


def test_files_by_other_names_are_split_by_a_hash_of_the_id(tmp_path, read):
    docs, root = documents(), tmp_path / "mine"
    for name, document in (("objects.json", docs[INSTANCES]), ("p/panoptic.json", docs[PANOPTIC])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(document))
    for i in (5, 9, 77):
        save(root / f"photos/{i:012d}.jpg", np.zeros((*SHAPE, 3)))
    save(root / "p/maps/000000000005.png", colours(segments()))
    save(root / "p/maps/000000000009.png", colours(np.ones(SHAPE, np.int32)))
    names = {"images": "photos", "instances": "objects.json", "panoptic": "p/panoptic.json", "panoptic_masks": "p/maps"}
    samples, rejects = read(coco(root, **names, val=0.3, test=0.3))
    assert [s.key for s in samples] == ["photos/000000000005.jpg", "photos/000000000009.jpg"]
    assert [s.split for s in samples] == [split_of(s.group, 0.3, 0.3) for s in samples]
    assert list(samples[0].frames[0]) == ["image", "boxes", "instances", "classes", "panoptic"]
    assert [(r.key, r.reason) for r in rejects] == [("photos/", "photos that no annotation file lists: 1")]
    with pytest.raises(ValueError, match=r"no file 'other\.json'"):
        coco(root, instances="other.json")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_and_pickled_sources_give_the_same(tmp_path, read, same, kind):
    root = write(tmp_path / "around" / "coco")
    packed = shutil.make_archive(str(tmp_path / "packed"), kind, root.parent)
    from_folder, from_archive = read(coco(root))[0], read(coco(Path(packed)))[0]
    assert len(from_folder) == 3
    elsewhere = pickle.loads(pickle.dumps(coco(Path(packed))))
    for a, b in zip(from_folder, from_archive, strict=True):
        assert same(a, b)
        assert same(a, elsewhere.sample(a.key))


def test_max_samples_and_parts(tmp_path):
    root = write(tmp_path)
    assert len(coco(root, max_samples=2).entries) == 2
    assert [len(p.items) for p in coco(root, part_size=2).parts()] == [2, 1]
    before = coco(root).parts()[0].stamp
    document = copy.deepcopy(documents()[PERSONS])
    document["annotations"][0]["keypoints"][0] += 1
    assert coco(write(tmp_path, **{PERSONS: document})).parts()[0].stamp != before


# --- bad input


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (INSTANCES, lambda d: d.pop("images"), "images: expected a list, found nothing"),
        (INSTANCES, lambda d: d.pop("annotations"), "annotations: expected a list, found nothing"),
        (INSTANCES, lambda d: d["images"][1].pop("id"), r"images\[1\]\.id: expected a whole number, found nothing"),
        (INSTANCES, lambda d: d["images"][0].update(height="20"), r"images\[0\]\.height: expected a whole number"),
        (PERSONS, lambda d: d["images"][0].update(file_name="b.jpg"), "photo id 5 is two files"),
        (PANOPTIC, lambda d: d.update(categories={}), "categories: expected a list, found an object"),
        (INSTANCES, lambda d: d["categories"].pop(), "categories differ from those of the other split"),
        (PERSONS, lambda d: d["categories"].append({"id": 1, "name": "man"}), "an id is there twice"),
    ],
)
def test_a_file_of_another_schema_is_one_line(spoiled, name, change, message):
    with pytest.raises(ValueError, match=message) as info:
        spoiled(name, change)
    assert "2017.json: " in str(info.value)
    assert "\n" not in str(info.value)


def test_a_list_instead_of_a_document_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"instances_train2017\.json: the file: expected an object, found a list"):
        coco(write(tmp_path, **{INSTANCES: []}))


def set_(index: int, **values: Any) -> Callable[[Any], None]:
    return lambda document: document["annotations"][index].update(values)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (INSTANCES, lambda d: d["annotations"][0].pop("bbox"), "an annotation without a bbox of 4 numbers"),
        (INSTANCES, set_(0, bbox=[1, 2, 3]), "an annotation without a bbox of 4 numbers"),
        (INSTANCES, set_(0, bbox=[1, 2, float("nan"), 4]), "an annotation without a bbox of 4 numbers"),
        (INSTANCES, set_(0, bbox=[30, 2, 5, 5]), OUTSIDE),
        (INSTANCES, set_(0, bbox=[3, 2, 0, 5]), OUTSIDE),
        (INSTANCES, set_(0, bbox=[3, 2, -3, 5]), OUTSIDE),
        (INSTANCES, set_(0, bbox=[1e308, 2, 1e308, 5]), OUTSIDE),
        (INSTANCES, set_(0, category_id=2), "an unknown category_id"),
        (INSTANCES, set_(0, category_id=[]), "an unknown category_id"),
        (INSTANCES, set_(0, segmentation=None), "an annotation without a usable segmentation"),
        (INSTANCES, set_(0, segmentation={"size": [3, 3], "counts": [9]}), "segmentation and photo differ in size"),
        (PERSONS, set_(0, keypoints=[1, 2, 2] * 16), "an annotation without keypoints of 17 x 3 numbers"),
        (PERSONS, lambda d: d["annotations"][0].pop("keypoints"), "an annotation without keypoints of 17 x 3 numbers"),
        (PERSONS, set_(0, keypoints=[1, 2, 3] * 17), "a keypoint's visibility is not 0, 1 or 2"),
        (PERSONS, set_(0, keypoints=[1e300, 2, 2] * 17), "a keypoint outside its image"),
        (PANOPTIC, set_(0, segments_info={}), "a panoptic annotation without file_name or segments_info"),
        (
            PANOPTIC,
            set_(0, segments_info=[{"id": 2**24, "category_id": 1}]),
            "a segment without an id that a colour can write",
        ),
        (PANOPTIC, set_(0, segments_info=[3]), "a segment without an id that a colour can write"),
        (PANOPTIC, set_(0, file_name="other.png"), "mask is missing"),
        (PANOPTIC, set_(0, file_name=""), "mask is missing"),
        (PANOPTIC, set_(0, segments_info=[]), "mask with unknown ids"),
        (PANOPTIC, lambda d: d["annotations"][0]["segments_info"].pop(), "mask with unknown ids"),
        (
            PANOPTIC,
            set_(0, segments_info=[{"id": i, "category_id": 1} for i in range(1, 1001)]),
            "more objects of a class than can be numbered",
        ),
    ],
)
def test_a_bad_record_rejects_its_photo_only(spoiled, name, change, reason):
    assert spoiled(name, change) == {"train2017/000000000005.jpg": reason}


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"image_id": 4}, "an annotation of no photo"), ({"image_id": "5"}, "an annotation without image_id")],
)
def test_a_record_of_no_photo_is_a_reject_of_its_own(spoiled, values, reason):
    assert spoiled(INSTANCES, set_(1, **values)) == {f"{INSTANCES}#annotations[1]": reason}


def test_a_record_that_is_no_object_is_a_reject(spoiled):
    change = lambda document: document["annotations"].append(7)  # noqa: E731
    assert spoiled(PERSONS, change) == {f"{PERSONS}#annotations[3]": "an annotation without image_id"}


def test_a_bad_crowd_region_does_no_harm(spoiled):
    assert spoiled(INSTANCES, set_(3, segmentation=None, bbox=None)) == {}


def test_files_that_are_missing_or_of_another_size(tmp_path, read):
    root = write(tmp_path)
    (root / "val2017/000000000006.jpg").unlink()
    save(root / "annotations/panoptic_train2017/000000000009.png", np.zeros((10, 10, 3)))
    save(root / "train2017/000000000005.jpg", np.zeros((10, 10, 3)))
    source = coco(root)
    samples, rejects = read(source)
    assert [(r.key, r.reason) for r in rejects] == [("val2017/000000000006.jpg", "photo is missing")]
    for sample, reason in zip(samples, ["photo of another size than listed", "mask and photo differ in size"]):
        with pytest.raises(ValueError, match=reason):
            sample.frames[0]


def test_a_file_name_never_leaves_the_root(spoiled, tmp_path):
    save(tmp_path.parent / "secret.jpg", np.zeros((*SHAPE, 3)))
    outside = "../../secret.jpg"
    change = lambda document: document["images"].append({**images(8)[0], "file_name": outside})  # noqa: E731
    assert spoiled(INSTANCES, change) == {f"train2017/{outside}": "photo is missing"}


def test_another_layout_is_one_line(tmp_path):
    save(tmp_path / "a.jpg", np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"expected annotations/instances_train2017\.json") as info:
        coco(tmp_path)
    assert "\n" not in str(info.value)
