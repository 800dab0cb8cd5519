"""The flows' equations in numpy and scipy, float64, position by position where this is simplest.

Written from the equations of FastFlow, CFLOW-AD, CS-Flow and FrEIA 0.2's coupling block, without the program's own
code.
"""

import numpy as np
from scipy.signal import correlate
from scipy.stats import norm


def numpy_state(module):
    """Return a module's parameters and buffers in float64."""
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def block(state, x, subnet, clamp):
    """One coupling block on one sample x [C, …]: its output, and its log|det|.

    u₂ = x₂ ⊙ exp(α tanh(0.1 s)) + 0.1 t, every channel scaled by 0.1 softplus_{½}(g) and shifted, then mixed.
    """
    first = len(x) - len(x) // 2
    x1, x2 = x[:first], x[first:]
    s_and_t = 0.1 * subnet(x1)
    log_scale = clamp * np.tanh(s_and_t[: len(x2)])
    y = np.concatenate([x1, x2 * np.exp(log_scale) + s_and_t[len(x2) :]])
    per_channel = 0.1 * np.log1p(np.exp(0.5 * state["global_scale"].reshape(-1))) / 0.5
    spatial = [1] * (x.ndim - 1)
    y = y * per_channel.reshape(-1, *spatial) + state["global_offset"].reshape(-1, *spatial)
    if "order" in state:
        y = y[state["order"].astype(int)]
    else:
        y = np.tensordot(state["w_perm"].reshape(len(x), len(x)), y, axes=1)
    return y, log_scale.sum() + np.prod(x.shape[1:]) * np.log(per_channel).sum()


def convolution(weight, bias, x):
    """Cross-correlation of x [C, H, W] with weight [O, C, k, k], zeros beyond the edge."""
    return np.stack(
        [
            sum(correlate(plane, kernel, mode="same") for plane, kernel in zip(x, kernels, strict=True)) + constant
            for kernels, constant in zip(weight, bias, strict=True)
        ]
    )


def _blocks(state):
    """The state of each block of a sequence, in order: ``module_list.0.…`` → one dictionary per number."""
    blocks = {}
    for name, value in state.items():
        _, number, rest = name.split(".", 2)
        blocks.setdefault(int(number), {})[rest] = value
    return [blocks[number] for number in sorted(blocks)]


def fastflow(flow, x, clamp):
    """One scale of FastFlow: a sequence of blocks with convolutional subnets on x [C, H, W] → z, log|det|."""
    total = 0.0
    for state in _blocks(numpy_state(flow)):

        def subnet(x1, state=state):
            hidden = np.maximum(convolution(state["subnet.0.weight"], state["subnet.0.bias"], x1), 0)
            return convolution(state["subnet.2.weight"], state["subnet.2.bias"], hidden)

        x, log_det = block(state, x, subnet, clamp)
        total += log_det
    return x, total


def encoded_position(channels, h, w):
    """Sine and cosine of w and h: for even i, frequency exp(−ln(1e4)·i/(D/2)); the first half encodes w."""
    half = channels // 2
    code = np.empty(channels)
    for offset, coordinate in ((0, w), (half, h)):
        for i in range(0, half, 2):
            angle = coordinate * np.exp(-np.log(10000.0) * i / half)
            code[offset + i], code[offset + i + 1] = np.sin(angle), np.cos(angle)
    return code


def fibre(decoder, x, condition, clamp):
    """One decoder of CFLOW-AD on the fibre x [C] with its condition → z, log|det|."""
    total = 0.0
    for state in _blocks(numpy_state(decoder)):

        def subnet(x1, state=state):
            hidden = state["subnet.0.weight"] @ np.concatenate([x1, condition]) + state["subnet.0.bias"]
            return state["subnet.2.weight"] @ np.maximum(hidden, 0) + state["subnet.2.bias"]

        x, log_det = block(state, x, subnet, clamp)
        total += log_det
    return x, total


def cross_convolutions(state, prefix, maps):
    """CS-Flow's subnet on one map [C, H, W] per scale, each half the size of the one before."""

    def convolved(name, scale, x):
        return convolution(state[f"{prefix}.{name}.{scale}.weight"], state[f"{prefix}.{name}.{scale}.bias"], x)

    hidden = [convolved("inward", scale, x) for scale, x in enumerate(maps)]
    hidden = [np.where(h > 0, h, 0.1 * h) for h in hidden]
    out = []
    for scale, h in enumerate(hidden):
        total = convolved("outward", scale, h)
        if scale + 1 < len(hidden):
            up = np.stack([half_pixel_bilinear(plane, h.shape[1]) for plane in hidden[scale + 1]])
            total = total + convolved("from_coarser", scale, up)
        if scale > 0:
            total = total + convolved("from_finer", scale - 1, hidden[scale - 1])[:, ::2, ::2]
        out.append(state[f"{prefix}.gamma"][scale] * total)
    return out


def csflow(flow, maps, clamp):
    """CS-Flow on one map [C, H, W] per scale → z and Σ ln e(s) per scale; the halves swap roles within a block."""
    totals = np.zeros(len(maps))
    for state in map(numpy_state, flow.blocks):
        maps = [x[state[f"order{scale}"].astype(int)] for scale, x in enumerate(maps)]
        halves = [[x[: len(x) // 2] for x in maps], [x[len(x) // 2 :] for x in maps]]
        for moved, prefix in ((0, "of_second"), (1, "of_first")):
            for scale, r in enumerate(cross_convolutions(state, prefix, halves[1 - moved])):
                x = halves[moved][scale]
                log_scale = clamp * 0.636 * np.arctan(r[: len(x)] / clamp)
                halves[moved][scale] = np.exp(log_scale) * x + r[len(x) :]
                totals[scale] += log_scale.sum()
        maps = [np.concatenate(both) for both in zip(*halves, strict=True)]
    return maps, totals


def log_likelihood(z, log_det, mu=0.0, sigma=1.0):
    """log p of one fibre, by scipy's normal."""
    return norm.logpdf(z, mu, sigma).sum() + log_det


def layer_norm(x, weight, bias):
    """LayerNorm([C, H, W]) with PyTorch's ε."""
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def half_pixel_bilinear(image, size):
    """Two-tap bilinear resize of [H, W] with half-pixel centres, edges repeated."""
    height, width = image.shape

    def taps(n):
        position = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.floor(position).astype(int)
        return low, np.minimum(low + 1, n - 1), position - low

    (y0, y1, fy), (x0, x1, fx) = taps(height), taps(width)
    top = image[y0][:, x0] * (1 - fx) + image[y0][:, x1] * fx
    bottom = image[y1][:, x0] * (1 - fx) + image[y1][:, x1] * fx
    return top * (1 - fy)[:, None] + bottom * fy[:, None]


def corners_aligned_bilinear(image, size):
    """Two-tap bilinear resize of [H, W] whose corners keep their values."""
    height, width = image.shape
    rows, columns = np.linspace(0, height - 1, size), np.linspace(0, width - 1, size)
    across = np.stack([np.interp(columns, np.arange(width), row) for row in image])
    return np.stack([np.interp(rows, np.arange(height), column) for column in across.T], axis=1)
