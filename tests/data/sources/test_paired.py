"""The source `paired`: the arrangements of several data sets, how partners are read, and what has no partner."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from lvmlite.data.sources.paired import Paired, PairedConfig, Pattern
from lvmlite.images import Unreadable
from lvmlite.recipe import build, to_dict
from lvmlite.sample import split_of

from .layouts import pictures

SIZE = (12, 16)


@pytest.fixture
def save(tmp_path):
    """save("low/1.png", 3): picture number 3 below tmp_path; save(name, array) stores the array."""

    def save(name: str, what: int | np.ndarray = 0) -> Path:
        return pictures.save(tmp_path / name, pixels := picture(what) if isinstance(what, int) else what, pixels.dtype)

    return save


def picture(number: int) -> np.ndarray:
    return pictures.picture(number, SIZE)


def paired(path, image, partners, **options) -> Paired:
    return Paired(PairedConfig(str(path), image, partners, **options))


def reasons(rejects) -> dict[str, str]:
    return {reject.key: reject.reason for reject in rejects}


# --- arrangements


def test_lol_two_folders_a_split(tmp_path, save, read, same):
    for split, number in (("our485", 1), ("our485", 2), ("eval15", 1)):
        save(f"{split}/low/{number}.png", number)
        save(f"{split}/high/{number}.png", 10 * number + len(split))
    meaning = {"our485": "train", "eval15": "test"}
    source = paired(
        tmp_path, "{split}/low/{key}.png", {"target": "{split}/high/{key}.png"}, splits=meaning, val=0, name="lol"
    )
    samples, rejects = read(source)
    assert rejects == []
    assert [(s.key, s.split, s.source) for s in samples] == [
        ("eval15/1", "test", "lol"),
        ("our485/1", "train", "lol"),
        ("our485/2", "train", "lol"),
    ]
    for sample, number, length in zip(samples, (1, 1, 2), (6, 6, 6), strict=True):
        np.testing.assert_array_equal(sample.frames[0]["image"], picture(number))
        np.testing.assert_array_equal(sample.frames[0]["target"], picture(10 * number + length))
        assert same(sample, source.sample(sample.key))


def test_without_an_official_val_a_share_of_train_is_val(tmp_path, save):
    for number in range(30):
        save(f"train/a/{number}.png")
        save(f"train/b/{number}.png")
    for folder in "ab":
        save(f"test/{folder}/0.png")
    source = paired(tmp_path, "{split}/a/{key}.png", {"target": "{split}/b/{key}.png"}, val=0.3)
    splits = {key: entry.split for key, entry in source.entries.items()}
    assert splits.pop("test/0") == "test"
    assert splits == {key: split_of(key, 0.3, 0) for key in splits}
    assert set(splits.values()) == {"train", "val"}
    for folder in "ab":
        save(f"valid/{folder}/0.png")
    entries = paired(tmp_path, "{split}/a/{key}.png", {"target": "{split}/b/{key}.png"}, val=0.3).entries
    assert {entry.split for key, entry in entries.items() if key.startswith("train")} == {"train"}


def test_sidd_shots_of_a_scene_stay_together(tmp_path, save, read):
    folders = ("0001_001_S6_00100_00060_3200_L", "0002_001_S6_00100_00020_3200_N", "0014_002_GP_00100_00160_3200_L")
    for i, folder in enumerate(folders):
        save(f"Data/{folder}/NOISY_SRGB_010.PNG", i)
        save(f"Data/{folder}/GT_SRGB_010.PNG", 10 + i)
    noisy, clean = (f"Data/{{part}}_{{group}}_{{key}}/*{kind}_SRGB_*.PNG" for kind in ("NOISY", "GT"))
    samples, rejects = read(paired(tmp_path, noisy, {"target": clean}))
    assert rejects == []
    assert [(s.key, s.group) for s in samples] == [
        ("0001/001/S6_00100_00060_3200_L", "001"),
        ("0002/001/S6_00100_00020_3200_N", "001"),
        ("0014/002/GP_00100_00160_3200_L", "002"),
    ]
    np.testing.assert_array_equal(samples[2].frames[0]["target"], picture(12))


def test_sidd_medium_has_two_shots_a_folder(tmp_path, save, read):
    for shot in (10, 11):
        save(f"Data/0001_003_S6_00100_L/0001_NOISY_SRGB_0{shot}.PNG", shot)
        save(f"Data/0001_003_S6_00100_L/0001_GT_SRGB_0{shot}.PNG", 10 * shot)
    noisy, clean = (f"Data/*_{{group}}_{{key}}_{kind}_SRGB_{{part}}.PNG" for kind in ("NOISY", "GT"))
    samples, rejects = read(paired(tmp_path, noisy, {"target": clean}))
    assert rejects == []
    assert [(s.key, s.group) for s in samples] == [
        ("003/S6_00100_L/0001/010", "003"),
        ("003/S6_00100_L/0001/011", "003"),
    ]
    np.testing.assert_array_equal(samples[1].frames[0]["target"], picture(110))


def test_rain100l_one_folder_where_one_name_holds_the_other(tmp_path, save, read):
    for number in (1, 2):
        save(f"rain-{number:03d}.png", number)
        save(f"norain-{number:03d}.png", 10 + number)
    samples, rejects = read(paired(tmp_path, "rain-{key}.png", {"target": "norain-{key}.png"}))
    assert rejects == []
    assert [s.key for s in samples] == ["001", "002"]
    np.testing.assert_array_equal(samples[0].frames[0]["image"], picture(1))
    np.testing.assert_array_equal(samples[0].frames[0]["target"], picture(11))


def test_style_pairs_of_one_prompt_stay_together(tmp_path, save, read):
    for seed in (17, 23):
        save(f"shard-00/0000001/{seed}_0.png", seed)
        save(f"shard-00/0000001/{seed}_1.png", 100 + seed)
    samples, rejects = read(
        paired(tmp_path, "{part}/{group}/{key}_0.png", {"target": "{part}/{group}/{key}_1.png"}, val=0.5)
    )
    assert rejects == []
    assert [(s.key, s.group) for s in samples] == [
        ("shard-00/0000001/17", "0000001"),
        ("shard-00/0000001/23", "0000001"),
    ]
    assert samples[0].split == samples[1].split
    np.testing.assert_array_equal(samples[1].frames[0]["target"], picture(123))


def test_stereo_with_disparity_from_a_tar(tmp_path, save, read, same):
    disparity = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE) * 64
    save("left/a.png", 1)
    save("right/a.png", 2)
    save("disp/a.png", disparity)
    with tarfile.open(tmp_path / "stereo.tar", "w") as tar:
        for name in ("left", "right", "disp"):
            tar.add(tmp_path / name, name)
    partners = {"target": "right/{key}.png", "disparity": "disp/{key}.png"}
    source = paired(tmp_path / "stereo.tar", "left/{key}.png", partners, disparity_scale=256)
    assert source.annotations == ("target", "disparity")
    (sample,), rejects = read(source)
    assert rejects == []
    np.testing.assert_array_equal(sample.frames[0]["target"], picture(2))
    np.testing.assert_array_equal(sample.frames[0]["disparity"], disparity / np.float32(256))
    assert sample.frames[0]["disparity"].dtype == np.float32
    assert same(sample, pickle.loads(pickle.dumps(source)).sample("a"))


def test_camvid_counts_classes_from_zero_and_ignores_eleven(tmp_path, save, read):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4).repeat(4, 0).repeat(4, 1)
    save("images/val/0016E5_07959.png")
    save("labels/val/0016E5_07959.png", ids)
    source = paired(
        tmp_path,
        "images/{split}/{key}.png",
        {"classes": "labels/{split}/{key}.png"},
        first=1,
        ignore=[11],
        n_classes=11,
    )
    (sample,), _ = read(source)
    assert sample.split == "val"
    found = sample.frames[0]["classes"][::4, ::4].ravel()
    assert found.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]
    assert found.dtype == np.uint16


def test_boundaries_and_regions_as_pictures(tmp_path, save, read):
    drawn, regions = np.zeros(SIZE, np.uint8), np.full(SIZE, 300, np.uint16)
    drawn[3], regions[5] = 51, 255
    save("images/train/8049.png")
    save("boundaries/train/8049.png", drawn)
    save("segmentation/train/8049.png", regions)
    partners = {name: f"{folder}/{{split}}/{{key}}.png" for name, folder in (("boundaries", "boundaries"),)}
    partners["instances"] = "segmentation/{split}/{key}.png"
    (sample,), _ = read(paired(tmp_path, "images/{split}/{key}.png", partners, val=0, ignore=[255], first=1))
    frame = sample.frames[0]
    np.testing.assert_allclose(frame["boundaries"][3], 0.2)
    assert frame["boundaries"][4].max() == 0
    assert np.unique(frame["instances"]).tolist() == [0, 300]  # `first` is of classes only
    assert (frame["instances"][5] == 0).all()


def test_depth_and_normals(tmp_path, save, read):
    depth = np.full(SIZE, 1500, np.uint16)
    depth[0], depth[1] = 0, 65535
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[2:] = (128, 128, 255)
    colours[5:] = (255, 128, 128)
    save("a.png")
    save("a.depth.png", depth)
    save("a.normal.png", colours)
    source = paired(tmp_path, "{key}.png", {"depth": "{key}.depth.png", "normals": "{key}.normal.png"})
    (sample,), rejects = read(source)
    assert rejects == []  # "a.depth.png" fits "{key}.png" too, but belongs to the more literal pattern
    frame = sample.frames[0]
    assert (frame["depth"][:2] == 0).all()
    assert (frame["depth"][2:] == 1.5).all()
    assert (frame["normals"][:2] == 0).all()
    np.testing.assert_allclose(frame["normals"][3, 3], (0, 0, 1), atol=0.01)
    np.testing.assert_allclose(frame["normals"][6, 3], (1, 0, 0), atol=0.01)


def test_categories_and_any_other_name_is_a_picture(tmp_path, save, read):
    save("cat/1.in.png", 1)
    save("cat/1.out.png", 2)
    save("dog/1.in.png", 3)
    save("dog/1.out.png", 4)
    source = paired(tmp_path, "{category}/{key}.in.png", {"sketch": "{category}/{key}.out.png"})
    samples, _ = read(source)
    assert source.annotations == ("sketch",)
    assert [(s.key, s.category) for s in samples] == [("cat/1", "cat"), ("dog/1", "dog")]
    np.testing.assert_array_equal(samples[1].frames[0]["sketch"], picture(4))


def test_several_photos_of_one_truth_are_one_group(tmp_path, save, read):
    for rain in (1, 2):
        save(f"rainy/7_{rain}.png", rain)
    save("clean/7.png", 9)
    samples, rejects = read(paired(tmp_path, "rainy/{key}_{part}.png", {"target": "clean/{key}.png"}))
    assert rejects == []
    assert [(s.key, s.group) for s in samples] == [("7/1", "7"), ("7/2", "7")]
    np.testing.assert_array_equal(samples[1].frames[0]["target"], picture(9))


# --- what cannot be used


def test_missing_partners_are_rejects_and_nothing_shifts(tmp_path, save, read):
    for number in (1, 2, 3):
        save(f"low/{number}.png", number)
    for number in (2, 3, 4, 5):
        save(f"high/{number}.png", 10 + number)
    save("readme.png")
    samples, rejects = read(paired(tmp_path, "low/{key}.png", {"target": "high/{key}.png"}))
    assert [s.key for s in samples] == ["2", "3"]
    np.testing.assert_array_equal(samples[0].frames[0]["target"], picture(12))
    assert [(r.key, r.reason) for r in rejects] == [
        ("1", "partner is missing: target"),
        (".", "partners without a photo: 2 target"),
        (".", "files that fit no pattern: 1"),
    ]


def test_two_files_of_one_key_are_rejects(tmp_path, save, read):
    for name in ("a/1_x.png", "a/1_y.png", "a/2_x.png", "b/1.png", "b/2.png", "c/1_p.png", "c/2_p.png", "c/2_q.png"):
        save(name)
    partners = {"target": "b/{key}.png", "sketch": "c/{key}_*.png"}
    samples, rejects = read(paired(tmp_path, "a/{key}_*.png", partners))
    assert [s.key for s in samples] == ["1"]
    assert reasons(rejects) == {"a/1_y.png": "a second photo of the same key", "2": "two files for one photo: sketch"}


def test_sizes_and_ids_that_cannot_be(tmp_path, save):
    for number in range(4):
        save(f"photo/{number}.png")
        save(f"ids/{number}.png", np.full(SIZE, 5, np.uint8))
    save("ids/0.png", np.zeros((12, 15), np.uint8))
    save("ids/1.png", np.full(SIZE, 6, np.uint8))
    save("ids/2.png", picture(0))
    source = paired(tmp_path, "photo/{key}.png", {"classes": "ids/{key}.png"}, n_classes=5)
    found = []
    for key in source.entries:
        try:
            found.append(int(source.sample(key).frames[0]["classes"].max()))
        except Unreadable as error:
            found.append(error.reason)
    assert found == ["classes and photo differ in size", "mask with unknown ids", "not a map of ids", 5]


@pytest.mark.parametrize(
    ("image", "partners", "message"),
    [
        (
            "photos/{key}.png",
            {"target": "b/{key}.png"},
            r"image: no file fits 'photos/\{key\}.png'; there is 'a/extra/2",
        ),
        ("a/*/{key}.png", {"target": "c/{key}.png"}, r"partners.target: no file fits 'c/\{key\}.png'; there is 'a/"),
        ("a/{split}/1.png", {"target": "b/{key}.png"}, r"image: 'a/\{split\}/1.png' has no \{key\}"),
        ("a/{spilt}/{key}.png", {"target": "b/{key}.png"}, r"image: '\{spilt\}' in .* is none of \{split\}"),
        ("a/{split}/{key.png", {"target": "b/{key}.png"}, r"image: '/\{key.png' in"),
        ("a/*/{key}.png", {"boxes": "b/{key}.png"}, "partners: 'boxes' cannot be read from one picture"),
        ("a/*/{key}.png", {}, "partners: none"),
        ("a/{split}/{key}.png", {"target": "b/{key}.png"}, r"\{split\} is 'extra': say what it means"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, save, image, partners, message):
    for name in ("a/train/1.png", "a/extra/2.png", "b/1.png", "b/2.png"):
        save(name)
    with pytest.raises(ValueError, match=message) as error:
        paired(tmp_path, image, partners)
    assert "\n" not in str(error.value)


def test_a_split_must_be_one_of_ours(tmp_path, save):
    save("a/x/1.png")
    save("b/1.png")
    with pytest.raises(ValueError, match=r"splits.x: 'trian' is none of train, val, test"):
        paired(tmp_path, "a/{split}/{key}.png", {"target": "b/{key}.png"}, splits={"x": "trian"})


def test_the_config_is_read_from_a_recipe():
    config = PairedConfig("x", "{key}.png", {"classes": "{key}.gif"}, ignore=[255], splits={"a": "val"})
    assert build(PairedConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("text", "name", "places"),
    [
        ("{key}.png", "a/b/c.png", {"key": "a/b/c"}),
        ("{category}/{key}.png", "a/b/c.png", {"category": "a", "key": "b/c"}),
        ("*_{group}_*/{key}.png", "0001_002_S6_100/x.png", {"group": "002", "key": "x"}),
        ("{key}/{key}_gt.png", "7/7_gt.png", {"key": "7"}),
        ("{key}/{key}_gt.png", "7/8_gt.png", None),
        ("a.c/{key}.png", "abc/1.png", None),
        ("*/{key}.png", "a/b/c.png", {"key": "b/c"}),
    ],
)
def test_patterns(text, name, places):
    assert Pattern(text, "image").match(name) == places
