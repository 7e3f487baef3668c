"""What all sources share: parts, the names that are chosen, and frames that are decoded when indexed."""

from __future__ import annotations

import pytest

from lvmlite.data.sources.base import REJECTS, LazyFrames, Part, Reject, chosen_of, parts_of


class Counted(LazyFrames):
    """Frame t of five is {"image": t}; `decoded` lists those asked for."""

    def __init__(self):
        self.decoded = []

    def __len__(self):
        return 5

    def frame(self, t):
        self.decoded.append(t)
        return {"image": t}


def test_frames_are_decoded_when_indexed_and_no_others():
    frames = Counted()
    assert (frames[1], frames[-1], frames[1:4:2]) == ({"image": 1}, {"image": 4}, [{"image": 1}, {"image": 3}])
    assert frames.decoded == [1, 4, 1, 3]
    assert [frame["image"] for frame in frames] == list(range(5))
    for t in (5, -6):
        with pytest.raises(IndexError):
            frames[t]


def test_the_chosen_stay_chosen_whatever_is_added():
    names = [f"{i}.png" for i in range(200)]
    few, more = chosen_of(names[:100], 10), chosen_of(names, 20)
    assert len(few) == 10
    assert chosen_of(reversed(names[:100]), 10) == few
    assert sorted(more & set(names[:100])) == sorted(chosen_of(names[:100], len(more & set(names[:100]))))
    assert chosen_of(names, 1) <= chosen_of(names, 2) <= more
    assert chosen_of(names, None) == set(names)
    assert chosen_of(["\udcff", "a"], 2) == {"\udcff", "a"}  # what is left of a name that is no Unicode


def test_parts_know_what_decides_their_samples():
    names, seen = list("abcde"), dict.fromkeys("abcde", 0)
    parts = parts_of(names, 2, [], lambda some: [seen[name] for name in some])
    assert [(part.name, part.items) for part in parts] == [
        ("00000", ("a", "b")),
        ("00001", ("c", "d")),
        ("00002", ("e",)),
    ]
    seen["c"] = 1
    after = parts_of(names, 2, [], lambda some: [seen[name] for name in some])
    assert [a == b for a, b in zip(parts, after, strict=True)] == [True, False, True]


def test_rejects_are_a_part_before_the_others_if_there_are_any():
    reject = Reject("b", "broken link")
    assert parts_of(["a"], 9, [reject]) == [Part(REJECTS, (reject,)), Part("00000", ("a",))]
    assert parts_of(["a"], 9, []) == [Part("00000", ("a",))]
