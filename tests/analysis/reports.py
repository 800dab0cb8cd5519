"""Stores for tests of the report: as the paper, troubled, and with no run of the paper."""

import uuid
from dataclasses import replace

from tests.analysis.filler import Filler, write

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
STATES = {
    ("pill", "cait", "alternating"): "crashed",
    ("bottle", "r18", "none"): "running",
    ("bottle", "deit", "none"): "failed",
}


def troubled(folder):
    """FastFlow on three categories: missing, crashed, running, failed, incomplete, deviating and doubled runs, several
    seeds, and names that are HTML."""

    def place(spot):
        return spot.category, spot.backbone, spot.altub

    specs = Filler(
        only=lambda spot: spot.category in ("capsule", "pill", "bottle") and place(spot)[:2] != ("pill", "r18"),
        state=lambda spot: STATES.get(place(spot), "finished"),
        gaps=lambda spot: 3 * (place(spot) == ("bottle", "wrn50", "none")),
        params=lambda spot: {"train.batch_size": "16"} if place(spot)[:2] == ("bottle", "cait") else {},
        seeds=lambda spot: (25, 1) if place(spot)[:2] == ("capsule", "deit") else (25,),
    ).specs()
    specs = [spec for spec in specs if spec.spot.model == "fastflow"]
    first = next(spec for spec in specs if place(spec.spot) == ("capsule", "cait", "alternating"))
    lower = {
        name: {epoch: value - 0.01 * ("auroc" in name) for epoch, value in points.items()}
        for name, points in first.series.items()
    }
    double = replace(
        first,
        run_id=uuid.uuid4().hex,
        tags=first.tags | {"run_key": "seed25-ffffffff"},
        series=lower,
        experiment="second <b>try</b>",
        started=first.started - 1000,  # of equals the newest is shown
    )
    return write([*specs, double, *other(EVIL)], folder)


def other(category):
    """Two runs on images of one's own, without and with AltUB."""
    specs = Filler(only=lambda spot: (spot.category, spot.backbone) == ("leather", "r18")).specs()
    for spec in specs:
        spec.tags |= {"dataset": "folder", "category": category}
        spec.params |= {"dataset.name": "folder", "dataset.category": category}
    return specs
