"""In which number format are the large products computed?

bf16 has the range of a 32-bit float and 8 bits of precision. Where a device has arithmetic for it,
a training is several times as fast (chapter 5); where it has none, the format is imitated and a
training many times slower. fp16 has 11 bits and a small range, in which gradients vanish unless
the loss is scaled (Micikevicius et al., 2018); TF32 rounds the factors of products to 11 bits and
leaves all else in 32. The paper's nets were trained in 32 bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from .checks import choice

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "auto")
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def has_bf16(device: torch.device | str) -> bool:
    """Does a device compute in bf16, rather than imitate it?

    A CPU does if oneDNN, the library of torch's convolutions, has kernels for it there: on x86 from
    AVX-512 on. A GPU of NVIDIA does from compute capability 8.0 (2020) on.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def has_fp16(device: torch.device | str) -> bool:
    """The same for fp16: GPUs of NVIDIA from compute capability 7.0 (2017), of Apple, few CPUs."""
    device = torch.device(device)
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_fp16_supported()
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 0)
    return device.type == "mps"


def check_precision(precision: str) -> None:
    """Raise a ValueError that names the precisions there are."""
    choice("precision", precision, PRECISIONS)


def precision_on(device: torch.device | str, precision: str) -> str:
    """What ``"auto"`` is on a device; other precisions are what they are.

    bf16 where the device computes in it; fp16 on GPUs of NVIDIA whose fast units know no other
    format; else fp32.
    """
    check_precision(precision)
    if precision != "auto":
        return precision
    if has_bf16(device):
        return "bf16"
    return "fp16" if torch.device(device).type == "cuda" and has_fp16(device) else "fp32"


def imitates(device: torch.device | str, precision: str) -> bool:
    """Has a device no arithmetic for a half precision?"""
    there = {"bf16": has_bf16, "fp16": has_fp16}.get(precision)
    return there is not None and not there(device)


@contextlib.contextmanager
def products_in_tf32() -> Iterator[None]:
    """While it is open, a GPU makes products of 32-bit numbers in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager:
    """The context in which a net computes in a precision; weights stay in fp32.

    ``"fp32"`` leaves torch's own settings as they are, by which cuDNN's convolutions may round to
    TF32. A precision that is none of :data:`PRECISIONS` is a ValueError.
    """
    precision, kind = precision_on(device, precision), torch.device(device).type
    if precision == "tf32":
        return products_in_tf32()
    if precision == "fp32" and not torch.amp.is_autocast_available(kind):
        return contextlib.nullcontext()  # an older torch has none for Apple's GPUs
    return torch.autocast(kind, HALF.get(precision), enabled=precision in HALF)
