"""Forward and backward passes as CUDA graphs: recorded once, then replayed by one launch instead of a thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Work = Callable[..., Sequence[Tensor]]

EXECUTED = 3
"""How often each kind of pass is executed operation by operation before it is recorded: meanwhile libraries and kernels
prepare themselves, and what comes so rarely is not worth a recording."""


class Replays:
    """Passes on a GPU by kind; those of one kind must do the same operations whatever the tensors hold.

    All recordings share their memory, which stays theirs: what a pass returns, and its gradients, must be used before
    the next one.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(
        self, kind: Hashable, work: Work, inputs: Sequence[Tensor], parameters: Sequence[nn.Parameter] = ()
    ) -> Sequence[Tensor]:
        """What ``work(*inputs)`` returns, and as it does the gradients of the parameters, which were dropped or zero.

        Args:
            kind: tells passes on inputs of the same shapes apart.
            work: calls ``backward`` itself, if there are gradients.
            inputs: tensors on the GPU, not changed while they are given again.
            parameters: that may get a gradient.
        """
        kind = (kind, tuple((one.shape, one.dtype) for one in inputs))
        recording = self._recordings.get(kind)
        if recording is None:
            self._seen[kind] += 1
            if self._seen[kind] <= EXECUTED:
                return work(*inputs)
            recording = self._recordings[kind] = _Recording(work, inputs, parameters, self._pool)
        return recording.replay(inputs)


class _Recording:
    """One pass, with memory of its own for what enters it."""

    def __init__(self, work: Work, inputs: Sequence[Tensor], parameters: Sequence[nn.Parameter], pool: Any) -> None:
        self._held = [one.clone() for one in inputs]
        self._copied = list(inputs)  # kept, so that no other tensor can be taken for one of them
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._outputs = work(*self._held)
        self._gradients = [(one, one.grad) for one in parameters if one.grad is not None]

    def replay(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What the pass makes of these inputs; only those that are others than before are copied."""
        for held, copied, given in zip(self._held, self._copied, inputs, strict=True):
            if given is not copied:
                held.copy_(given)
        self._copied = list(inputs)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return [one.clone() for one in self._outputs]
