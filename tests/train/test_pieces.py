"""Pieces: however a tensor was cut, any block of it is read back; what is not needed is not read."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from lvmlite.data.store import write_json
from lvmlite.train.pieces import Piece, Pieces, describe, merge, piece_of, snapshot

DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)


def write(folder: Path, ranks: list[dict[str, Piece]]) -> Pieces:
    """A folder as ranks with these pieces write it."""
    index: dict[str, dict[str, Any]] = {}
    for rank, pieces in enumerate(ranks):
        file = f"rank-{rank}.safetensors"
        save_file({n: p.tensor.contiguous() for n, p in pieces.items() if p.tensor.numel()}, folder / file)
        merge(index, describe(pieces, file))
    write_json(folder / "index.json", index)
    return Pieces(folder)


def cut(tensor: Tensor, edges: list[list[int]]) -> list[Piece]:
    """A tensor in blocks; edges: along each dimension where they begin, from 0 on, and its size."""
    blocks = []
    for ranges in product(*(pairwise(along) for along in edges)):
        block = tensor[tuple(slice(a, b) for a, b in ranges)]
        blocks.append(Piece(block, tuple(a for a, _ in ranges), tuple(tensor.shape)))
    return blocks


@st.composite
def cut_tensors(draw: st.DrawFn) -> tuple[Tensor, list[list[int]], list[tuple[int, int]]]:
    """A tensor, where it is cut (some pieces empty), and a block to read."""
    shape = draw(st.lists(st.integers(0, 7), max_size=3))
    values = torch.arange(torch.Size(shape).numel()).reshape(shape)
    edges = [[0, *sorted(draw(st.lists(st.integers(0, size), max_size=3))), size] for size in shape]
    block = [sorted((draw(st.integers(0, size)), draw(st.integers(0, size)))) for size in shape]
    return values.to(draw(st.sampled_from(DTYPES))), edges, [(low, high) for low, high in block]


@settings(max_examples=150, deadline=None)
@given(cut_tensors(), st.integers(1, 4))
def test_any_block_is_read_back(case: tuple[Tensor, list[list[int]], list[tuple[int, int]]], n_ranks: int) -> None:
    tensor, edges, block = case
    blocks = cut(tensor, edges)
    # a rank holds one piece of a tensor: further ones go to further ranks
    ranks = [{"x": piece} for piece in blocks] + [{} for _ in range(n_ranks)]
    with TemporaryDirectory() as folder:
        found = write(Path(folder), ranks)
        assert (found.shape("x"), found.dtype("x")) == (tuple(tensor.shape), tensor.dtype)
        whole = found["x"]
        assert whole.dtype == tensor.dtype
        assert whole.equal(tensor)
        part = found.read("x", [low for low, _ in block], [high - low for low, high in block])
        assert part.equal(tensor[tuple(slice(low, high) for low, high in block)])


def test_only_the_files_that_are_needed_are_opened(tmp_path: Path) -> None:
    x = torch.arange(12.0).reshape(6, 2)
    found = write(tmp_path, [{"x": piece} for piece in cut(x, [[0, 2, 4, 6], [0, 2]])])
    (tmp_path / "rank-2.safetensors").unlink()
    assert found.read("x", (1, 0), (3, 2)).equal(x[1:4])
    with pytest.raises(FileNotFoundError):
        found.read("x")


def test_a_tensor_is_filled_in_its_own_layout(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 4, 5)
    found = write(tmp_path, [{"x": piece} for piece in cut(x, [[0, 2], [0, 1, 3], [0, 4], [0, 5]])])
    mine = torch.zeros(2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last)
    found.read_into("x", mine)
    assert mine.is_contiguous(memory_format=torch.channels_last)
    assert mine.equal(x.double())
    parameter = torch.nn.Parameter(torch.zeros(2, 3, 4, 5))
    found.read_into("x", parameter)
    assert parameter.equal(x)
    with pytest.raises(ValueError, match=r"x has shape \(2, 3, 4, 5\), expected \(2, 3, 4, 6\)"):
        found.read_into("x", torch.zeros(2, 3, 4, 6))


def test_a_tensor_with_a_piece_missing_is_refused(tmp_path: Path) -> None:
    x = torch.arange(6)
    found = write(tmp_path, [{"x": piece} for piece in cut(x, [[0, 2, 6]])[1:]])
    assert found.read("x", (2,), (4,)).equal(x[2:])
    with pytest.raises(ValueError, match=r"x is not whole \(4 of 6 values\)"):
        found.read("x")
    with pytest.raises(ValueError, match="not whole"):  # beyond the end
        found.read("x", (4,), (3,))


def test_ranks_must_agree_on_a_tensor() -> None:
    index: dict[str, dict[str, Any]] = {}
    merge(index, describe({"x": Piece(torch.zeros(2), (0,), (4,))}, "a"))
    with pytest.raises(AssertionError, match="x differs"):
        merge(index, describe({"x": Piece(torch.zeros(2, dtype=torch.int64), (2,), (4,))}, "b"))


def test_names_under_a_prefix(tmp_path: Path) -> None:
    tensors = {"net/a": torch.zeros(2), "net/b": torch.ones(3), "other": torch.tensor(5)}
    found = write(tmp_path, [snapshot(tensors)[0]])
    net = found.under("net/")
    assert list(net) == ["a", "b"]
    assert net["b"].equal(torch.ones(3))
    assert (len(found), "other" in found, "other" in net, "a" in net) == (3, True, False, True)
    assert found["other"].item() == 5
    with pytest.raises(KeyError):
        found["a"]


def test_a_snapshot_stays_as_it_was() -> None:
    x = torch.rand(4, 4).t()
    before = x.clone()
    tensors = {"x": x, "part": x[1:3], "p": torch.nn.Parameter(x), "n": torch.tensor(7), "none": torch.zeros(0, 3)}
    taken, _ = snapshot(tensors)
    x.zero_()
    assert taken["x"].tensor.equal(before)
    assert taken["part"].tensor.equal(before[1:3])
    assert taken["p"].tensor.equal(before)
    assert taken["n"].tensor.item() == 7
    assert taken["none"].tensor.shape == (0, 3)
    assert all(piece.tensor.is_contiguous() and not piece.tensor.requires_grad for piece in taken.values())


def test_the_next_snapshot_takes_the_room_of_the_last() -> None:
    x = {"a": torch.rand(3, 5), "b": torch.arange(7), "c": torch.rand(9).bfloat16()}
    _, room = snapshot(x)
    taken, again = snapshot({name: tensor + 1 for name, tensor in x.items()}, room)
    assert again.data_ptr() == room.data_ptr()
    assert all(piece.tensor.equal(x[name] + 1) for name, piece in taken.items())
    larger, other = snapshot({"a": torch.ones(100)}, room)
    assert other.data_ptr() != room.data_ptr()
    assert larger["a"].tensor.equal(torch.ones(100))


def test_a_plain_tensor_is_written_by_the_first_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2, 3)
    piece = piece_of(x)
    assert piece is not None
    assert (piece.tensor.data_ptr(), piece.offset, piece.shape) == (x.data_ptr(), (0, 0), (2, 3))
    monkeypatch.setattr("lvmlite.distributed.rank", lambda: 1)
    assert piece_of(x) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 3}', '{"x": {"dtype": "float32"}}', "\xff"])
def test_a_broken_index_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=r"index\.json: cannot be read \(") as caught:
        Pieces(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"index\.json: cannot be read"):
        Pieces(tmp_path / "none")
