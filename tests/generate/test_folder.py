"""The model folder: round trip, damage of every file, replacement."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lvmlite.generate import folder as module
from lvmlite.generate.folder import export_model, read_model

from .conftest import KINDS, K, S, parts

FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "lvmlite.json",
    "codes.safetensors",
    "tokenizer/config.json",
    "tokenizer/model.safetensors",
    "prompts/edges/0-image.png",
    "prompts/edges/1-annotation.png",
    "prompts/edges/licence.txt",
]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_round_trip(model_folder: Path) -> None:
    given, got = parts(), read_model(model_folder)
    assert set(FILES) < set(files(model_folder))
    for name, tensor in given["tensors"].items():
        assert torch.equal(got.model.state_dict()[name], tensor)
    assert got.tokenizer.code_fingerprint == given["tokenizer"].code_fingerprint
    assert {k: got.info[k] for k in given["info"]} == given["info"]
    assert (got.info["format"], got.info["codebook_size"], got.info["tokens_per_picture"]) == (1, K, S)
    assert list(got.checked.kinds) == list(KINDS)
    assert all(np.array_equal(got.codes[k], v) for k, v in given["codes"].items())
    assert got.licences == given["licences"]
    assert len(got.prompts["edges"]) == 2
    for a, b in zip(got.prompts["edges"], given["prompts"]["edges"]):
        assert np.array_equal(a, b)


def test_the_same_model_gives_the_same_bytes(model_folder: Path, tmp_path: Path) -> None:
    export_model(tmp_path / "again", **parts())
    assert files(tmp_path / "again") == files(model_folder)


def test_private_data_leaves_no_prompts(tmp_path: Path) -> None:
    export_model(tmp_path / "model", **{**parts(), "prompts": None, "licences": None})
    got = read_model(tmp_path / "model")
    assert got.prompts == {}
    assert not (tmp_path / "model/prompts").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_every_damage_is_one_line(name: str, damage: str, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] if damage == "cut" and len(path.read_bytes()) > 40 else b"")
    with pytest.raises(ValueError, match=str(folder)) as error:
        read_model(folder)
    text = str(error.value)
    assert "\n" not in text
    part = "tokenizer" if name.startswith("tokenizer") else Path(name).name
    assert part in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format: 2 is not one of 1"),
        ({"name": None}, "name: expected text"),
        ({"geometry": {"size": 16, "fit": "croop"}}, "geometry.fit: 'croop' is not one of .* mean 'crop'"),
        ({"kinds": {"edges": {"task": "edgs"}}}, r"kinds.edges.task: 'edgs' is not one of"),
        ({"geometry": {"size": 32}}, "geometry.size of lvmlite.json is 32, the tokenizer has 16"),
        ({"code_fingerprint": "0" * 16}, "code_fingerprint of lvmlite.json is 0+, the tokenizer has"),
        ({"codebook_size": 62}, "codebook_size of lvmlite.json is 62, the model has 64"),
        ({"tokens_per_picture": 16}, "tokens_per_picture of lvmlite.json is 16, the tokenizer has 4"),
    ],
)
def test_parts_that_do_not_belong_together(
    changes: dict[str, Any], message: str, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    info = json.loads((folder / "lvmlite.json").read_text())
    (folder / "lvmlite.json").write_text(json.dumps({**info, **changes}))
    with pytest.raises(ValueError, match=message) as error:
        read_model(folder)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        export_model(tmp_path / "other", **parts(**changes))
    assert not (tmp_path / "other").exists()


def test_keys_of_a_later_version_are_passed_over(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    info = json.loads((folder / "lvmlite.json").read_text())
    (folder / "lvmlite.json").write_text(json.dumps({**info, "mood": "good"}))
    assert read_model(folder).info["mood"] == "good"


def test_an_older_model_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    export_model(folder, **parts())
    export_model(folder, **{**parts(name="second"), "prompts": None})
    assert read_model(folder).info["name"] == "second"
    assert not (folder / "prompts").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_export_that_fails_leaves_the_older_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    export_model(folder, **parts())
    before = files(folder)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_tokenizer", full_disk)
        with pytest.raises(OSError, match="No space left"):
            export_model(folder, **parts(name="second"))
    assert files(folder) == before
    export_model(folder, **parts(name="third"))
    assert read_model(folder).info["name"] == "third"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"precious")
    (tmp_path / "file").write_text("precious")
    for name in ("photos", "file"):
        with pytest.raises(ValueError, match=f"{name}: exists and is not a model folder"):
            export_model(tmp_path / name, **parts())
    assert (tmp_path / "photos/a.jpg").read_bytes() == b"precious"
    (tmp_path / "empty").mkdir()
    export_model(tmp_path / "empty", **parts())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licences": {}}, "prompts of kind 'edges' have no licence"),
        ({"licences": {"edges": " "}}, "prompts of kind 'edges' have no licence"),
        ({"codes": {"../up": np.zeros(K, bool)}}, "kind '../up' cannot name a folder"),
        ({"codes": {"edges": np.zeros(K - 1, bool)}}, r"edges is \(63,\)"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export_model(tmp_path / "model", **{**parts(), **changes})
    assert list(tmp_path.iterdir()) == []


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        read_model(tmp_path / "nowhere")
