"""MVTec AD's layout: root/CATEGORY/{train/good, test/good, test/DEFECT, ground_truth/DEFECT/NAME_mask.png}."""

from __future__ import annotations

from altub_exp.data.layout import Published
from altub_exp.data.tree import Tree

# Training images, normal and defective test images: Bergmann et al. 2019, Table 1,
# https://doi.org/10.1109/CVPR.2019.00982
COUNTS: dict[str, tuple[int, int, int]] = {
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "leather": (245, 32, 92),
    "tile": (230, 33, 84),
    "wood": (247, 19, 60),
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "hazelnut": (391, 40, 70),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "zipper": (240, 32, 119),
}

LAYOUT = Tree(
    "mvtec",
    Published(
        "MVTec AD",
        source="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        landmark="CATEGORY/train/good",
        counts=COUNTS,
        download="mvtec",
    ),
    normal="good",
    mask_ending="_mask",
)
