"""Forward and backward passes as CUDA graphs: recorded once, then replayed by one launch instead of a thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

Work = Callable[..., Sequence[Tensor]]

WARM_UP = 3
"""Executions of each kind of pass before it is recorded: libraries and kernels initialise themselves in these, and a
rarer pass is not worth recording."""


class CudaGraphs:
    """Recorded passes on a GPU by kind; the passes of one kind must repeat the same operations for any values.

    All recordings share one pool of memory: the next pass overwrites the outputs and gradients of the last one.

    Args:
        stream: the stream of all passes, see :meth:`in_use`; None: any.
    """

    def __init__(self, stream: torch.cuda.Stream | None = None) -> None:
        self._stream, self._pool = stream, torch.cuda.graph_pool_handle()
        self._seen: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(
        self, kind: Hashable, work: Work, inputs: Sequence[Tensor], parameters: Sequence[nn.Parameter] = ()
    ) -> Sequence[Tensor]:
        """Return the outputs of ``work(*inputs)``, and set the gradients of the parameters.

        Args:
            kind: distinguishes passes on inputs of the same shapes.
            work: the pass; it calls ``backward`` itself, if there are gradients, and may change tensors that stay.
            inputs: tensors on the GPU; a tensor that is passed again must be unchanged.
            parameters: parameters that may get a gradient.
        """
        kind = (kind, tuple((tensor.shape, tensor.dtype) for tensor in inputs))
        recording = self._recordings.get(kind)
        if recording is None:
            self._seen[kind] += 1
            if self._seen[kind] <= WARM_UP:
                return work(*inputs)
            recording = _Recording(work, inputs, parameters, self._pool, self._stream)
            self._recordings[kind] = recording
        return recording.replay(inputs)

    def forget(self) -> None:
        """Drop all recordings, because tensors that the passes change were replaced by others."""
        self._seen.clear()
        self._recordings.clear()

    def lanes(self, count: int) -> list[CudaGraphs]:
        """Return stores with a stream and a pool of memory each, whose passes may run side by side."""
        return [CudaGraphs(torch.cuda.Stream()) for _ in range(count)]  # type: ignore[no-untyped-call]

    def in_use(self) -> AbstractContextManager[object]:
        """Give the work in this context to this store's stream; its passes belong in it."""
        return torch.cuda.stream(self._stream)

    def wait(self) -> None:
        """Let this store's stream wait for the current one."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())

    def join(self) -> None:
        """Let the current stream wait for this store's."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)


def passed(graphs: CudaGraphs | None, kind: Hashable, work: Work, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the outputs of a pass without gradients, recorded and replayed by ``graphs`` if there are any."""
    return work(*inputs) if graphs is None else graphs(kind, work, inputs)


def cuda_graphs_for(device: torch.device, parts: Iterable[object]) -> CudaGraphs | None:
    """Return an empty store of graphs on a GPU if all parts declare themselves capturable, otherwise None."""
    capturable = all(getattr(part, "capturable", False) for part in parts)
    return CudaGraphs() if device.type == "cuda" and capturable else None


class _Recording:
    """One recorded pass and the memory of its inputs."""

    def __init__(
        self,
        work: Work,
        inputs: Sequence[Tensor],
        parameters: Sequence[nn.Parameter],
        pool: Any,
        stream: torch.cuda.Stream | None,
    ) -> None:
        self._held = [tensor.clone() for tensor in inputs]
        self._copied = list(inputs)  # references, so that no new tensor can reuse their identity
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=stream):
            self._outputs = work(*self._held)
        self._gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]

    def replay(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run the pass on these inputs and return its outputs; an input is copied only if it is another tensor."""
        for held, copied, tensor in zip(self._held, self._copied, inputs, strict=True):
            if tensor is not copied:
                held.copy_(tensor)
        self._copied = list(inputs)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return [output.clone() for output in self._outputs]
