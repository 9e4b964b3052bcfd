// What kernels.cpp gives to the driver's double: each kernel as a host function, found by the name it has in the image.
//
//     const HostKernel host_kernels[] = {host_kernel<add_one>("add_one"), ...};
//     const int host_kernel_count = ...;
//
// host_kernel<f> runs f once a thread with the kernel's own parameters; pointers to device memory come translated to
// where the double keeps it, and an address that is not the device's ends the launch with CUDA_ERROR_ILLEGAL_ADDRESS.
#pragma once

#include <cstddef>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

struct HostKernel {
    const char *name;
    void (*call)(void **arguments, const unsigned grid[3], const unsigned block[3]);
    int count;             // of parameters
    const unsigned *sizes; // of each, in bytes
};

extern const HostKernel host_kernels[];
extern const int host_kernel_count;

// Where the double keeps a byte of device memory; throws what a launch turns into CUDA_ERROR_ILLEGAL_ADDRESS.
void *double_to_host(unsigned long long pointer);

// The thread that is running: kernels.cpp makes blockIdx and the like of these.
struct HostIndex {
    unsigned x, y, z;
};
inline thread_local HostIndex host_block_index, host_thread_index, host_block_size, host_grid_size;

template <typename T> T host_argument(const void *value) {
    if constexpr (std::is_pointer_v<T>) {
        unsigned long long pointer;
        std::memcpy(&pointer, value, sizeof pointer);
        return pointer ? reinterpret_cast<T>(double_to_host(pointer)) : nullptr;
    } else {
        std::remove_cv_t<T> number;
        std::memcpy(&number, value, sizeof number);
        return number;
    }
}

template <auto function, typename Signature = decltype(function)> struct OnHost;

template <auto function, typename... Parameters> struct OnHost<function, void (*)(Parameters...)> {
    static constexpr unsigned sizes[sizeof...(Parameters) + 1] = {unsigned(sizeof(Parameters))..., 0};

    template <size_t... i>
    static void unpack(void **arguments, const unsigned *grid, const unsigned *block, std::index_sequence<i...>) {
        std::tuple<Parameters...> values{host_argument<Parameters>(arguments[i])...};
        host_grid_size = {grid[0], grid[1], grid[2]}, host_block_size = {block[0], block[1], block[2]};
        for (unsigned bz = 0; bz < grid[2]; ++bz)
            for (unsigned by = 0; by < grid[1]; ++by)
                for (unsigned bx = 0; bx < grid[0]; ++bx)
                    for (unsigned z = 0; z < block[2]; ++z)
                        for (unsigned y = 0; y < block[1]; ++y)
                            for (unsigned x = 0; x < block[0]; ++x) {
                                host_block_index = {bx, by, bz}, host_thread_index = {x, y, z};
                                std::apply(function, values);
                            }
    }

    static void call(void **arguments, const unsigned grid[3], const unsigned block[3]) {
        unpack(arguments, grid, block, std::index_sequence_for<Parameters...>{});
    }
};

template <auto function> constexpr HostKernel host_kernel(const char *name) {
    using Host = OnHost<function>;
    return {name, Host::call, int(sizeof(Host::sizes) / sizeof(unsigned)) - 1, Host::sizes};
}
