"""MVTec AD 2's layout: root/CATEGORY/{train/good, test_public/{good, bad}, test_public/ground_truth/bad/NAME_mask.png}.

Normal and defective test images show all lighting conditions of their category, training images only the regular one.
The folder ``validation`` holds more normal images, ``test_private`` and ``test_private_mixed`` images without published
labels, whose maps https://benchmark.mvtec.com evaluates. These three are not read.
"""

from __future__ import annotations

from altub_exp.data.layout import Published
from altub_exp.data.tree import Tree

# Training images, normal and defective images of test_public of Heckler-Kram et al. 2025,
# https://arxiv.org/abs/2503.21622, as several public repositories count them in the archive whose sum is in
# downloads.toml. With 302 of validation and twice 2045 of the private test sets these are 8004 images.
COUNTS: dict[str, tuple[int, int, int]] = {
    "can": (412, 72, 90),
    "fabric": (387, 66, 90),
    "fruit_jelly": (263, 20, 60),
    "rice": (313, 42, 90),
    "sheet_metal": (137, 24, 90),
    "vial": (291, 35, 105),
    "wallplugs": (293, 60, 90),
    "walnuts": (432, 60, 90),
}

LAYOUT = Tree(
    "mvtec2",
    Published(
        "MVTec AD 2",
        source="https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
        landmark="CATEGORY/test_public/good",
        counts=COUNTS,
        download="mvtec2",
    ),
    normal="good",
    mask_ending="_mask",
    test="test_public",
    ground_truth="test_public/ground_truth",
)
