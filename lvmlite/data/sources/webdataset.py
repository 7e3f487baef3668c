"""Source `webdataset`: samples packed into tar shards, as samples of 1 x {image, annotations}.

In: shards as https://github.com/webdataset/webdataset writes them. Files of a tar that follow each other and share
their name up to the first dot of its last part are one sample, and the rest of the name is the column: "a/b.jpg",
"a/b.cls" and "a/b.mask.png" are the columns jpg, cls and mask.png of "a/b". Out: one sample each; a `Reject` for what
is no whole sample, and one for a shard that is damaged or cut short, whose whole samples before that are kept.

A shard is a part and is read forward, sample by sample: nothing about samples is held in memory but the keys of one
shard, to tell which come twice.
"""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from lvmlite.data.sources.base import Part, Reject, with_rejects
from lvmlite.data.sources.columns import ColumnsConfig, Packed, shares
from lvmlite.data.sources.files import ARCHIVE_ERRORS, MAX_MEMBER_BYTES, NOT_A_FILE, clean_name, is_file, walk_tar
from lvmlite.data.sources.photos import SUFFIXES
from lvmlite.images import Unreadable
from lvmlite.sample import Sample

SHARDS = (".tar", ".tar.gz", ".tgz")
PICTURES = tuple(suffix[1:] for suffix in SUFFIXES)
DAMAGED = "shard damaged or cut short"


@dataclass(frozen=True)
class WebDatasetConfig(ColumnsConfig):
    """Settings of `WebDataset`: those of every source of packed samples, and

    image: the column of the photo; by default the first of jpg, jpeg, png, webp, ... that a sample has.
    category: the column that names the class: cls, or json.FIELD for a field of the column json. A sample without that
        column has no category.
    """

    source: Literal["webdataset"] = "webdataset"
    name: str = "webdataset"
    image: str | None = None
    category: str = "cls"


@dataclass
class Group:
    """The files of one sample: `columns` maps the names of all to the bytes of those asked for."""

    key: str
    columns: dict[str, bytes] = field(default_factory=dict)
    too_large: bool = False


class WebDataset(Packed):
    """Samples of `WebDatasetConfig`. Nothing is drawn: `seed` is there because every source takes one."""

    def __init__(self, config: WebDatasetConfig, seed: int = 0) -> None:
        super().__init__(config, SHARDS, "tar shards")
        self._field = config.category.removeprefix("json.") if config.category.startswith("json.") else None
        self._label = "json" if self._field is not None else config.category.lower()
        columns = [column.lower() for column in config.columns]
        pictures = [name for name in PICTURES if name not in columns]
        self._pictures = [config.image.lower()] if config.image else pictures
        self._wanted = frozenset([*self._pictures, self._label, *columns])
        most = shares([config.max_samples or 1] * len(self.files), config.max_samples)
        self._most = dict(zip(self.files, most, strict=True)) if config.max_samples else {}

    def parts(self) -> list[Part]:
        """A part a shard; before them, if listing passed anything over, one part of rejects."""
        shards = ((name, path) for name, path in self.files.items() if self._most.get(name, 1))
        parts = (Part(quote(name, safe=""), (name,), str(_size(path))) for name, path in shards)
        return with_rejects(parts, self.rejects)

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        for item in part.items:
            if isinstance(item, Reject):
                yield item
            else:
                yield from self._shard(item, self._wanted)

    def sample(self, key: str) -> Sample:
        """Reads the shard up to the sample. Raises KeyError."""
        shard, inner = self.locate(key)
        for item in self._shard(shard, self._wanted, inner):
            if item.key == key and isinstance(item, Sample):
                return item
        raise KeyError(key)

    def _shard(self, shard: str, wanted: Collection[str], only: str | None = None) -> Iterator[Sample | Reject]:
        """The samples of a shard, at most as many as are this shard's share; or only that of one key."""
        seen: set[str] = set()
        left = self._most.get(shard, -1)
        for item in read_groups(self.files[shard], wanted, only):
            if isinstance(item, Reject):
                yield Reject(f"{shard}/{item.key}" if item.key else shard, item.reason)
                continue
            if left == 0:
                return
            left -= 1
            key = f"{shard}/{item.key}"
            if item.key in seen:
                yield Reject(key, "duplicate key")
                continue
            seen.add(item.key)
            if only is None or item.key == only:
                yield self._sample(shard, key, item)
            if item.key == only:
                return

    def _sample(self, shard: str, key: str, group: Group) -> Sample | Reject:
        photo = next((name for name in self._pictures if name in group.columns), None)
        if photo is None:
            return Reject(key, "no picture")
        if group.too_large:
            return Reject(key, f"too large: more than {MAX_MEMBER_BYTES} bytes")
        columns = {"image": group.columns[photo]}
        for column, annotation in self.config.columns.items():
            if column.lower() not in group.columns:
                return Reject(key, f"partner is missing: {annotation}")
            columns[annotation] = group.columns[column.lower()]
        try:
            category = self._category(group.columns.get(self._label))
        except Unreadable as error:
            return Reject(key, error.reason)
        return self.packed_sample(shard, key, category, columns)

    def _category(self, data: bytes | None) -> str | None:
        """The class a label file names. Raises Unreadable."""
        if data is None:
            return None
        try:
            text = data.decode("utf-8").strip()
            value: Any = json.loads(text) if self._field is not None else text
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"malformed {self._label}") from error
        if self._field is not None:
            if not isinstance(value, dict) or self._field not in value:
                raise Unreadable("json lacks the field of the category")
            value = value[self._field]
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > 1000:
            raise Unreadable(f"malformed {self._label}")
        return str(value)


def read_groups(path: Path, wanted: Collection[str], only: str | None = None) -> Iterator[Group | Reject]:
    """The samples of a tar in its order, and what is wrong with it; a `Reject` without a key is of the whole shard.

    Args:
        wanted: columns whose bytes are read; the others are named without.
        only: if given, of this key only.
    """
    group: Group | None = None
    usual: frozenset[str] = frozenset()  # the columns of the sample before: has the last one before a cut all of them?
    damaged = False
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in walk_tar(tar):
                name = clean_name(os.fsencode(member.name).decode("utf-8", "backslashreplace"))
                folder, file = posixpath.split(name)
                stem, _, column = file.partition(".")
                column = column.lower()
                if not is_file(member) or not stem or not column:
                    if stem:  # else hidden, such as what macOS puts beside files
                        yield Reject(name, "name without a column" if is_file(member) else NOT_A_FILE)
                    continue
                key = posixpath.join(folder, stem)
                if group is None or key != group.key or column in group.columns:
                    if group is not None:
                        yield group
                        usual = frozenset(group.columns)
                    group = Group(key)
                group.too_large |= column in wanted and member.size > MAX_MEMBER_BYTES
                reads = column in wanted and (only is None or key == only) and not group.too_large
                group.columns[column] = _read(tar, member) if reads else b""
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            if not tar.fileobj.read(1):
                raise tarfile.ReadError("no end of the archive")
    except ARCHIVE_ERRORS:
        damaged = True
    if group is not None and (not damaged or (usual and usual <= group.columns.keys())):
        yield group
    if damaged:
        yield Reject("", DAMAGED)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a member. Raises ARCHIVE_ERRORS."""
    file = tar.extractfile(member)
    assert file is not None
    data = file.read()
    if len(data) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it has gone, which reading it will say."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
