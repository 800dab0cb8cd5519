"""The duration of a batch on a GPU, by precision and by optimisation: ``python -m bench.steps``.

Milliseconds per batch of 32 images whose features are in the GPU's memory: a joint training step by operations of
PyTorch only (``plain``), with the fused kernels (``fused``), and replayed as a CUDA graph (``replayed``, as in a run);
with the graph also a ψ-only step and the passes of the evaluation (``eval``); memory, and the share of the peak of
convolutions of that precision, measured in the same process, that the replayed step reaches if its backward pass counts
as two forward ones. CFLOW-AD is measured per step of 256 fibres, the mean over its decoders. ``--profile``
lists the kernels of a step. Weights are untrained and images are noise, which take the same time.

python -m bench.steps --only fastflow-r18 fastflow-wrn50 --precision tf32 --profile 12
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from altub_exp.config.schema import CFlowConfig, Config, Device, Precision
from altub_exp.detector.assembly import build_density, build_learner
from altub_exp.detector.families import family
from altub_exp.errors import UserError
from altub_exp.flows import coupling
from altub_exp.machine.device import prepare_device, seed_everything
from altub_exp.method.learner import Learner
from altub_exp.method.learning_rate import TrainingStep
from bench.cost import steps
from bench.models import Peaks
from bench.own import configuration
from bench.turns import Work, line, now

BATCH = 32
WORK = {
    "fastflow-r18": ("fastflow", "r18", 256),
    "fastflow-wrn50": ("fastflow", "wrn50", 256),
    "fastflow-deit": ("fastflow", "deit", 384),
    "fastflow-cait": ("fastflow", "cait", 448),
    "cflow-wrn50_tv": ("cflow", "wrn50_tv", 256),
}
COLUMNS = ("plain", "fused", "replayed", "ψ-only", "eval", "GiB", "of peak")
JOINT, PSI_ONLY = TrainingStep(1, 0, 8), TrainingStep(5, 0, 8)


@contextmanager
def unfused() -> Iterator[None]:
    """Make the flows do without the Triton kernels in this context."""
    original, coupling.kernels_for = coupling.kernels_for, lambda x: None
    try:
        yield
    finally:
        coupling.kernels_for = original


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Return the mean of that many calls, after six in which graphs are prepared and recorded."""
    for _ in range(6):
        work()
    start = now()
    for _ in range(rounds):
        work()
    return 1000 * (now() - start) / rounds


class Step:
    """A learner and a batch of noise on the GPU."""

    def __init__(self, config: Config, shapes: tuple[tuple[int, int, int], ...]) -> None:
        seed_everything(0)
        self.density = build_density(config, shapes).cuda()
        self.learner: Learner = build_learner(config, self.density)
        self.scoring = family(config.model.name).scoring(config.model)
        self.fibres = config.model.fibre_batch if isinstance(config.model, CFlowConfig) else 0
        self.maps = [torch.randn(2 if self.fibres else BATCH, *shape, device="cuda") for shape in shapes]
        positions = [len(maps) * maps[0, 0].numel() for maps in self.maps]
        self.steps = sum(count // self.fibres for count in positions) if self.fibres else 1
        self._random = torch.Generator().manual_seed(0)

    def joint(self) -> None:
        """Make one joint step."""
        self.learner.learn(self.maps, JOINT, self._random)

    def psi_only(self) -> None:
        """Make one ψ-only step."""
        self.learner.learn(self.maps, PSI_ONLY, self._random)

    @torch.no_grad()
    def evaluation(self) -> None:
        """Compute the scores per position."""

        def work(*maps: torch.Tensor) -> list[torch.Tensor]:
            return self.scoring.positions(self.density(maps))

        assert self.learner.optimizer.graphs is not None
        self.learner.optimizer.graphs("positions", work, self.maps)


def kernels(work: Callable[[], object], count: int) -> None:
    """Print the kernels that take longest on the GPU in one call."""
    work()
    now()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        now()
    events = [event for event in profiler.key_averages() if event.device_type == DeviceType.CUDA]
    total = sum(event.self_device_time_total for event in events)
    print(f"    {sum(event.count for event in events)} kernels, {total / 1000:.2f} ms of the GPU")
    for event in sorted(events, key=lambda event: -event.self_device_time_total)[:count]:
        share = event.self_device_time_total / total
        print(
            f"    {event.self_device_time_total / 1000:8.3f} ms {share:5.1%} {event.count:5d} times  {event.key[:100]}"
        )


def main() -> None:
    """Print the time of a batch of each model in each precision."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.steps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=WORK, nargs="+", default=list(WORK))
    parser.add_argument("--precision", choices=list(Precision), nargs="+", default=list(Precision))
    parser.add_argument("--altub", choices=["none", "alternating"], default="alternating")
    parser.add_argument("--rounds", type=int, default=8, help="rounds to measure (default: %(default)s)")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="list the N kernels that take longest")
    chosen = parser.parse_args()
    try:
        prepare_device(Device.cuda)
    except UserError as error:
        parser.exit(1, f"{error}\n")
    print(line("ms", COLUMNS))
    known = []
    for precision in map(Precision, chosen.precision):
        peaks = Peaks.measured(precision)
        known.append(f"{precision} {peaks.product / 1000:.0f} and {peaks.convolution / 1000:.0f}")
        for name in chosen.only:
            model, backbone, size = WORK[name]
            work = Work(model, backbone, size, BATCH, BATCH, BATCH, torch.get_num_threads())
            options = [f"precision={precision}", f"altub={chosen.altub}", "train.epochs=300"]
            parts = steps(configuration(work))
            found = []
            for graphs, plain in ((False, True), (False, False), (True, False)):
                with unfused() if plain else nullcontext():
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                    step = Step(configuration(work, [*options, f"cuda_graphs={graphs}"]), parts.shapes)
                    found.append(milliseconds(step.joint, chosen.rounds) / step.steps)
            psi_only = milliseconds(step.psi_only, chosen.rounds) / step.steps
            evaluation = milliseconds(step.evaluation, chosen.rounds) * BATCH / len(step.maps[0])
            memory = torch.cuda.max_memory_reserved() / 2**30
            done = 3 * parts.gigaflops[1] * len(step.maps[0]) / step.steps
            peak = peaks.product if step.fibres else peaks.convolution
            cells = [f"{value:.2f}" for value in (*found, psi_only, evaluation, memory)]
            print(line(f"{name} {precision}", [*cells, f"{done / found[-1] * 1000 / peak:.0%}"]), flush=True)
            if chosen.profile:
                kernels(step.joint, chosen.profile)
            del step
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; TFLOP/s of a matrix product and of a 3×3 "
        f"convolution: {', '.join(known)}"
    )


if __name__ == "__main__":
    main()
