"""A CPU kernel that computes distances on the fly; compiled at first use."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from salib.attention.geometry import Geometry

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-std=c++20", "-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno")
FLAGS += ("-fno-trapping-math", "-fno-signed-zeros", "-fopenmp", "-fPIC", "-shared")
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
COMPILERS = ("c++", "g++", "clang++")


def fused(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> Tensor:
    """Attention in memory linear in the tokens: logits exist for one block at a time.

    In float32 values and gradients are within 1e-5 of float64's. In bfloat16 values are within
    0.5 %, whatever the size of the logits: only q, k, v, the weights multiplied with v, and the
    result are rounded.
    """
    mixed: Any = _Fused.apply(q, k, v, geometry)
    return mixed


def unsupported_reason(q: Tensor, geometry: Geometry) -> str | None:
    """What keeps these tensors from this kernel; None if nothing does."""
    if q.device.type != "cpu" or q.dtype not in DTYPES:
        return f"impl='fused' is for bfloat16 and float32 on a CPU, got {q.dtype} on {q.device}"
    if q.shape[-1] % 2 and q.dtype == torch.bfloat16:
        return f"impl='fused' needs heads of even width in bfloat16, got {q.shape[-1]}"
    if geometry.slopes.requires_grad and torch.is_grad_enabled():
        return "impl='fused' has no gradient of the slopes: use 'sdpa'"
    compiled, reason = kernel()
    if compiled is not None and not hasattr(compiled, f"salib_forward_{DTYPES[q.dtype]}"):
        return "impl='fused' needs a processor and a compiler with AVX-512 BF16 for bfloat16"
    return reason


@functools.cache
def kernel() -> tuple[ctypes.CDLL | None, str | None]:
    """The compiled kernel, or why there is none; compiled once per machine and version of torch.

    It lies in $XDG_CACHE_HOME/salib (by default ~/.cache/salib).
    """
    capable = torch.cpu.get_capabilities()
    if not all(capable.get(f"avx512_{part}") for part in ("f", "bw", "dq", "vl")):
        return None, "impl='fused' needs a processor with AVX-512"
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))), None)
    if compiler is None:
        return None, f"impl='fused' needs a C++ compiler, got none of {', '.join(COMPILERS)}"
    try:
        made = (*FLAGS, compiler, torch.__version__, str(sorted(capable.items())))
        name = hashlib.sha256("\0".join((SOURCE.read_text(), *made)).encode()).hexdigest()[:16]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "salib"
        path = cache / f"fused-{name}.so"
        if not path.is_file():
            _compile(compiler, path)
        return ctypes.CDLL(str(path)), None
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        return None, f"impl='fused' could not be compiled: {detail[-500:]}"


def _compile(compiler: str, path: Path) -> None:
    home = Path(torch.__file__).parent
    path.parent.mkdir(parents=True, exist_ok=True)
    libraries = home / "lib"
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        command = [compiler, *FLAGS, f"-I{home / 'include'}", str(SOURCE), "-o", str(part)]
        command += [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch_cpu", "-lc10"]
        subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
        part.replace(path)


class _Shape(ctypes.Structure):
    """The struct of the same name in fused.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "heads", "queries", "keys", "dim")),
        ("threads", ctypes.c_int64),
        *((name, ctypes.c_int64 * 3) for name in ("q", "k", "v", "out", "grad")),
        *((name, ctypes.c_int64) for name in ("q_places", "k_places", "sink")),
    ]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, geometry: Geometry):
        q, k, v = (_in_rows(t) for t in (q, k, v))
        batch, heads, queries, dim = q.shape
        out = q.new_empty(batch, queries, heads, dim).transpose(1, 2)
        sums = q.new_empty(batch, heads, queries, dtype=torch.float32)
        _call("salib_forward", geometry, q, k, v, out, sums)
        ctx.geometry = geometry
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, out, sums = ctx.saved_tensors
        grad = _in_rows(grads[0])
        results = [t.new_empty(t.shape[0], t.shape[2], t.shape[1], t.shape[3]) for t in (q, k, v)]
        _call("salib_backward", ctx.geometry, q, k, v, out, sums, grad, *results)
        return *(t.transpose(1, 2) for t in results), None


def _in_rows(tokens: Tensor) -> Tensor:
    """The tokens, copied where their numbers are not side by side or tokens overlap."""
    overlap = tokens.shape[2] > 1 and tokens.stride(2) < tokens.shape[3]
    return tokens.contiguous() if overlap or tokens.stride(-1) != 1 else tokens


def _positions(geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates in steps of `reference_m`, from the middle, and slopes; float32, contiguous."""
    q_xy, k_xy = (xy.double() for xy in geometry.batched_positions())
    middle = k_xy.mean((0, 1))  # float32 resolves positions near it
    q_xy, k_xy = q_xy - middle, k_xy - middle
    if geometry.sink:
        k_xy = torch.nn.functional.pad(k_xy, (0, 0, 0, 1))
    q_xy, k_xy = ((xy / geometry.reference_m).float().contiguous() for xy in (q_xy, k_xy))
    return q_xy, k_xy, geometry.slopes.detach().float().contiguous()


def _call(name: str, geometry: Geometry, q: Tensor, k: Tensor, v: Tensor, *others: Tensor) -> None:
    """Call a function of fused.cpp; `others` are out, sums and, backward, grad and its results."""
    compiled, _ = kernel()
    q_xy, k_xy, slopes = _positions(geometry)
    shape = _Shape(*q.shape[:3], k.shape[2], q.shape[3], torch.get_num_threads())
    grad = others[2] if others[2:] else others[0]
    for field, tensor in {"q": q, "k": k, "v": v, "out": others[0], "grad": grad}.items():
        step = max(tensor.stride(2), tensor.shape[3])  # of a single token the stride may be less
        setattr(shape, field, (ctypes.c_int64 * 3)(*tensor.stride()[:2], step))
    shape.q_places, shape.k_places = (0 if len(xy) == 1 else 2 * xy.shape[1] for xy in (q_xy, k_xy))
    shape.sink = geometry.sink
    tensors = (q, k, v, q_xy, k_xy, slopes, *others)
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    function = getattr(compiled, f"{name}_{DTYPES[q.dtype]}")
    function.restype = ctypes.c_char_p
    if fault := function(ctypes.byref(shape), *pointers):
        said = fault.decode(errors="replace")
        raise RuntimeError(f"attention's kernel failed: {said}; use impl='sdpa'")
