"""BTAD's layout: root/{01, 02, 03}/{train/ok, test/ok, test/ko, ground_truth/ko}; a mask is named like its image.

Images are BMP in 01 and 03 and PNG in 02, masks PNG in 01 and 02 and BMP in 03. Eleven of the masks are empty (one in
02, ten in 03); their images count as defective all the same.
"""

from __future__ import annotations

from altub_exp.data.layout import Published
from altub_exp.data.tree import Tree

# Training images, normal and defective test images of the published archive. Mishra et al. 2021 (VT-ADL,
# https://arxiv.org/abs/2104.10036) give only the numbers of training images, and exchange 02 and 03 there. These add up
# to 2540 images; with the 290 masks, to 2830 files.
COUNTS: dict[str, tuple[int, int, int]] = {
    "01": (400, 21, 49),
    "02": (399, 30, 200),
    "03": (1000, 400, 41),
}

LAYOUT = Tree(
    "btad",
    Published(
        "BTAD",
        source="http://avires.dimi.uniud.it/papers/btad/btad.zip",
        landmark="01/train/ok",
        counts=COUNTS,
        download="btad",
    ),
    normal="ok",
    mask_ending="",
)
