"""CUDA graphs on a CPU: passes are recorded operation by operation and replayed without Python, as a GPU does it.

A replay repeats the recorded operations on the recorded tensors, so that values which Python held at the recording stay
as they were. What differs on a GPU is that its streams run side by side.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from altub_exp.machine.cuda_graphs import CudaGraphs


class Tape:
    """Stands for ``torch.cuda.CUDAGraph``."""

    def __init__(self):
        self.operations, self.replays = [], 0

    def replay(self):
        """Repeat the operations in place."""
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, results in self.operations:
                for result, value in zip(results, tree_leaves(func(*args, **kwargs)), strict=False):
                    if isinstance(result, torch.Tensor) and result.data_ptr() != value.data_ptr():
                        result.copy_(value)


class Recorder(TorchDispatchMode):
    """Notes all operations on a tape, and undoes at the end what they changed: a recording executes nothing."""

    def __init__(self, tape):
        super().__init__()
        self._tape, self._made, self._saved = tape, set(), {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Execute an operation and note it, unless it only gives another view of a tensor."""
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing: a number is read from the device")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if func._schema.is_mutable:
            for tensor in given:
                storage = tensor.untyped_storage()._cdata
                if storage not in self._made and storage not in self._saved:
                    self._saved[storage] = tensor, tensor.clone()
        found = func(*args, **kwargs)
        results = tree_leaves(found)
        before = {tensor.untyped_storage()._cdata for tensor in given}
        made = {leaf.untyped_storage()._cdata for leaf in results if isinstance(leaf, torch.Tensor)}
        self._made |= made - before
        if func._schema.is_mutable or not made <= before:
            self._tape.operations.append((func, args, kwargs, [] if func._schema.is_mutable else results))
        return found

    def undo(self):
        """Give all tensors from before the recording their values back."""
        for tensor, value in self._saved.values():
            tensor.copy_(value)


@contextmanager
def recording(tape, pool, stream):
    """Stand for ``torch.cuda.graph``."""
    with Recorder(tape) as recorder:
        yield
    with torch.no_grad():
        recorder.undo()


class Stream:
    """Stands for ``torch.cuda.Stream``; its work is done at once.

    Attributes:
        waited: the other streams, and the amount of work that they had when it last waited for them.
        work: the number of passes that it was given.
    """

    def __init__(self):
        self.waited, self.work = {}, 0

    def wait_stream(self, stream):
        """Note the other stream's work until now."""
        self.waited[stream] = stream.work


class Machine:
    """A GPU with streams, of which one is current.

    Attributes:
        streams: all streams; the first is the one of the program.
        current: the stream that is given the work.
    """

    def __init__(self):
        self.streams = [Stream()]
        self.current = self.streams[0]

    def stream(self):
        """Stand for ``torch.cuda.Stream()``."""
        self.streams.append(Stream())
        return self.streams[-1]

    @contextmanager
    def used(self, stream):
        """Stand for ``torch.cuda.stream``."""
        before, self.current = self.current, stream or self.current
        yield
        self.current = before


def graphs_on_a_cpu(monkeypatch):
    """Return a store of graphs whose recordings are tapes, and the machine that replays them."""
    machine = Machine()
    for name, stand_in in {
        "graph_pool_handle": object,
        "CUDAGraph": Tape,
        "graph": recording,
        "Stream": machine.stream,
        "stream": machine.used,
        "current_stream": lambda: machine.current,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return CudaGraphs(), machine
