"""anomalib's FastFlow and CFLOW in a plain loop, for `python -m bench.peers`; runs in an environment of anomalib's.

Forward, loss, map and metric are anomalib's own, as are all values that altub-exp does not set; the backbone runs in
every epoch, as it does there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from anomalib.models.image.cflow.torch_model import CflowModel
from anomalib.models.image.cflow.utils import get_logp, positional_encoding_2d
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import FastflowModel
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from bench.turns import Work, images, masks, serve, work_from

FASTFLOW: dict[str, dict[str, Any]] = {
    "r18": {"backbone": "resnet18", "flow_steps": 8, "conv3x3_only": True, "hidden_ratio": 1.0},
    "wrn50": {"backbone": "wide_resnet50_2", "flow_steps": 8, "conv3x3_only": False, "hidden_ratio": 1.0},
    "deit": {
        "backbone": "deit_base_distilled_patch16_384",
        "flow_steps": 20,
        "conv3x3_only": False,
        "hidden_ratio": 0.16,
    },
    "cait": {"backbone": "cait_m48_448", "flow_steps": 20, "conv3x3_only": False, "hidden_ratio": 0.16},
}
CFLOW = {"r18": "resnet18", "wrn50_tv": "wide_resnet50_2"}

Step = Callable[[Tensor], None]


def fastflow(work: Work) -> tuple[torch.nn.Module, Step]:
    """Return the model and its training step."""
    model = FastflowModel(input_size=(work.size, work.size), pre_trained=False, **FASTFLOW[work.backbone])
    loss = FastflowLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)

    def step(batch: Tensor) -> None:
        optimizer.zero_grad()
        loss(*model(batch)).backward()
        optimizer.step()

    return model, step


def cflow(work: Work) -> tuple[torch.nn.Module, Step]:
    """Return the model, with 256 fibres per step like ours, and its training step."""
    model = CflowModel(
        CFLOW[work.backbone], ("layer2", "layer3", "layer4"), pre_trained=False, fiber_batch_size=256, permute_soft=True
    )
    optimizer = torch.optim.Adam(model.decoders.parameters(), lr=2e-4)

    def step(batch: Tensor) -> None:
        with torch.no_grad():
            features = model.encoder(batch)
        for layer, decoder in zip(model.pool_layers, model.decoders, strict=True):
            maps = features[layer]
            channels, height, width = maps.shape[1:]
            conditions = positional_encoding_2d(model.condition_vector, height, width).flatten(1).T.repeat(len(maps), 1)
            fibres = maps.movedim(1, -1).reshape(-1, channels)
            order = torch.randperm(len(fibres))
            for rows in torch.split(order, model.fiber_batch_size):
                if len(rows) < model.fiber_batch_size:
                    continue
                optimizer.zero_grad()
                z, log_det = decoder(fibres[rows], [conditions[rows]])
                (-F.logsigmoid(get_logp(channels, z, log_det) / channels)).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    return model, step


def main() -> None:
    """Serve anomalib's epochs."""
    work, _ = work_from()
    torch.set_num_threads(work.threads)
    torch.manual_seed(0)
    model, step = {"fastflow": fastflow, "cflow": cflow}[work.model](work)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def normalised(count: int, seed: int) -> list[Tensor]:
        return list(torch.split((images(count, work.size, seed).float() / 255 - mean) / std, work.batch))

    training, test = normalised(work.train, 0), normalised(work.test, 1)
    labels = masks(work.test, work.size).flatten()

    def train() -> None:
        model.train()
        for batch in training:
            step(batch)

    @torch.no_grad()
    def maps() -> Tensor:
        model.eval()
        return torch.cat([model(batch).anomaly_map for batch in test])

    serve(train, maps, lambda found: binary_auroc(found.flatten(), labels, thresholds=None))


if __name__ == "__main__":
    main()
