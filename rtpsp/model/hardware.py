"""What a training computes on, and in which number format."""

from __future__ import annotations

from typing import Any, cast

import torch

from rtpsp.errors import MissingError, UsageError
from rtpsp.machine import cpu, usable_threads
from rtpsp.model.pspnet import PSPNet
from rtpsp.model.train_options import Precision

BF16_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is ARM's name


def pick_device(name: str | None) -> torch.device:
    """The device of a name such as ``cpu`` or ``cuda:1``; CUDA where there is one, without a name.

    Raises:
        UsageError: No such kind of device.
        MissingError: It is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device {name!r}: use cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device is {name!r}, expected cpu or cuda")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not 0 <= (device.index or 0) < found:  # torch keeps an index in eight bits: of 999 it makes -25
            build = "" if torch.version.cuda else "; this PyTorch is built for CPUs alone"
            raise MissingError(f"no device {name}: PyTorch sees {found} CUDA devices{build}: rtpsp doctor")
    return device


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What products are computed in: bfloat16 by autocast, or float32; convolutions on CUDA are PyTorch's TF32 then.

    Raises:
        UsageError: bf16 was asked for of a GPU without it.
    """
    if precision == "fp32":
        return torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):  # it asks of the current one
            has = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bf16" and not has:
            raise UsageError(f"{torch.cuda.get_device_name(device)} has no bf16: train with --precision fp32")
    else:
        has = precision == "bf16" or bool(BF16_UNITS & cpu().features)  # any CPU emulates it
    return torch.bfloat16 if has else torch.float32


def limit_threads(threads: int) -> None:
    """Let PyTorch compute on so many threads of the CPU; 0 for as many as this process may use."""
    torch.set_num_threads(threads or usable_threads())


def place(model: PSPNet, device: torch.device) -> PSPNet:
    """Move a network, its weights with channels last: oneDNN and cuDNN compute bf16 convolutions in that order."""
    placed: PSPNet = cast(Any, model).to(device, memory_format=torch.channels_last)  # torch's annotation lacks it
    return placed


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Products in a number format; nothing where that is float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
