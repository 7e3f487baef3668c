"""What is said of a store and drawn from it: counts, the mix, damaged files, and sheets of the very cells it names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.toys import SIZE, Made, ToyTokenizer, make_store, number_of
from PIL import Image

from lvmlite import tokenizers
from lvmlite.cli import main
from lvmlite.data.parts import write_rejects
from lvmlite.data.sentences import PairsConfig, SingleConfig, VideoConfig
from lvmlite.data.store import Store
from lvmlite.data.stream import Stream, StreamConfig
from lvmlite.stores import _first_of_batch, default_mix, describe, describe_mix, preview
from lvmlite.tokenizers.base import decode_tokens

SHARDS = [
    ("a", "train", [1] * 9, {"image": 1, "seg": 2}),
    ("clips", "train", [5, 2, 7], {"image": 1}),
    ("a", "val", [1], {"image": 1, "seg": 2}),
]
MIX = StreamConfig([PairsConfig(pairs=2, share=0.6), VideoConfig(pictures=4, strides=[3], share=0.4)], pictures=4)
RECIPE = """\
name: toys
out: run
data: {sources: [{source: photos, name: a, path: photos}, {source: videos, name: clips, path: clips, frame_step: 1}],
       kinds: {seg: {task: colourisation}}, only: {clips: []}, geometry: {size: 8}}
model: {dim: 32, hidden_dim: 64, n_heads: 2, n_layers: 2, max_seq_len: 64}
stages:
  - name: one
    data: {pictures: 1, sentences: [{sentence: single}]}
  - name: two
    data:
      pictures: 4
      sentences: [{sentence: pairs, pairs: 2, share: 0.6}, {sentence: video, pictures: 4, strides: [3], share: 0.4}]
    train: {batch_size: 5}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_store(tmp_path / "run" / "tokens", SHARDS, ToyTokenizer().code_fingerprint)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit code, output and errors of `lvmlite data ...`; a tokenizer's folder is its shift, "0" the store's own."""
    monkeypatch.setattr(tokenizers, "load_tokenizer", lambda folder: ToyTokenizer(int(folder)))

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["data", *map(str, words)])
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def stream(made: Made, config: StreamConfig = MIX, split: str = "train") -> Stream:
    return Stream([made.store], split, config, 0, 5)


def test_a_store_is_described_by_source_split_and_kinds(made: Made) -> None:
    faults = [{"source": "a", "key": str(i), "reason": "not a picture"} for i in range(3)]
    write_rejects(made.store.path, faults)
    lines = [" ".join(line.split()) for line in describe(made.store)]
    assert lines[0].endswith("tokens: tokens, 8 px, squash")
    assert lines[1].startswith("132 tokens: 44 pictures of 3; 64 codes, tokenizer ")
    assert lines[2:] == [
        "a train 9 samples 9 frames image, seg x 2",
        "a val 1 samples 1 frames image, seg x 2",
        "clips train 3 samples 14 frames image",
        "licence of a: CC0-1.0",
        "licence of clips: CC0-1.0",
        "rejected of a: 3 x not a picture",
    ]


def test_a_mix_is_described_by_its_shares_and_what_is_left_out(made: Made) -> None:
    lines = [" ".join(line.split()) for line in describe_mix(stream(made))]
    # 300 of 1,000 slots x 5 a batch x 2 items a sentence: 9 items last 9 / 3 batches; 2 clips at 400 slots last 1
    assert lines[1:] == [
        "discriminative/a/seg 30.0% 300 4 9 3.0",
        "generative/a/seg 30.0% 300 4 9 3.0",
        "video 40.0% 400 4 2 1.0",
        "left out: 1 x fewer than 4 frames",
        "padding 0.0% of positions; slots are of 1,000",
    ]


def test_a_clip_too_short_for_a_stride_is_read_at_the_largest_that_fits(made: Made) -> None:
    """Of 7 frames 4 at stride 2, of 5 at stride 1; the one of 2 frames is left out."""
    config = StreamConfig([VideoConfig(pictures=4, strides=[3])], pictures=4)
    steps = set()
    for index in range(20):
        for group in stream(made, config).sentences(index)[1]:
            steps |= {(int(row[0] >= 7), *np.diff(row).tolist()) for row in group.rows}
    assert steps == {(0, 1, 1, 1), (1, 2, 2, 2)}


def test_padding_is_that_of_the_batches(made: Made) -> None:
    config = StreamConfig([SingleConfig(share=0.5), VideoConfig(pictures=4, strides=[1], share=0.5)], pictures=7)
    batches = [stream(made, config).batch(i) for i in range(200)]
    padding = np.mean([batch.document == -1 for batch in batches])
    assert describe_mix(stream(made, config))[-1].startswith(f"padding {padding:.1%} of positions")
    assert padding > 0.1


def test_without_a_recipe_pairs_videos_and_whole_samples_are_shown(made: Made, tmp_path: Path) -> None:
    assert [entry.sentence for entry in default_mix(made.store, "train").sentences] == ["pairs", "whole"]
    assert [entry.sentence for entry in default_mix(made.store, "val").sentences] == ["pairs", "whole"]
    about = {"clips": {"frame_step": 7}}  # no stride that could be guessed
    long = make_store(tmp_path / "long", [("clips", "val", [9], {"image": 1})], about=about)
    assert [entry.sentence for entry in default_mix(long.store, "val").sentences] == ["video"]
    with pytest.raises(ValueError, match="no sample of at most 8 pictures in the test split"):
        default_mix(long.store, "test")


def cells_of(sheet: np.ndarray, rows: int, columns: int, scale: int) -> np.ndarray:
    """The number that the middle colour of each picture of a sheet with labels stands for: (rows, columns)."""
    side, pad, foot = SIZE * scale, 2, 15
    left = sheet.shape[1] - columns * (side + pad)
    ys = [pad + r * (side + foot + pad) + side // 2 for r in range(rows)]
    xs = [left + c * (side + pad) + side // 2 for c in range(columns)]
    assert sheet.shape[0] == pad + rows * (side + foot + pad)
    return number_of(sheet[np.ix_(ys, xs)])[..., 0]


@pytest.mark.parametrize(("scale", "shown"), [(4, 4), (None, 12)])
def test_a_preview_shows_the_cells_of_the_stream(made: Made, scale: int | None, shown: int) -> None:
    """Three types in turn, each type's sentences in the order of use; unlabelled space is white."""
    drawn = stream(made)
    sheet = preview(drawn, 7, ToyTokenizer(), scale)
    numbers = cells_of(sheet, 7, 4, shown)
    expected: list[list[list[int]]] = [[], [], []]
    for index in range(10):
        for group in drawn.sentences(index)[1]:
            names = [[drawn.columns.names[c] for c in row] for row in group.columns]
            for row, cells in zip(group.rows.tolist(), names, strict=True):
                found = [(shard.info.name, kind, v, r) for (shard, kind, v), r in zip(cells, row, strict=True)]
                expected[group.type].append([made.pictures.index(cell) for cell in found])
    assert numbers.tolist() == expected[0][:3] + expected[1][:2] + expected[2][:2]


@pytest.mark.parametrize("index", [0, 7])
def test_a_batch_is_drawn_again_slot_by_slot(made: Made, index: int) -> None:
    """What a log's `bad_batch` names: the codes of the batch itself, in its order."""
    drawn = stream(made)
    n = 5
    numbers = cells_of(preview(drawn, n, ToyTokenizer(), 4, index), n, 4, 4)
    codes = drawn.codes(index)[:n].reshape(n * 4, drawn.tokens_per_picture)
    pictures = decode_tokens(ToyTokenizer(), codes)
    assert numbers.tolist() == number_of(pictures[:, SIZE // 2, SIZE // 2]).reshape(n, 4).tolist()
    assert len({t for t, *_ in _first_of_batch(drawn, n, index)}) > 1  # types are mixed within a batch


def test_the_command_previews_by_the_recipe_beside_the_store(made: Made, tmp_path: Path, run: Run) -> None:
    (tmp_path / "run" / "recipe.yaml").write_text(RECIPE)
    out = tmp_path / "new" / "sheet.png"
    words = ["preview", made.store.path, "--tokenizer", "0", "-o", out, "-n", "6", "--scale", "5"]
    assert run(*words) == (0, f"{out}\n", "")
    sheet = np.asarray(Image.open(out))
    assert set(cells_of(sheet, 6, 4, 5)[4:].ravel()) <= made.numbers(shard="clips")
    assert set(cells_of(sheet, 6, 4, 5)[:4].ravel()) <= made.numbers(shard="a.0")
    assert run(*words, "--seed", "1")[0] == 0
    assert not np.array_equal(sheet, np.asarray(Image.open(out)))
    assert run(*words, "--split", "val")[0] == 0  # where no clips are
    assert set(cells_of(np.asarray(Image.open(out)), 6, 4, 5).ravel()) <= made.numbers(shard="a.2")
    assert run(*words, "--stage", "one", "--split", "val")[0] == 0
    single = cells_of(np.asarray(Image.open(out)), 6, 1, 5)
    assert set(single.ravel()) <= made.numbers(shard="a.2", kind="image")


def test_the_command_shows_a_batch_as_it_was_trained(made: Made, tmp_path: Path, run: Run) -> None:
    (tmp_path / "run" / "recipe.yaml").write_text(RECIPE + "seed: 3\n")
    out = tmp_path / "sheet.png"
    words = ["preview", made.store.path, "--tokenizer", "0", "-o", out, "-n", "5", "--scale", "4"]
    assert run(*words, "--batch", "2", "--stage", "two") == (0, f"{out}\n", "")
    trained = Stream([made.store], "train", MIX, 3, 5)
    shown = np.asarray(Image.open(out))
    assert np.array_equal(shown, preview(trained, 5, ToyTokenizer(), 4, 2))
    code, _, said = run(*words, "--batch", "-1")
    assert (code, said.count("\n")) == (2, 1)


def test_previews_that_cannot_be_are_one_line(made: Made, tmp_path: Path, run: Run) -> None:
    info = json.loads((made.store.path / "store.json").read_text())
    pixels = tmp_path / "pixels"
    shutil.copytree(made.store.path, pixels)
    (pixels / "store.json").write_text(json.dumps(info | {"content": "pixels", "grid": None, "code_fingerprint": None}))
    out, store, own = tmp_path / "x.png", made.store.path, ["--tokenizer", "0"]
    for words, said in (
        ([pixels, *own], "holds pixels, not tokens; name a store of tokens"),
        ([store, *own, "--split", "foo"], "no foo split; there is train, val"),
        ([store, "--tokenizer", "1"], "its tokens were written by another tokenizer"),
        ([store], "no tokenizer beside it; name the one that wrote it with --tokenizer DIR"),
        ([store, *own, "-n", "0"], "-n and --scale are at least 1"),
        ([store, *own, "--scale", "0"], "-n and --scale are at least 1"),
        ([store, *own, "-o", tmp_path / "x.jpg"], "x.jpg: a picture is written as .png"),
        ([store, *own, "--recipe", tmp_path / "none.yaml"], "none.yaml"),
        ([tmp_path, *own], "not a finished store"),
    ):
        code, printed, errors = run("preview", "-o", out, *words)
        assert (code, printed, errors.count("\n")) == (2, "", 1), errors
        assert said in errors
    assert not list(tmp_path.glob("x.*"))


def test_inspect_shows_the_mix_of_every_stage_or_of_one(made: Made, tmp_path: Path, run: Run) -> None:
    (tmp_path / "run" / "recipe.yaml").write_text(RECIPE)
    code, printed, _ = run("inspect", made.store.path, "--verify")
    assert code == 0
    assert "every file matches its checksum" in printed
    assert "stage one, batches of" in printed
    assert "stage two, batches of 5 x 4 pictures" in printed
    assert printed.endswith("\n".join(describe_mix(stream(made))) + "\n")
    assert "stage one" not in run("inspect", made.store.path, "--stage", "two")[1]
    code, printed, errors = run("inspect", made.store.path, "--stage", "three")
    assert printed == "\n".join(describe(made.store)) + "\n"
    assert (code, errors) == (2, "lvmlite: no stage 'three' in the recipe; there is one, two\n")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (flip, "checksum differs"),
        (lambda file: file.write_bytes(file.read_bytes()[:-5]), "checksum differs"),
        (lambda file: file.write_bytes(b""), "checksum differs"),
        (Path.unlink, "missing"),
    ],
)
def test_verify_names_every_file_even_if_no_mix_can_be_read(
    made: Made, tmp_path: Path, run: Run, damage: Callable[[Path], None], seen: str
) -> None:
    (tmp_path / "run" / "recipe.yaml").write_text(RECIPE)
    for name in ("a.0/seg.1.npy", "clips.1/image.npy"):
        damage(made.store.path / name)
    code, printed, errors = run("inspect", made.store.path, "--verify")
    assert code == 2
    assert f"\n  a.0/seg.1.npy: {seen}\n  clips.1/image.npy: {seen}\n" in printed
    assert errors.endswith("2 files are not as written; delete what is named and build the store again\n")


def test_a_code_outside_of_the_codebook_is_a_damaged_file(made: Made, tmp_path: Path, run: Run) -> None:
    file = made.store.path / "clips.1" / "image.npy"
    data = bytearray(file.read_bytes())
    data[-1] = 0xFF
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"'video': a code 65.* in a codebook of 64: a damaged file"):
        preview(stream(made), 60, ToyTokenizer())
    (tmp_path / "run" / "recipe.yaml").write_text(RECIPE)
    for words in (["-o", tmp_path / "x.jsonl"], ["-o", tmp_path / "x.parquet"], ["-o", tmp_path / "x.bin", "-n", "60"]):
        code, _, errors = run("export", made.store.path, *words)
        assert code == 2
        assert "in a codebook of 64: a damaged file; lvmlite data inspect --verify finds it" in errors
    assert not list(tmp_path.glob("x.*"))
    assert Store.open(made.store.path).verify() == ["clips.1/image.npy: checksum differs"]
