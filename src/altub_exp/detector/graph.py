"""A detector as one graph of PyTorch's export: from the pixels of a batch of any size to anomaly maps and scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from altub_exp.detector.inference import Detector

INPUT = "images"
"""Name of the input: uint8 [B, 3, S, S], RGB."""

OUTPUTS = ("map", "score")
"""Names of the outputs: float32 [B, S, S] and [B]; the larger, the more anomalous."""

FACTS = "facts.json"
"""Name of the facts in a program's file."""

RESIZINGS = {
    "bilinear": "torch.nn.functional.interpolate(torch.from_numpy(rgb).permute(2, 0, 1)[None].float(), "
    "size=({size}, {size}), mode='bilinear', align_corners=False).round().byte()",
    "antialias": "PIL.Image.fromarray(rgb).resize(({size}, {size}), PIL.Image.Resampling.BILINEAR)",
    "lanczos": "PIL.Image.fromarray(rgb).resize(({size}, {size}), PIL.Image.Resampling.LANCZOS)",
}
"""The call that resizes ``rgb``, uint8 [height, width, 3], as ``dataset.interpolation`` does."""


class DetectorGraph(nn.Module):
    """A detector on the CPU as a module: normalisation of the pixels, backbone, flow, base, map and score."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.backbone, self.density = detector.backbone, detector.density
        self._detector = detector

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map uint8 images [B, 3, S, S] to float32 ``map`` [B, S, S] and ``score`` [B]."""
        return dict(zip(OUTPUTS, (values.float() for values in self._detector.score_pixels(images)), strict=True))


def traced(detector: Detector) -> ExportedProgram:
    """Record the operations of a detector that is on the CPU.

    Raises:
        Exception: any error of PyTorch's export, for an operation that depends on values.
    """
    example = torch.zeros(2, 3, detector.canvas.size, detector.canvas.size, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(DetectorGraph(detector).eval(), (example,), dynamic_shapes=({0: Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names this machine's folders
    return program


def graph_facts(detector: Detector) -> dict[str, object]:
    """Return the facts that a user of the graph needs: its input, its output, and the preparation of images."""
    size = detector.canvas.size
    statistics = (detector.backbone.mean, detector.backbone.std)
    mean, std = ([round(value, 6) for value in values.flatten().tolist()] for values in statistics)
    return {
        "input": f"{INPUT}: uint8 [B, 3, {size}, {size}], RGB",
        "output": f"map: float32 [B, {size}, {size}]; score: float32 [B]; the larger, the more anomalous",
        "size": size,
        "interpolation": str(detector.interpolation),
        "resize": RESIZINGS[detector.interpolation].format(size=size),
        "bit_depth": detector.bit_depth,
        "normalisation": "inside of the graph: (x / 255 - mean) / std",
        "mean": mean,
        "std": std,
        "limits": list(detector.limits),
    }
