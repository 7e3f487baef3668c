"""Parquet files as `datasets` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import pictures

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SIZE = (8, 12)


def picture(number: int) -> bytes:
    return pictures.as_bytes(pictures.picture(number, SIZE))


def mask(value: int) -> bytes:
    return pictures.as_bytes(np.full(SIZE, value, np.uint8))


def hugging_face(
    path: Path, photos: list[bytes | None], labels: list[int] | None = None, rows: int = 4, **more: list[bytes]
) -> Path:
    """Image and ClassLabel features, their description in the schema; `more`: plain columns of pictures."""
    labels = labels or [i % 2 for i in range(len(photos))]
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    schema = pa.schema([("image", IMAGE), ("label", pa.int64()), *((name, pa.binary()) for name in more)])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    cells = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(photos)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": cells, "label": labels, **more}, schema=schema), path, row_group_size=rows)
    return path
