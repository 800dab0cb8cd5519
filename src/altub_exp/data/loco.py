"""MVTec LOCO AD's layout: root/CATEGORY/{train/good, test/KIND, ground_truth/KIND/NAME/*.png}; two kinds of anomalies.

An image has one or more masks, one for each anomaly; their values are ids of the kind of anomaly. The table
``defects_config.json``, which gives for each id the area at which a detection counts in full (saturation), and the
folder ``validation``, more normal images, are not read.
"""

from __future__ import annotations

from altub_exp.data.layout import Published
from altub_exp.data.tree import Tree

# Training images, normal and anomalous (logical and structural) test images of Bergmann et al. 2022,
# https://doi.org/10.1007/s11263-022-01578-9, as several public repositories count them in the archive whose sum is in
# downloads.toml.
COUNTS: dict[str, tuple[int, int, int]] = {
    "breakfast_box": (351, 102, 83 + 90),
    "juice_bottle": (335, 94, 142 + 94),
    "pushpins": (372, 138, 91 + 81),
    "screw_bag": (360, 122, 137 + 82),
    "splicing_connectors": (360, 119, 108 + 85),
}

LAYOUT = Tree(
    "loco",
    Published(
        "MVTec LOCO AD",
        source="https://www.mvtec.com/company/research/datasets/mvtec-loco",
        landmark="CATEGORY/train/good",
        counts=COUNTS,
        download="loco",
    ),
    normal="good",
    mask_ending=None,
)
