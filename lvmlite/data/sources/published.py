"""What sources of published data sets share: settings, the split, the folder they lie in, and text, JSON and XML.

In: names and bytes nobody has checked. Out: values of the types asked for; else a `ValueError` of one line that says
which file, which place and what was expected there, or `Unreadable` where one photo is concerned.

Official splits become ours by one rule. Train stays train and a labelled test stays test. Where the labels of the
official test are secret, papers are judged on the official validation set: by default that is our "test", and a hashed
share of train is our "val". With ``val_as: val`` it stays "val", and there is no "test".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from xml.etree import ElementTree

import numpy as np

from lvmlite.data.sources.files import Files
from lvmlite.images import Unreadable
from lvmlite.recipe import Range
from lvmlite.sample import split_of

OUTSIDE = "a box outside its image"
EXPECTED = {int: "a whole number", str: "a text", list: "a list", dict: "an object"}
NUMBERS = frozenset((int, float))
T = TypeVar("T", int, str, list, dict)


@dataclass(frozen=True)
class PublishedConfig:
    """Settings of every published data set.

    path: the unpacked data set: a folder, tar or zip. A folder around it is passed over.
    max_samples: at most so many, chosen by a hash of the key.
    part_size: samples a part.
    val_as: what the official validation set becomes, see the head of this file.
    val: share of the official train that becomes our "val" where ``val_as: test``.
    """

    path: str
    max_samples: Annotated[int, Range(1)] | None = None
    part_size: Annotated[int, Range(1)] = 1024
    val_as: Literal["val", "test"] = "test"
    val: Annotated[float, Range(0, 1)] = 0.02

    def split(self, official: str, group: str) -> str:
        """Our split of a group of the official "train", "val" or "test"."""
        if official == "train" and self.val_as == "test":
            return split_of(group, self.val, 0)
        return self.val_as if official == "val" else official


def roots(names: Iterable[str], inside: str) -> list[str]:
    """Where a data set begins: every prefix, "" or "a/b/", that `inside` follows; the shortest first.

    ``roots(["x/images/training/a.jpg"], "images/training/") == ["x/"]``
    """
    found = {name[: at - 1] for name in names if (at := f"/{name}".find(f"/{inside}") + 1)}
    return sorted(found, key=lambda root: (root.count("/"), root))


def find_root(files: Files, insides: Iterable[str], layout: str) -> str:
    """The first of `roots`, of whichever of `insides` is there. Raises ValueError: none is."""
    for inside in insides:
        if found := roots(files.names, inside):
            return found[0]
    raise ValueError(f"{files.path}: not laid out as the data set is published; expected {layout}")


def read_lines(files: Files, name: str) -> list[str]:
    """The lines of a text, trimmed, without empty ones; none where there is no such file. Raises ValueError."""
    if name not in files:
        return []
    try:
        text = files.read(name).decode("utf-8")
    except (Unreadable, UnicodeDecodeError) as error:
        reason = error.reason if isinstance(error, Unreadable) else "not a text in UTF-8"
        raise ValueError(f"{files.path}: {name}: {reason}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


# --- JSON


def read_json(files: Files, name: str) -> dict[str, Any]:
    """A JSON object. Raises ValueError: no such file, not JSON, not an object."""
    where = f"{files.path}: {name}"
    if name not in files:
        raise ValueError(f"{where}: no such file; see which names the data set uses")
    try:
        found = json.loads(files.read(name))
    except Unreadable as error:
        raise ValueError(f"{where}: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON: {' '.join(str(error).split())}") from error
    return of_type(found, dict, f"{where}: the file")


def of_type(value: Any, kind: type[T], where: str) -> T:
    """The value, if it is of the type (True is no number; half a surrogate pair no text, as it has no bytes).

    Raises:
        ValueError: in one line that names the place.
    """
    if type(value) is not kind:
        raise ValueError(f"{where}: expected {EXPECTED[kind]}, found {named(value)}")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{where}: expected {EXPECTED[kind]}, found one that is not valid Unicode")
    return value


def rows(document: Mapping[str, Any], key: str, fields: Mapping[str, type], where: str) -> Iterator[dict[str, Any]]:
    """The objects of a list ``document[key]``, each with fields of these types. Raises ValueError naming the place."""
    for i, row in enumerate(of_type(document.get(key), list, f"{where}: {key}")):
        place = f"{where}: {key}[{i}]"
        of_type(row, dict, place)
        for field, kind in fields.items():
            of_type(row.get(field), kind, f"{place}.{field}")
        yield row


def numbers(value: Any) -> np.ndarray | None:
    """A flat list of finite numbers as float64 (N,), else None."""
    if not isinstance(value, list) or not NUMBERS.issuperset(map(type, value)):
        return None
    try:
        x = np.array(value, np.float64)
    except OverflowError:  # JSON's whole numbers have no end
        return None
    return x if np.isfinite(x).all() else None


def named(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "nothing"
    return EXPECTED.get(type(value), {bool: "true or false", float: "a number"}.get(type(value), "something else"))


# --- XML


def read_xml(files: Files, name: str) -> ElementTree.Element:
    """The root of an XML file. Entities, which can blow a small file up to gigabytes, are refused unread.

    Raises:
        Unreadable: "annotation is not XML", "annotation declares a document type", "cannot read: ...".
    """
    try:
        text = files.read(name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("annotation is not XML") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Unreadable("annotation declares a document type")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise Unreadable("annotation is not XML") from error


# --- boxes


def clip_box(corners: Any, shape: tuple[int, int]) -> np.ndarray:
    """x0, y0, x1, y1 (4,) float32 cut off at the borders of an image (H, W); x1 and y1 exclusive.

    Raises:
        Unreadable: `OUTSIDE`: not finite, without area, or wholly outside.
    """
    height, width = shape
    box = np.asarray(corners, np.float64)
    if not np.isfinite(box).all():
        raise Unreadable(OUTSIDE)
    box = np.clip(box, 0, [width, height, width, height]).astype(np.float32)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise Unreadable(OUTSIDE)
    return box
