"""In which number format are the large products computed?

bf16 has the range of a 32-bit float and 8 bits of precision. Where a device has arithmetic for it,
a training is several times as fast (chapter 5); where it has none, the format is imitated and a
training many times slower. The paper's nets were trained in 32 bits.
"""

from __future__ import annotations

import torch

PRECISIONS = ("fp32", "bf16", "auto")


def has_bf16(device: torch.device | str) -> bool:
    """Does a device compute in bf16, rather than imitate it?

    A CPU does if oneDNN, the library of torch's convolutions, has kernels for it there: on x86 from
    AVX-512 on. A GPU of NVIDIA does from compute capability 8.0 (2020) on.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def check_precision(precision: str) -> None:
    """Raise a ValueError that names the precisions there are."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def computes_in_bf16(device: torch.device | str, precision: str) -> bool:
    """Does a net compute in bf16 on this device, if the precision is this one of ``PRECISIONS``?"""
    return precision == "bf16" or (precision == "auto" and has_bf16(device))


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """The context in which a net computes in a precision; weights stay in fp32.

    Parameters
    ----------
    device : torch.device or str
    precision : {"fp32", "bf16", "auto"}
        ``"auto"``: bf16 where the device computes in it, else fp32.

    Raises
    ------
    ValueError
        If ``precision`` is none of these.
    """
    check_precision(precision)
    half = computes_in_bf16(device, precision)
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half)
