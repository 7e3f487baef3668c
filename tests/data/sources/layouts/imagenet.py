"""tiny-imagenet-200, and ImageNet-1K as Kaggle gives it out."""

from __future__ import annotations

from pathlib import Path

from .pictures import picture, save

FISH, FROG = "n01443537", "n01641577"


def write_tiny(root: Path) -> Path:
    """Two classes with boxes; val and test flat."""
    for wnid in (FROG, FISH):
        rows = []
        for i in range(3):
            save(root / f"train/{wnid}/images/{wnid}_{i}.JPEG", picture(i, (64, 64)))
            rows.append(f"{wnid}_{i}.JPEG\t{i}\t10\t63\t58\n")
        (root / f"train/{wnid}/{wnid}_boxes.txt").write_text("".join(rows))
    for i in range(2):
        save(root / f"val/images/val_{i}.JPEG", picture(10 + i, (64, 64)))
        save(root / f"test/images/test_{i}.JPEG", picture(20 + i, (64, 64)))
    rows = [f"val_0.JPEG\t{FROG}\t0\t32\t44\t62\n", f"val_1.JPEG\t{FISH}\t52\t55\t57\t59\n"]
    (root / "val/val_annotations.txt").write_text("".join(rows))
    (root / "wnids.txt").write_text(f"{FISH}\n{FROG}\n")
    (root / "words.txt").write_text(f"{FISH}\tgoldfish, Carassius auratus\n{FROG}\tbullfrog\n")
    return root


def write_kaggle(root: Path) -> Path:
    """ILSVRC/Data/CLS-LOC/ with the lists beside ILSVRC."""
    photos = root / "ILSVRC/Data/CLS-LOC"
    for wnid in (FISH, FROG):
        save(photos / f"train/{wnid}/{wnid}_10026.JPEG", picture(0, (30, 40)))
    for i in (1, 2):
        save(photos / f"val/ILSVRC2012_val_{i:08d}.JPEG", picture(i))
        save(photos / f"test/ILSVRC2012_test_{i:08d}.JPEG", picture(i))
    (root / "LOC_synset_mapping.txt").write_text(f"{FISH} goldfish\n{FROG} bullfrog\n")
    (root / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        f"ILSVRC2012_val_00000002,{FISH} 85 1 499 272 {FISH} 1 2 3 4 \nILSVRC2012_val_00000001,{FROG} 1 2 3 4 \n"
    )
    return root
