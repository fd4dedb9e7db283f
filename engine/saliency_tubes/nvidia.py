"""What the NVIDIA driver says of this machine, asked without any CUDA library."""

import ctypes
import sys

_NAME_LENGTH = 256


def obstacle() -> str | None:
    """Why no NVIDIA GPU can be used here; None when the driver finds one."""
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return f"no NVIDIA driver on this machine ({driver} was not found)"
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no GPU on this machine"
    return None


def gpu_name() -> str:
    """The first GPU's name, such as ``NVIDIA H100 80GB HBM3``; to be asked where there is no `obstacle`."""
    cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    name, device = ctypes.create_string_buffer(_NAME_LENGTH), ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return "unknown GPU"
    if cuda.cuDeviceGetName(name, _NAME_LENGTH, device) != 0:
        return "unknown GPU"
    return name.value.decode("ascii", errors="replace")
