"""Listing: order, hidden and foreign files, links, unreadable folders, broken archives, classes and splits."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from lvmlite.data.sources.files import Folder, Layout, expand, find_files, list_files
from lvmlite.images import Unreadable

SUFFIXES = (".jpg", ".png")


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def tar_of(path: Path, mode: str, *names: str) -> Path:
    with tarfile.open(path, mode) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return path


def zip_of(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def rejects(files) -> dict[str, str]:
    return {reject.key: reject.reason for reject in files.rejects}


def test_a_folder_is_listed_in_order_and_the_rest_is_counted(tmp_path):
    fill(tmp_path, "b.JPG", "a/z.png", "a/c/y.jpg", "notes.txt", "a/more.txt", "README", ".hidden.jpg", ".git/x.jpg")
    files = find_files(str(tmp_path), SUFFIXES, "photos")
    assert files.names == ["a/c/y.jpg", "a/z.png", "b.JPG"]
    assert rejects(files) == {".": "not listed, by suffix: 1 without suffix, 2 .txt"}
    assert files.open("a/c/y.jpg") == tmp_path / "a/c/y.jpg"


@pytest.mark.parametrize("content", ["nothing", "only text"])
def test_a_folder_without_photos_is_one_clear_line(tmp_path, content):
    if content == "only text":
        fill(tmp_path, "a/notes.txt")
    with pytest.raises(ValueError, match=r"no photos found \(looked for \.jpg, \.png\)") as info:
        find_files(str(tmp_path), SUFFIXES, "photos")
    assert str(tmp_path) in str(info.value)
    assert "\n" not in str(info.value)


def test_a_missing_path_and_a_file_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder"):
        find_files(str(tmp_path / "missing"), SUFFIXES, "photos")
    fill(tmp_path, "a.jpg")
    with pytest.raises(ValueError, match="not a folder, nor an archive"):
        find_files(str(tmp_path / "a.jpg"), SUFFIXES, "photos")


def test_symbolic_links_loop_and_repeat_without_harm(tmp_path):
    fill(tmp_path, "real/a.jpg", "real/deep/b.jpg")
    (tmp_path / "real/deep/up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "real")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    outside = fill(tmp_path.parent / f"{tmp_path.name}-outside", "c.jpg")
    (tmp_path / "linked").symlink_to(outside)
    files = Folder(tmp_path, SUFFIXES)
    assert files.names == ["linked/c.jpg", "real/a.jpg", "real/deep/b.jpg"]
    found = rejects(files)
    assert found["again"] == found["real/deep/up"] == "a link to a folder already listed"
    assert found["gone.jpg"] == "broken link: No such file or directory"
    assert found["self"].startswith("broken link: ")


def test_a_pipe_is_not_opened(tmp_path):
    fill(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    files = Folder(tmp_path, SUFFIXES)
    assert files.names == ["a.jpg"]
    assert rejects(files) == {"b.jpg": "not a regular file"}


def test_an_unreadable_folder_is_reported_and_the_others_are_read():
    root = Path(tempfile.mkdtemp())  # not below pytest's own folder, which is closed to others
    fill(root, "open/a.jpg", "shut/b.jpg")
    root.chmod(0o755)
    (root / "shut").chmod(0)
    superuser = os.geteuid() == 0  # whom no mode stops
    if superuser:
        os.seteuid(65534)
    try:
        files = Folder(root, SUFFIXES)
        with pytest.raises(ValueError, match="cannot list this folder: Permission denied"):
            Folder(root / "shut", SUFFIXES)
    finally:
        if superuser:
            os.seteuid(0)
        (root / "shut").chmod(0o755)
        shutil.rmtree(root)
    assert files.names == ["open/a.jpg"]
    assert rejects(files) == {"shut": "unreadable folder: Permission denied"}


def test_names_that_are_not_unicode_become_valid_keys(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        file.write(b"x")
    files = Folder(tmp_path, SUFFIXES)
    assert files.names == ["caf\\xe9.jpg"]
    files.names[0].encode()
    assert files.open(files.names[0]).read_bytes() == b"x"


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"])
def test_archives_are_read_in_place_in_any_order(tmp_path, suffix):
    names = ["./b/2.jpg", "a/1.jpg", "a/notes.txt", "../../c.png", "__MACOSX/a/._1.jpg"]
    path = tmp_path / f"photos{suffix}"
    if suffix == ".zip":
        zip_of(path, *names)
    else:
        tar_of(path, {".tar": "w", ".tgz": "w:gz"}.get(suffix, f"w:{suffix[5:]}"), *names)
    files = find_files(str(path), SUFFIXES, "photos")
    kept_order = suffix not in (".tar", ".zip")
    assert files.names == (["b/2.jpg", "a/1.jpg", "c.png"] if kept_order else ["a/1.jpg", "b/2.jpg", "c.png"])
    assert rejects(files) == {".": "not listed, by suffix: 1 .txt"}
    expected = {"b/2.jpg": b"./b/2.jpg", "a/1.jpg": b"a/1.jpg", "c.png": b"../../c.png"}
    for name in [*files.names, *reversed(files.names)]:
        assert files.open(name) == expected[name]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    copy = pickle.loads(pickle.dumps(files))
    assert copy.open("a/1.jpg") == b"a/1.jpg"


def test_a_forked_process_reads_an_archive_of_its_own(tmp_path):
    """A file position shared between processes would mix up what they read."""
    files = find_files(str(tar_of(tmp_path / "a.tar", "w", "a.jpg", "b.jpg")), SUFFIXES, "photos")
    files.open("a.jpg")
    before = files._handle[1]
    child = os.fork()
    if child == 0:
        files.open("b.jpg")
        os._exit(files._handle[1] is before)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_an_archive_of_rubbish_is_one_clear_line(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(ValueError, match=r"cannot be read as a (tar|zip) archive") as info:
        find_files(str(path), SUFFIXES, "photos")
    assert str(path) in str(info.value)


def test_an_empty_archive(tmp_path):
    for path in (tar_of(tmp_path / "a.tar", "w"), zip_of(tmp_path / "a.zip")):
        with pytest.raises(ValueError, match="no photos found"):
            find_files(str(path), SUFFIXES, "photos")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_cut_in_half_gives_its_first_members_and_says_so(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with tarfile.open(path, "w:gz" if suffix == ".tar.gz" else "w") as archive:
        for i in range(6):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = 20_000
            archive.addfile(info, io.BytesIO(os.urandom(20_000)))
    path.write_bytes(path.read_bytes()[:70_000])
    files = find_files(str(path), SUFFIXES, "photos")
    assert files.names[:3] == ["0.jpg", "1.jpg", "2.jpg"]
    assert len(files.names) < 6
    assert rejects(files)[path.name].startswith("archive damaged or cut short")
    assert len(files.open("2.jpg")) == 20_000


def test_a_tar_damaged_in_the_middle_says_so(tmp_path):
    path = tar_of(tmp_path / "a.tar", "w", *(f"{i}.jpg" for i in range(6)))
    data = bytearray(path.read_bytes())
    data[3 * 1024 : 3 * 1024 + 512] = os.urandom(512)  # the header of the fourth
    path.write_bytes(data)
    files = find_files(str(path), SUFFIXES, "photos")
    assert files.names == ["0.jpg", "1.jpg", "2.jpg"]
    assert rejects(files)["a.tar"].startswith("archive damaged or cut short")


def test_damaged_and_encrypted_members_of_a_zip(tmp_path):
    path = zip_of(tmp_path / "a.zip", "a.jpg", "b.jpg")
    data = bytearray(path.read_bytes())
    data[data.index(b"a.jpg") + 5 + 2] ^= 0xFF  # inside the packed bytes of the first
    with zipfile.ZipFile(path) as archive:
        directory = archive.start_dir
    data[data.index(b"PK\x01\x02", directory + 1) + 8] |= 1  # the flag "encrypted" of the second
    path.write_bytes(data)
    files = find_files(str(path), SUFFIXES, "photos")
    assert files.names == ["a.jpg"]
    assert rejects(files) == {"b.jpg": "encrypted in the archive"}
    with pytest.raises(Unreadable, match="damaged archive"):
        files.open("a.jpg")


def test_a_zip_cut_in_half_is_one_clear_line(tmp_path):
    path = zip_of(tmp_path / "a.zip", "a.jpg", "b.jpg")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="cannot be read as a zip archive"):
        find_files(str(path), SUFFIXES, "photos")


def test_a_member_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("lvmlite.data.sources.files.MAX_MEMBER_BYTES", 3)
    for path in (zip_of(tmp_path / "a.zip", "a.jpg"), tar_of(tmp_path / "a.tar", "w", "a.jpg")):
        with pytest.raises(Unreadable, match="too large: more than 3 bytes"):
            find_files(str(path), SUFFIXES, "photos").open("a.jpg")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.jpg"], [(None, None), (None, None)]),
        (["cat/a.jpg", "dog/b.jpg", "c.jpg"], [(None, "cat"), (None, "dog"), (None, None)]),
        (["cat/a.jpg"], [(None, "cat")]),
        (["train/cat/a.jpg", "val/cat/b.jpg"], [("train", "cat"), ("val", "cat")]),
        (["train/a.jpg", "test/b.jpg", "valid/c.jpg"], [("train", None), ("test", None), ("val", None)]),
        (["set/Train/cat/a.jpg", "set/Test/dog/x/b.jpg"], [("train", "cat"), ("test", "x")]),
        (["train/a.jpg", "boat/b.jpg"], [(None, "train"), (None, "boat")]),  # a class called train
        (["train/cat/a.jpg", "train/dog/b.jpg"], [(None, "cat"), (None, "dog")]),  # nothing held out
        (["train/a.jpg", "train/b.jpg"], [(None, None), (None, None)]),
        (["train/a.jpg", "val/b.jpg", "c.jpg"], [(None, "train"), (None, "val"), (None, None)]),
    ],
)
def test_classes_and_official_splits(names, expected):
    layout = Layout(names)
    assert [(layout.split(name), layout.category(name)) for name in names] == expected


def test_patterns_expand_in_order_and_keep_their_zeros():
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{train,val}/{0..1}.tar") == ["train/0.tar", "train/1.tar", "val/0.tar", "val/1.tar"]
    assert expand("a.tar") == ["a.tar"]
    assert expand("{3..1}.tar") == []
    for pattern in ("{0..99999999999999}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(ValueError, match="more than 1000000 files"):
            expand(pattern)


def test_a_folder_a_file_and_a_pattern(tmp_path):
    for name in ("b/1.tar", "a/0.tar", "a/1.tar", "a/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    files, rejects = list_files(str(tmp_path), [".tar"], "shards")
    assert files == {name: tmp_path / name for name in ("a/0.tar", "a/1.tar", "b/1.tar")}
    assert [r.reason for r in rejects] == ["not listed, by suffix: 1 .txt"]
    assert list_files(str(tmp_path / "a/0.tar"), [".tar"], "shards") == ({"0.tar": tmp_path / "a/0.tar"}, [])
    files, rejects = list_files(f"{tmp_path}/{{a,b}}/{{0..1}}.tar", [".tar"], "shards")
    assert files == {name: tmp_path / name for name in ("a/0.tar", "a/1.tar", "b/1.tar")}
    assert [(r.key, r.reason) for r in rejects] == [("b/0.tar", "no such file")]
    for path, message in (("gone", "no such file or folder"), ("{5..6}.tar", "no shards found"), ("b/x", "no such")):
        with pytest.raises(ValueError, match=message) as info:
            list_files(str(tmp_path / path), [".tar"], "shards")
        assert "\n" not in str(info.value)


def test_folders_that_link_to_themselves_are_listed_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.tar").touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    files, rejects = list_files(str(tmp_path), [".tar"], "shards")
    assert list(files) == ["a/0.tar"]
    assert [r.reason for r in rejects] == ["a link to a folder already listed"]
