// The kernels of rtpsp, each compiled for the host from the very source that NVRTC compiles for a GPU.

#include "cuda_on_host.h"

#include "../../rtpsp/engine/kernels/resize.cu"

#include "../../rtpsp/engine/kernels/class_map.cu"

#include "../../rtpsp/engine/kernels/standin.cu"

// Without the driver's double around them, host addresses are the device's.
__attribute__((weak)) void *double_to_host(unsigned long long pointer) { return reinterpret_cast<void *>(pointer); }

const HostKernel host_kernels[] = {
    host_kernel<resize>("resize"),
    host_kernel<resize_wide>("resize_wide"),
    host_kernel<find_contenders>("find_contenders"),
    host_kernel<finish_uint8>("finish_uint8"),
    host_kernel<finish_int32>("finish_int32"),
    host_kernel<standin_wait>("standin_wait"),
    host_kernel<standin_classes>("standin_classes"),
    host_kernel<standin_confidence>("standin_confidence"),
    host_kernel<standin_scores>("standin_scores"),
};
const int host_kernel_count = sizeof(host_kernels) / sizeof(*host_kernels);
