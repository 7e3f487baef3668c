"""The report of a run: one page that opens from disk, and its pictures as PNG.

In: a run folder (`results.json`, `evaluation/`, `steps.json`, `recipe.yaml`, logs, the model's `lvmlite.json`).
Out: `report/index.html`, which refers to nothing outside itself and runs no script; beside it each figure as a
contact sheet, each animation as WebP, each chart as PNG, and `hero.png`, one figure for a README.

The page adds no measurement: it rounds, draws and orders. What a run lacks is said in a line.
"""

from lvmlite.report.page import write_report
from lvmlite.report.pictures import hero

__all__ = ["hero", "write_report"]
