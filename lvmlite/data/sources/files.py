"""Files of a kind in a folder, a tar or a zip: what there is, and how to open each.

In: a path. Out: names in a fixed order, bytes or paths for `images.decode`, and a `Reject` for what was
passed over. Archives are read in place; nothing is extracted to disk. `Layout` reads classes and official
splits off the names.

A name is a POSIX path relative to the root, in valid Unicode, and is part of a sample's key.
"""

from __future__ import annotations

import io
import itertools
import lzma
import os
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from lvmlite.data.sources.base import Reject
from lvmlite.images import Unreadable

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
MAX_MEMBER_BYTES = 2**30  # of one file in an archive, unpacked: a zip bomb is refused before it is unpacked
ARCHIVE_ERRORS = (
    *(OSError, EOFError, ValueError, NotImplementedError, RuntimeError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
MAX_FILES = 1_000_000  # of one pattern: a slip of the keyboard is no year of listing
NOT_A_FILE = "not a regular file in the archive"
SPLIT_FOLDERS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}


class Files(ABC):
    """The files under `path` whose suffix is one of `suffixes`.

    Attributes:
        names: sorted, but for a compressed tar, which keeps its own order: it can only be read forward.
        rejects: unreadable folders, links that lead nowhere, and one line that counts the other files.
    """

    def __init__(self, path: Path, suffixes: Collection[str]) -> None:
        self.path = path
        self.suffixes = frozenset(suffixes)
        self.names: list[str] = []
        self.rejects: list[Reject] = []
        self._where: dict[str, Any] = {}
        self._other: Counter[str] = Counter()
        self._handle: tuple[int, Any] | None = None
        self._list()
        if self._other:
            others = sorted(self._other.items())
            kinds = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in others)
            self.rejects.append(Reject(".", f"not listed, by suffix: {kinds}"))

    @abstractmethod
    def _list(self) -> None:
        """Fill names, _where, rejects."""

    @abstractmethod
    def open(self, name: str) -> bytes | Path:
        """Bytes of the file, or the path of a real one. Raises Unreadable."""

    def read(self, name: str) -> bytes:
        """Bytes of the file. Raises Unreadable."""
        found = self.open(name)
        if isinstance(found, bytes):
            return found
        try:
            return found.read_bytes()
        except OSError as error:
            raise Unreadable(f"cannot read: {error.strerror}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def _add(self, raw: str, where: Any) -> None:
        """List a file by the name the system gives it, unless hidden or of another suffix."""
        name = os.fsencode(raw).decode("utf-8", "backslashreplace")
        parts = name.split("/")
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return
        suffix = posixpath.splitext(name)[1].lower()
        if suffix not in self.suffixes:
            self._other[suffix] += 1
        elif name in self._where:
            self.rejects.append(Reject(name, "a second file of the same name"))
        else:
            self._where[name] = where
            self.names.append(name)

    def _opened(self) -> Any:
        """The archive, opened once a process: forked processes must not share a file position."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), self._open_archive())
        return self._handle[1]

    def _open_archive(self) -> Any:
        """A fresh handle; only archives have one."""
        raise AssertionError("a folder is not opened")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def __del__(self) -> None:
        if self.__dict__.get("_handle"):
            self._handle[1].close()  # type: ignore[index]


class Folder(Files):
    """A folder, with all below it. Symbolic links are followed; each real folder is listed once."""

    def _list(self) -> None:
        seen: set[tuple[int, int]] = set()
        links: list[str] = []
        self._walk("", seen, links)
        while links:  # real folders first, so that a link never takes their names
            self._walk(links.pop(0), seen, links)
        self.names.sort()

    def _walk(self, top: str, seen: set[tuple[int, int]], links: list[str]) -> None:
        stack = [top]
        while stack:
            folder = stack.pop()
            try:
                at = os.stat(self.path / folder)
                if (at.st_dev, at.st_ino) in seen:
                    self._reject(folder, "a link to a folder already listed")
                    continue
                seen.add((at.st_dev, at.st_ino))
                with os.scandir(self.path / folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if not folder:
                    raise ValueError(f"{self.path}: cannot list this folder: {error.strerror}") from error
                self._reject(folder, f"unreadable folder: {error.strerror}")
                continue
            folders = []
            for entry in found:
                if entry.name.startswith("."):
                    continue
                name = posixpath.join(folder, entry.name)
                kind = self._kind(entry)
                if kind == "folder" and entry.is_symlink():
                    links.append(name)
                elif kind == "folder":
                    folders.append(name)
                elif kind == "file":
                    self._add(name, name)
                else:
                    self._reject(name, kind)
            stack += reversed(folders)

    @staticmethod
    def _kind(entry: os.DirEntry[str]) -> str:
        """ "folder", "file", or why it is neither."""
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            return f"{'broken link' if entry.is_symlink() else 'unreadable'}: {error.strerror}"
        return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "not a regular file"

    def _reject(self, raw: str, reason: str) -> None:
        self.rejects.append(Reject(os.fsencode(raw).decode("utf-8", "backslashreplace"), reason))

    def open(self, name: str) -> Path:
        return self.path / self._where[name]


class Tar(Files):
    """A tar. Members are found once; an uncompressed one is then read at their offsets, in any order."""

    def _list(self) -> None:
        try:
            with tarfile.open(self.path, "r:*") as tar:
                assert tar.fileobj is not None
                self.compressed = not isinstance(tar.fileobj, io.BufferedReader)
                try:
                    self._members(tar)
                except ARCHIVE_ERRORS as error:
                    self.rejects.append(Reject(self.path.name, f"archive damaged or cut short: {error}"))
        except ARCHIVE_ERRORS as error:
            raise ValueError(f"{self.path}: cannot be read as a tar archive: {error}") from error
        if not self.compressed:
            self.names.sort()

    def _members(self, tar: tarfile.TarFile) -> None:
        for member in walk_tar(tar):
            name = clean_name(member.name)
            if is_file(member):
                self._add(name, (member.offset_data, member.size))
            else:
                self.rejects.append(Reject(name, NOT_A_FILE))

    def _open_archive(self) -> Any:
        return tarfile.open(self.path, "r:*").fileobj if self.compressed else open(self.path, "rb")

    def open(self, name: str) -> bytes:
        offset, size = self._where[name]
        if size > MAX_MEMBER_BYTES:
            raise Unreadable(f"too large: more than {MAX_MEMBER_BYTES} bytes")
        try:
            file = self._opened()
            file.seek(offset)
            data: bytes = file.read(size)
        except ARCHIVE_ERRORS as error:
            raise Unreadable("damaged archive") from error
        return data


def walk_tar(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a tar but for folders, in its order; none is kept. Raises ARCHIVE_ERRORS where it is damaged."""
    while (member := tar.next()) is not None:
        if not member.isdir():
            yield member
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile's own index, many times the size of ours
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("something other than a member's header")


def is_file(member: tarfile.TarInfo) -> bool:
    """Whether its bytes stand in the archive as they are: no link, no device, no sparse file."""
    return member.isreg() and not member.issparse()


class Zip(Files):
    """A zip."""

    def _list(self) -> None:
        try:
            with zipfile.ZipFile(self.path) as archive:
                for info in archive.infolist():
                    name = clean_name(info.filename)
                    if info.flag_bits & 1:
                        self.rejects.append(Reject(name, "encrypted in the archive"))
                    elif not info.is_dir():
                        self._add(name, info)
        except ARCHIVE_ERRORS as error:
            raise ValueError(f"{self.path}: cannot be read as a zip archive: {error}") from error
        self.names.sort()

    def _open_archive(self) -> Any:
        return zipfile.ZipFile(self.path)

    def open(self, name: str) -> bytes:
        info = self._where[name]
        if info.file_size > MAX_MEMBER_BYTES:
            raise Unreadable(f"too large: more than {MAX_MEMBER_BYTES} bytes")
        try:
            data: bytes = self._opened().read(info)
        except ARCHIVE_ERRORS as error:
            raise Unreadable("damaged archive") from error
        return data


def clean_name(member: str) -> str:
    """ "./a/../b//c.jpg" of an archive -> "b/c.jpg": never outside of it."""
    return posixpath.normpath("/" + member.replace("\\", "/")).lstrip("/")


def find_files(path: str, suffixes: Collection[str], what: str) -> Files:
    """List a folder or an archive.

    Raises:
        ValueError: no such path, an unreadable archive, or not one file of these suffixes.
    """
    root = Path(path).expanduser()
    if root.is_dir():
        files: Files = Folder(root, suffixes)
    elif not root.exists():
        raise ValueError(f"{path}: no such file or folder; give a folder or archive of {what}")
    elif root.name.lower().endswith(".zip"):
        files = Zip(root, suffixes)
    elif root.name.lower().endswith(ARCHIVES):
        files = Tar(root, suffixes)
    else:
        raise ValueError(f"{path}: not a folder, nor an archive ({', '.join(ARCHIVES)}) of {what}")
    if not files.names:
        raise ValueError(f"{path}: no {what} found (looked for {', '.join(sorted(suffixes))})")
    return files


def list_files(path: str, suffixes: Collection[str], what: str) -> tuple[dict[str, Path], list[Reject]]:
    """Name -> path of the files of a folder, of one file or of a pattern, in a fixed order, and what was passed over.

    Names are relative to the folder, or to the part of the pattern before the first brace.

    Raises:
        ValueError: none is there.
    """
    root = Path(path).expanduser()
    rejects: list[Reject] = []
    if root.is_dir():
        folder = Folder(root, suffixes)
        found, rejects = {name: folder.open(name) for name in folder.names}, folder.rejects
    elif root.is_file():
        found = {root.name: root}
    elif "{" in path:
        base = posixpath.dirname(path.partition("{")[0])
        paths = {name: Path(base).expanduser() / name for name in expand(path[len(base) :].lstrip("/"))}
        found = {name: file for name, file in paths.items() if file.is_file()}
        rejects = [Reject(name, "no such file") for name in paths if name not in found]
    else:
        raise ValueError(f"{path}: no such file or folder; give a folder, a file or a pattern of {what}")
    if not found:
        raise ValueError(f"{path}: no {what} found (looked for {', '.join(sorted(suffixes))})")
    return found, rejects


def expand(pattern: str) -> list[str]:
    """``"{train,val}/{08..10}.tar"`` -> "train/08.tar", "train/09.tar", ... Ranges keep the zeros of their first end.

    Raises:
        ValueError: more than `MAX_FILES` names.
    """
    pieces: list[Sequence[str]] = []
    for piece in re.split(r"(\{[^{}]*\})", pattern):
        ends = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece)
        if ends:
            numbers = range(int(ends[1]), int(ends[2]) + 1)
            if len(numbers) > MAX_FILES:
                raise ValueError(f"{pattern}: {piece} is more than {MAX_FILES} files")
            pieces.append([f"{i:0{len(ends[1])}d}" for i in numbers])
        else:
            pieces.append(piece[1:-1].split(",") if piece.startswith("{") else [piece])
    if prod(map(len, pieces)) > MAX_FILES:
        raise ValueError(f"{pattern}: more than {MAX_FILES} files")
    return list(dict.fromkeys(map("".join, itertools.product(*pieces))))


class Layout:
    """Classes and official splits, as folders name them.

    A folder around everything is passed over. The next are official splits if all files lie in folders named
    train, val, valid, validation or test, of which train and another are there; so a class "train"
    beside "boat" is a class, and a lone "train" leaves the split to the hash. The class is the name of the
    folder a file lies in, if that is neither the root nor a split.
    """

    def __init__(self, names: Sequence[str]) -> None:
        folders = {tuple(name.split("/")[:-1]) for name in names}
        self.depth = 0
        while len(tops := {f[self.depth : self.depth + 1] for f in folders}) == 1:
            (top,) = tops
            if not top or (top[0].lower() not in SPLIT_FOLDERS and any(len(f) == self.depth + 1 for f in folders)):
                break  # the root, or the one class there is
            self.depth += 1
        splits = {SPLIT_FOLDERS.get(top[0].lower()) if top else None for top in tops}
        self.official = None not in splits and "train" in splits and len(splits) > 1

    def split(self, name: str) -> str | None:
        """The official split, or None."""
        return SPLIT_FOLDERS[name.split("/")[self.depth].lower()] if self.official else None

    def category(self, name: str) -> str | None:
        """The class folder, or None."""
        folders = name.split("/")[self.depth + self.official : -1]
        return folders[-1] if folders else None
