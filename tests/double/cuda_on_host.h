// CUDA C++ as C++ for the host: with this before it, a kernel's source is compiled as it stands and run a thread at a time.
//
// To be compiled without contraction to fused multiply-adds (-ffp-contract=off), as the kernels are.
#pragma once

#include <cmath>

#include "libcuda.h"

#define __global__
#define __device__

using std::rintf;

#define blockIdx host_block_index
#define threadIdx host_thread_index
#define blockDim host_block_size
#define gridDim host_grid_size
