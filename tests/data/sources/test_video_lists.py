"""The source `video_lists`: the lists of UCF-101, Kinetics and Something-Something v2, as they are published."""

from __future__ import annotations

import json
import pickle

import pytest

from lvmlite.data.sources.video_lists import VideoLists, VideoListsConfig
from lvmlite.sample import split_of


@pytest.fixture
def lists(tmp_path):
    """lists("ucf101", {"trainlist01.txt": "..."}, frame_step=2): a source of these lists and tmp_path/videos."""

    def lists(kind, texts, **options):
        for name, text in texts.items():
            (tmp_path / name).write_text(text if isinstance(text, str) else json.dumps(text))
        paths = [str(tmp_path / name) for name in texts]
        root = str(tmp_path / "videos")
        return VideoLists(
            VideoListsConfig(path=root, lists=paths, format=kind, **{"frame_step": 2, "val": 0, **options})
        )

    return lists


def about(samples):
    return [(s.key, s.group, s.split, s.category) for s in samples]


UCF = {
    "trainlist01.txt": "Archery/v_Archery_g08_c01.avi 3\r\nArchery/v_Archery_g08_c02.avi 3\r\n"
    "Biking/v_Biking_g25_c01.avi 11\n",
    "testlist01.txt": "Archery/v_Archery_g01_c01.avi\n\n",
}


def test_ucf101(lists, save_video, read, same):
    for name in ("Archery/v_Archery_g08_c01.avi", "Archery/v_Archery_g08_c02.avi", "Archery/v_Archery_g01_c01.avi"):
        save_video(name, 8)
    save_video("Biking/v_Biking_g09_c01.avi", 8)
    source = lists("ucf101", UCF)
    samples, rejects = read(source)
    assert about(samples) == [
        ("Archery/v_Archery_g08_c01.avi#000000", "Archery_g08", "train", "Archery"),
        ("Archery/v_Archery_g08_c02.avi#000000", "Archery_g08", "train", "Archery"),
        ("Archery/v_Archery_g01_c01.avi#000000", "Archery_g01", "test", "Archery"),
    ]
    assert [len(s.frames) for s in samples] == [4, 4, 4]
    assert source.frame_step == 2
    assert "UCF-101" in source.licence
    assert [(r.key, r.reason) for r in rejects] == [
        ("Biking/v_Biking_g25_c01.avi", "listed and not there"),
        (".", "in no list: 1 videos"),
    ]
    copy = pickle.loads(pickle.dumps(source))
    assert all(same(s, copy.sample(s.key)) for s in samples)


def test_a_share_of_train_is_held_out_by_group(lists, save_video):
    text = ""
    for i in range(1, 8):
        for j in (1, 2):
            name = f"Archery/v_Archery_g{i:02d}_c{j:02d}.avi"
            save_video(name, 1)
            text += f"{name} 3\n"
    videos = lists("ucf101", {"trainlist01.txt": text}, val=0.5)._videos.values()
    assert {v.split for v in videos} == {"train", "val"}
    assert all(v.split == split_of(v.group, 0.5, 0) for v in videos)


def test_kinetics(lists, save_video, read):
    head = "label,youtube_id,time_start,time_end,split\n"
    names = [
        *("---QUuC4vJs_000084_000094.mp4", "air drumming/_dbcJuKJQNs_000040_000050.mp4"),
        *("val/air_drumming/--nQbRBEz2s_000104_000114.mkv", "test/-0aaaaaaaaa_000001_000011.mp4"),
    ]
    for name in names:
        save_video(name, 4)
    train = '"air drumming",_dbcJuKJQNs,40,50,train\ntestifying,---QUuC4vJs,84.0,94,train\n'
    train += "abseiling,aaaaaaaaaaa,0,10,train\n"
    samples, rejects = read(
        lists(
            "kinetics",
            {
                "train.csv": head + train,
                "validate.csv": head.replace("split", "split,is_cc") + "air drumming,--nQbRBEz2s,104,114,validate,0\n",
                "test.csv": "youtube_id,time_start,time_end,split\n-0aaaaaaaaa,1,11,test\n",
            },
            val_as="val",
        )
    )
    assert about(samples) == [
        ("air drumming/_dbcJuKJQNs_000040_000050.mp4#000000", "_dbcJuKJQNs", "train", "air drumming"),
        ("---QUuC4vJs_000084_000094.mp4#000000", "---QUuC4vJs", "train", "testifying"),
        ("val/air_drumming/--nQbRBEz2s_000104_000114.mkv#000000", "--nQbRBEz2s", "val", "air drumming"),
        ("test/-0aaaaaaaaa_000001_000011.mp4#000000", "-0aaaaaaaaa", "test", None),
    ]
    assert [(r.key, r.reason) for r in rejects] == [("aaaaaaaaaaa_000000_000010.mp4", "listed and not there")]


SSV2 = [
    {
        "id": "78687",
        "label": "holding potato next to vicks vaporub bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks vaporub bottle"],
    }
]


def test_something_something(lists, save_video, read):
    for name in ("78687.webm", "4.webm", "5.webm"):
        save_video(name.replace("webm", "mkv"), 4).rename(
            save_video(name.replace("webm", "mkv"), 4).with_suffix(".webm")
        )
    texts = {
        "something-something-v2-train.json": SSV2,
        "something-something-v2-validation.json": [{"id": 4, "label": "x", "template": "Moving [part] of [something]"}],
        "something-something-v2-test.json": [{"id": "5"}, {"id": "6"}],
    }
    samples, rejects = read(lists("ssv2", texts, val_as="val"))
    assert about(samples) == [
        ("78687.webm#000000", "78687", "train", "Holding something next to something"),
        ("4.webm#000000", "4", "val", "Moving part of something"),
        ("5.webm#000000", "5", "test", None),
    ]
    assert [r.key for r in rejects] == ["6.webm"]
    assert [s.split for s in read(lists("ssv2", texts))[0]] == ["train", "test", "test"]


def test_a_video_listed_twice(lists, save_video, read):
    save_video("A/v_A_g01_c01.avi", 4)
    samples, rejects = read(lists("ucf101", {"trainlist01.txt": "A/v_A_g01_c01.avi 1\n" * 2}))
    assert len(samples) == 1
    assert [(r.key, r.reason) for r in rejects] == [("A/v_A_g01_c01.avi", "listed twice")]


COLUMNS = "youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize(
    ("kind", "name", "text", "message"),
    [
        ("ucf101", "classInd.txt", "1 Archery\n", "name must say train, validation or test"),
        ("ucf101", "trainlist01.txt", "A/a.avi 1\n1 Archery\n", r"trainlist01.txt, line 2: expected 'Class/v_Class"),
        ("ucf101", "trainlist01.txt", "A/../../a.avi 1\n", "line 1: expected"),
        ("kinetics", "train.csv", "label,id\n", "train.csv, line 1: no column youtube_id"),
        ("kinetics", "train.csv", "", "line 1: no column youtube_id"),
        (
            "kinetics",
            "train.csv",
            COLUMNS + "a,0,10,train\na,0\n",
            "line 3: too few columns",
        ),
        ("kinetics", "train.csv", COLUMNS + "a,0,10,dev\n", "line 2: no split 'dev'"),
        ("kinetics", "train.csv", COLUMNS + "a,0,1.5,train\n", "line 2: .*whole seconds"),
        ("kinetics", "train.csv", COLUMNS + "../a,0,1,train\n", "is no youtube_id"),
        ("ssv2", "train.json", '[{"id": "1"},\n{"id"}]', "train.json, line 2: not JSON"),
        ("ssv2", "train.json", '{"Holding something": "0"}', "train.json: expected a list"),
        ("ssv2", "train.json", '[{"id": "1"}, {"template": "x"}]', "train.json, entry 1: expected"),
        ("ssv2", "train.json", '[{"id": "1", "template": 3}]', "entry 0: template must be a text"),
        ("ssv2", "train.json", "[" * 100_000, "too deep"),
        ("ssv2", "train.json", '[{"id": "99"}]', "none of the 1 listed videos is there, such as 99.webm"),
        ("ssv2", "train.json", "[]", "none of the 0 listed videos"),
    ],
)
def test_wrong_lists_are_one_clear_line(lists, save_video, kind, name, text, message):
    save_video("1.mkv", 1)
    with pytest.raises(ValueError, match=message) as info:
        lists(kind, {name: text})
    assert "\n" not in str(info.value)


def test_wrong_settings_are_one_clear_line(lists, save_video, tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        lists("ucf101", UCF)
    save_video("Archery/v_Archery_g08_c01.avi", 1)
    with pytest.raises(ValueError, match="lists is empty"):
        lists("ucf101", {})
    with pytest.raises(ValueError, match="folds 01, 02 of UCF-101 overlap"):
        lists("ucf101", {"trainlist01.txt": UCF["trainlist01.txt"], "testlist02.txt": UCF["testlist01.txt"]})
    (tmp_path / "trainlist01.txt").write_bytes(b"\xff\xfe\x00")
    config = VideoListsConfig(path=str(tmp_path), lists=[str(tmp_path / "trainlist01.txt")], format="ucf101")
    with pytest.raises(ValueError, match="not text"):
        VideoLists(config)
    (tmp_path / "trainlist01.txt").unlink()
    with pytest.raises(ValueError, match="cannot read this list: No such file"):
        VideoLists(config)
