"""A GPU without numbers: shapes, types and autocast of CUDA on any machine. Import before torch.

Operators run on tensors without data (torch's FakeTensorMode), so that XL/2 takes seconds: what a
step allocates and dispatches on a GPU is counted, how long it takes is not. torch built for CPUs
lacks the two tables that CUDA registers itself in; a stub compiled by g++ fills them in.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

STUB = """
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
using namespace c10;
struct Guard : impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return getDevice(); }
  Device getDevice() const override { return Device(DeviceType::CUDA, 0); }
  Stream getStream(Device) const noexcept override {
    return Stream(Stream::DEFAULT, getDevice());
  }
  Stream exchangeStream(Stream) const noexcept override { return getStream(getDevice()); }
} guard;
impl::DeviceGuardImplRegistrar registered(DeviceType::CUDA, &guard);
namespace at {
struct CUDAHooks : CUDAHooksInterface {
  CUDAHooks(CUDAHooksArgs) {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  void init() const override {}
  DeviceIndex deviceCount() const override { return 1; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
};
REGISTER_CUDA_HOOKS(CUDAHooks)
}
"""


def register() -> None:
    """Compiles the stub and loads it, before torch has looked for CUDA's hooks."""
    assert "torch" not in sys.modules, "import fake_gpu first"
    spec = importlib.util.find_spec("torch")
    assert spec and spec.submodule_search_locations, "torch is not installed"
    (root,) = spec.submodule_search_locations
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "stub.cpp", Path(folder) / "stub.so"
        source.write_text(STUB)
        words = f"g++ -std=c++20 -shared -fPIC {source} -o {library} -lc10 -ltorch_cpu"
        subprocess.run([*words.split(), f"-I{root}/include", f"-L{root}/lib"], check=True)
        for path in (f"{root}/lib/libtorch_cpu.so", library):
            ctypes.CDLL(str(path))


register()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

GPU = torch.device("cuda", 0)
# Never called, since no tensor has data: without a kernel for CUDA torch would take six for it.
KERNELS = torch.library.Library("aten", "IMPL")
KERNELS.impl("silu_backward", lambda *_: None, "CUDA")
# What torch asks a real device, or refuses to do with tensors that are not quite torch.Tensor.
ANSWERS: dict[str, Any] = {
    "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
    "torch.cuda.is_bf16_supported": lambda *_: True,
    "torch.nn.utils.clip_grad._has_foreach_support": lambda *_: True,
    "torch.optim.adam._default_to_fused_or_foreach": lambda *_, **__: (False, True),
    "torch.utils.checkpoint.get_device_states": lambda *_: ([], []),
    "torch.Tensor.item": lambda _: 1.0,
    "harness.base.rng.generator": lambda *_: None,
}
# Operators that only allocate, name memory anew or ask a tensor something.
WITHOUT_KERNEL = (
    "empty empty_like empty_strided new_empty new_empty_strided _unsafe_view lift_fresh"
    " prim::device"
).split()


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """The kernels that torch takes on an H100 or H200: flash in 16 bits, else memory-efficient."""
    kernels: Any = torch.ops.aten
    if q.dtype in (torch.bfloat16, torch.float16) and attn_mask is None:
        flash: Tensor = kernels._scaled_dot_product_flash_attention(q, k, v)[0]
        return flash
    trained = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    out: Tensor = kernels._scaled_dot_product_efficient_attention(q, k, v, attn_mask, trained)[0]
    return out


def moved(module: nn.Module, device: torch.device | str, *_: object) -> nn.Module:
    """nn.Module.to, which swaps tensors in place; fake ones cannot be swapped."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                empty = torch.empty_like(p, device=device)
                part._parameters[name] = nn.Parameter(empty, p.requires_grad)
        for name, x in part._buffers.items():
            part._buffers[name] = None if x is None else torch.empty_like(x, device=device)
    return module


@contextmanager
def fake_gpu() -> Iterator[torch.device]:
    """Within, tensors of the device that is given have no data."""
    with ExitStack() as stack:
        for name, answer in ANSWERS.items():
            stack.enter_context(mock.patch(name, answer))
        stack.enter_context(
            mock.patch("torch.nn.functional.scaled_dot_product_attention", attention)
        )
        stack.enter_context(mock.patch.object(nn.Module, "to", moved))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield GPU


class Counted(TorchDispatchMode):
    """The most bytes of the GPU that were alive at once, and how often each operator ran there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, int] = {}
        self.bytes = self.most = 0
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        before = {x.untyped_storage()._cdata for x in given}
        out = func(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        storages = {x.untyped_storage()._cdata: x.untyped_storage() for x in made if x.is_cuda}
        fresh = storages.keys() - before - self.alive.keys()
        for key in fresh:
            self.alive[key] = storages[key].nbytes()
            self.bytes += self.alive[key]
            weakref.finalize(storages[key], self.free, key)
        self.most = max(self.most, self.bytes)
        if any(x.is_cuda for x in (*given, *made)) and (fresh or not func.is_view):
            self.ran[func._schema.name.removeprefix("aten::")] += 1
        return out

    def free(self, storage: int) -> None:
        self.bytes -= self.alive.pop(storage)

    @property
    def kernels(self) -> Counter[str]:
        """Operators that ran a kernel; one of many tensors, such as AdamW's, counts once."""
        return Counter({name: n for name, n in self.ran.items() if name not in WITHOUT_KERNEL})
