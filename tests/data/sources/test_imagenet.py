"""The source `imagenet`: the layouts that ImageNet-1K and Tiny-ImageNet are given out in, and faults of copies."""

from __future__ import annotations

import shutil
import tarfile

import numpy as np
import pytest

from lvmlite.data.sources.imagenet import ImageNet, ImageNetConfig

from .layouts.imagenet import FISH, FROG, write_kaggle, write_tiny


@pytest.fixture
def tiny(tmp_path):
    return write_tiny(tmp_path / "photos/tiny-imagenet-200")


@pytest.fixture
def kaggle(tmp_path):
    return write_kaggle(tmp_path / "photos/kaggle")


def imagenet(root, **options) -> ImageNet:
    return ImageNet(ImageNetConfig(path=str(root), **{"val_as": "val", **options}))


def places(samples) -> dict[str, tuple[str, str | None]]:
    return {s.key.rpartition("/")[2]: (s.split, s.category) for s in samples}


def test_tiny_imagenet_as_given_out(tiny, read):
    samples, rejects = read(imagenet(tiny))
    assert rejects == []
    assert places(samples) == {
        **{f"{wnid}_{i}.JPEG": ("train", wnid) for wnid in (FISH, FROG) for i in range(3)},
        **{"val_0.JPEG": ("val", FROG), "val_1.JPEG": ("val", FISH)},
        **{"test_0.JPEG": ("test", None), "test_1.JPEG": ("test", None)},
    }
    assert all(s.frames[0].keys() == {"image"} for s in samples)
    assert samples[0].frames[0]["image"].shape == (64, 64, 3)


def test_boxes_of_tiny_imagenet_have_exclusive_ends_and_a_class_by_sorted_wnid(tiny, read):
    source = imagenet(tiny, boxes=True)
    assert source.annotations == ("boxes",)
    assert source.classes == (FISH, FROG)
    boxes = {s.key.rpartition("/")[2]: s.frames[0].get("boxes") for s in read(source)[0]}
    assert boxes[f"{FROG}_1.JPEG"].tolist() == [[1, 10, 64, 59, 2, 1]]
    assert boxes["val_1.JPEG"].tolist() == [[52, 55, 58, 60, 1, 1]]
    assert boxes["val_1.JPEG"].dtype == np.float32
    assert boxes["test_0.JPEG"] is None


def test_boxes_shrink_with_the_photo(tiny, read):
    (tiny / f"train/{FISH}/{FISH}_boxes.txt").write_text(f"{FISH}_0.JPEG\t0\t10\t63\t57\n")
    samples, _ = read(imagenet(tiny, boxes=True, max_side=32))
    frame = next(s for s in samples if s.key.endswith(f"{FISH}_0.JPEG")).frames[0]
    assert frame["image"].shape == (32, 32, 3)
    assert frame["boxes"].tolist() == [[0, 5, 32, 29, 1, 1]]


def test_wrong_boxes_are_rejects(tiny, read):
    lines = f"{FISH}_0.JPEG\t0\t10\t64\t58\n{FISH}_1.JPEG\t9\t10\t3\t58\n{FISH}_2.JPEG\t1\tx\t3\t4\n"
    (tiny / f"train/{FISH}/{FISH}_boxes.txt").write_text(lines)
    samples, rejects = read(imagenet(tiny, boxes=True))
    assert [(r.key.rpartition("/")[2], r.reason) for r in rejects] == [(f"{FISH}_boxes.txt", "malformed line")]
    for name in (f"{FISH}_0.JPEG", f"{FISH}_1.JPEG"):
        sample = next(s for s in samples if s.key.endswith(name))
        with pytest.raises(ValueError, match=r"^box outside of the photo$"):
            sample.frames[0]
    assert next(s for s in samples if s.key.endswith(f"{FISH}_2.JPEG")).frames[0].keys() == {"image"}


def test_a_repacked_tiny_imagenet_is_read_inside_its_tar(tmp_path, save_photo, read):
    for name in (f"train/{FISH}/{FISH}_0.JPEG", f"train/{FROG}/{FROG}_7.JPEG", f"val/{FROG}/val_3.JPEG"):
        save_photo(f"repacked/{name}", size=(64, 64))
    root = tmp_path / "photos/repacked"
    (root / "classes.txt").write_text(f"{FISH}\tgoldfish\n{FROG}\tbullfrog\n")
    (root / "boxes.csv").write_text(
        f"file,x0,y0,x1,y1\nval/{FROG}/val_3.JPEG,0,1,63,2\ntrain/{FISH}/{FISH}_0.JPEG,1,2,3,4\n"
    )
    with tarfile.open(tmp_path / "repacked.tar", "w") as archive:
        archive.add(root, ".")
    samples, rejects = read(imagenet(tmp_path / "repacked.tar", boxes=True))
    assert rejects == []
    assert places(samples) == {
        f"{FISH}_0.JPEG": ("train", FISH),
        f"{FROG}_7.JPEG": ("train", FROG),
        "val_3.JPEG": ("val", FROG),
    }
    assert [s.frames[0]["boxes"].tolist() for s in samples if "boxes" in s.frames[0]] == [
        [[1, 2, 4, 5, 1, 1]],
        [[0, 1, 64, 3, 2, 1]],
    ]


def test_kaggles_layout(kaggle, read):
    samples, rejects = read(imagenet(kaggle))
    assert rejects == []
    assert places(samples) == {
        **{f"{wnid}_10026.JPEG": ("train", wnid) for wnid in (FISH, FROG)},
        **{"ILSVRC2012_val_00000001.JPEG": ("val", FROG), "ILSVRC2012_val_00000002.JPEG": ("val", FISH)},
        **{f"ILSVRC2012_test_0000000{i}.JPEG": ("test", None) for i in (1, 2)},
    }


def test_val_sorted_into_class_folders_and_photos_beside_no_split_folder(kaggle, read, tmp_path, save_photo):
    data = kaggle / "ILSVRC/Data/CLS-LOC"
    (data / f"val/{FISH}").mkdir()
    (data / "val/ILSVRC2012_val_00000001.JPEG").rename(data / f"val/{FISH}/ILSVRC2012_val_00000001.JPEG")
    assert places(read(imagenet(kaggle))[0])["ILSVRC2012_val_00000001.JPEG"] == ("val", FISH)
    flat = save_photo("flat/ILSVRC2012_val_00000001.JPEG").parent
    shutil.copy(kaggle / "LOC_val_solution.csv", flat)
    assert places(read(imagenet(flat))[0]) == {"ILSVRC2012_val_00000001.JPEG": ("val", FROG)}


def test_photos_that_have_no_place_are_rejects(kaggle, save_photo, read):
    at = "kaggle/ILSVRC/Data/CLS-LOC"
    save_photo(f"{at}/val/ILSVRC2012_val_00000003.JPEG")
    save_photo(f"{at}/train/cats/1.JPEG")
    save_photo(f"{at}/train/2.JPEG")
    save_photo("kaggle/cover.jpg")
    (kaggle / "LOC_val_solution.csv").open("a").write("oops\n")
    samples, rejects = read(imagenet(kaggle))
    assert len(samples) == 6
    assert {(r.key.rpartition("/")[2], r.reason) for r in rejects} == {
        ("ILSVRC2012_val_00000003.JPEG", "no label in the list"),
        ("1.JPEG", "folder is not a WordNet id"),
        ("2.JPEG", "a train photo in no class folder"),
        ("cover.jpg", "outside of train, val and test"),
        ("LOC_val_solution.csv", "malformed line"),
    }
    (kaggle / "LOC_val_solution.csv").unlink()
    reasons = [r.reason for r in read(imagenet(kaggle))[1]]
    assert reasons.count("no list of val labels") == 3


def test_a_corrupt_photo_is_unreadable(tiny, read):
    path = tiny / f"train/{FISH}/images/{FISH}_0.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"^truncated file$"):
        imagenet(tiny).sample(f"train/{FISH}/images/{FISH}_0.JPEG").frames[0]


def test_splits_can_be_moved_but_official_test_stays(tiny, read):
    samples, _ = read(imagenet(tiny, val=1.0, val_as="test"))
    assert {s.split for s in samples if s.key.startswith("train/")} == {"val"}
    assert {s.split for s in samples if not s.key.startswith("train/")} == {"test"}


def test_caps_keep_the_same_photos_whatever_is_added(tiny, read, save_photo):
    def kept(**options) -> set[str]:
        return {s.key for s in read(imagenet(tiny, **options))[0]}

    two = kept(max_per_class=2)
    assert len(two) == 2 + 2 + 1 + 1 + 2
    assert kept(max_per_class=1) < two
    assert len(kept(max_samples=4)) == 4
    assert imagenet(tiny, max_samples=1, boxes=True).classes == (FISH, FROG)


def test_what_is_not_imagenet_is_one_clear_line(tmp_path, save_photo, kaggle):
    root = save_photo("photos/cat/a.jpg").parents[1]
    with pytest.raises(ValueError, match="give the folder around train, val and test") as info:
        imagenet(root)
    assert "\n" not in str(info.value)
    with pytest.raises(ValueError, match="no boxes of Tiny-ImageNet here; set boxes: false"):
        imagenet(kaggle, boxes=True)
