"""A worker with the protocol of the real one, which computes a rival of its own: the distance to the mean image.

It stands in for anomalib where that is not installed. The variable STAND_IN makes it fail.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src/altub_exp/detector"))

from anomalib_worker import serve

FAULT = os.environ.get("STAND_IN", "")


class MeanImage:
    def __init__(self, job, folder, device):
        self.model = torch.nn.Module()
        print("a library's message")
        if FAULT == "refuse":
            raise ValueError("this option\nis not known")
        self.weights = sorted(path.name for path in folder.glob("*.safetensors"))
        assert self.weights == (["backbone.safetensors"] if job["model"] == "patchcore" else [])

    def train(self, images, order, epoch):
        if f"die in epoch {epoch}" == FAULT:
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT == "sleep":
            print("asleep", flush=True)
            time.sleep(600)
        mean = images(order.sort().values).mean(dim=0, keepdim=True)
        self.model.register_buffer("mean", mean + torch.nan if FAULT == "nan" else mean)
        return {"loss": 1.0 / epoch}

    def score(self, images):
        maps = (images - self.model.mean).square().mean(dim=1)
        return maps.unsqueeze(1), maps.amax(dim=(1, 2))


if __name__ == "__main__":
    serve(lambda: {"anomalib": "2.6.0" if FAULT == "old" else "2.7.0"}, {"patchcore": MeanImage, "draem": MeanImage})
