// A double of NVIDIA's driver, libcuda.so.1: real bindings run on it where there is no GPU.
//
// Device memory is host memory behind addresses that no CPU can follow. What a stream is given does not run until
// something waits for it, and then only what it depends on runs before it: a missing wait shows, as stale data. What
// else may happen in between is the mode's choice (see `Mode`). Every call is logged with its thread, any call or
// operation can be made to fail, and what was not given back is counted.
//
// Numbers of errors and flags are those of cuda.h. What a function does is what NVIDIA documents for it, as far as
// rtpsp.engine.cuda needs it; pageable memory is copied aside at once, which the driver may do.
#include "libcuda.h"
#include "world.h"

#include <dlfcn.h>

#include <array>
#include <cstdio>

namespace {

// Kernels that are there in PTX: the contract suite's own, see tests/double/cuda_contract.py, and the delay of
// rtpsp/engine/cuda_timing.py, which takes no time where streams have no clock.
void contract_scale(const float *from, float *to, int count, double factor, unsigned char offset) {
    const unsigned i = host_block_index.x * host_block_size.x + host_thread_index.x;
    if (int(i) < count)
        to[i] = from[i] * float(factor) + float(offset);
}
void rtpsp_delay(unsigned long long) {}
const HostKernel PTX_KERNELS[] = {host_kernel<contract_scale>("contract_scale"),
                                  host_kernel<rtpsp_delay>("rtpsp_delay")};

const HostKernel *host_kernel_named(const char *name) {
    for (const HostKernel &kernel : PTX_KERNELS)
        if (!std::strcmp(kernel.name, name))
            return &kernel;
    for (int i = 0; i < host_kernel_count; ++i)
        if (!std::strcmp(host_kernels[i].name, name))
            return &host_kernels[i];
    return nullptr;
}

void *number(Address value) { return reinterpret_cast<void *>(value); }

} // namespace

void *double_to_host(unsigned long long pointer) { return device_bytes(pointer, 1); }

#define API extern "C" __attribute__((visibility("default")))

// ---- driver and device

API int cuInit(unsigned) {
    return call("cuInit", nullptr, NOTHING, [] {
        if (!world.devices)
            throw Fault{NO_DEVICE};
        world.initialised = true;
    });
}

API int cuDriverGetVersion(int *version) {
    return call("cuDriverGetVersion", nullptr, NOTHING, [=] { *version = world.version; });
}

API int cuDeviceGetCount(int *count) {
    return call("cuDeviceGetCount", nullptr, DRIVER, [=] { *count = world.devices; });
}

API int cuDeviceGet(int *device, int ordinal) {
    return call("cuDeviceGet", number(ordinal), DRIVER, [=] {
        if (ordinal < 0 || ordinal >= world.devices)
            throw Fault{INVALID_DEVICE};
        *device = ordinal;
    });
}

API int cuDeviceGetName(char *name, int length, int) {
    return call("cuDeviceGetName", nullptr, DRIVER, [=] { std::snprintf(name, length, "Double"); });
}

API int cuDeviceGetAttribute(int *value, int attribute, int) {
    return call("cuDeviceGetAttribute", number(attribute), DRIVER, [=] {
        const std::map<int, int> known = {{1, 1024}, {10, 32}, {16, 4}, {75, world.capability / 10},
                                          {76, world.capability % 10}, {41, 1}, {40, 3}};
        *value = known.count(attribute) ? known.at(attribute) : 0;
    });
}

API int cuDeviceComputeCapability(int *major, int *minor, int) {
    return call("cuDeviceComputeCapability", nullptr, DRIVER,
                [=] { *major = world.capability / 10, *minor = world.capability % 10; });
}

API int cuDeviceTotalMem_v2(size_t *nbytes, int) {
    return call("cuDeviceTotalMem", nullptr, DRIVER, [=] { *nbytes = world.total; });
}

API int cuGetErrorString(int code, const char **text) {
    *text = ERRORS.count(code) ? ERRORS.at(code).second : nullptr;
    return *text ? SUCCESS : INVALID_VALUE;
}

API int cuGetErrorName(int code, const char **name) {
    *name = ERRORS.count(code) ? ERRORS.at(code).first : nullptr;
    return *name ? SUCCESS : INVALID_VALUE;
}

// ---- context

API int cuDevicePrimaryCtxRetain(void **context, int device) {
    return call("cuDevicePrimaryCtxRetain", number(device), DRIVER, [=] { *context = CONTEXT, ++world.retained; });
}

API int cuDevicePrimaryCtxRelease_v2(int device) {
    return call("cuDevicePrimaryCtxRelease", number(device), DRIVER, [] {
        if (--world.retained < 0)
            throw Fault{INVALID_CONTEXT};
    });
}

API int cuCtxDetach(void *context) {
    return call("cuCtxDetach", context, DRIVER, [] { throw Fault{INVALID_CONTEXT}; }); // never of a primary context
}

API int cuCtxPushCurrent_v2(void *context) {
    return call("cuCtxPushCurrent", context, DRIVER, [=] {
        if (context != CONTEXT)
            throw Fault{INVALID_CONTEXT};
        contexts.push_back(context), ++world.pushed;
    });
}

API int cuCtxPopCurrent_v2(void **context) {
    return call("cuCtxPopCurrent", nullptr, DRIVER, [=] {
        if (contexts.empty())
            throw Fault{INVALID_CONTEXT};
        if (context)
            *context = contexts.back();
        contexts.pop_back(), --world.pushed;
    });
}

API int cuCtxGetCurrent(void **context) {
    return call("cuCtxGetCurrent", nullptr, DRIVER, [=] { *context = contexts.empty() ? nullptr : contexts.back(); });
}

API int cuCtxSetCurrent(void *context) {
    return call("cuCtxSetCurrent", context, DRIVER, [=] {
        if (!contexts.empty())
            contexts.pop_back(), --world.pushed;
        if (context)
            contexts.push_back(context), ++world.pushed;
    });
}

API int cuCtxGetDevice(int *device) {
    return call("cuCtxGetDevice", nullptr, CONTEXT_, [=] { *device = 0; });
}

API int cuCtxSynchronize() {
    return call("cuCtxSynchronize", nullptr, CONTEXT_, [] {
        forbid_while_any_captures([](const Capture &) { return true; }); // whatever its mode and thread
        wait_for_all();
    });
}

// ---- memory

API int cuMemGetInfo_v2(size_t *free, size_t *total) {
    return call("cuMemGetInfo", nullptr, CONTEXT_, [=] { *free = world.total - world.used, *total = world.total; });
}

API int cuMemAlloc_v2(Address *pointer, size_t nbytes) {
    return call("cuMemAlloc", nullptr, CONTEXT_, [=] {
        forbid_while_capturing_here();
        if (!nbytes)
            throw Fault{INVALID_VALUE};
        if (nbytes > world.total - world.used)
            throw Fault{OUT_OF_MEMORY};
        *pointer = world.next_address;
        world.next_address += (nbytes / ALIGNMENT + 2) * ALIGNMENT; // what runs over an end meets no other buffer
        world.device_memory[*pointer] = map_memory(nbytes);
        world.used += nbytes;
    });
}

API int cuMemFree_v2(Address pointer) {
    return call("cuMemFree", number(pointer), CLEANUP, [=] {
        forbid_while_capturing_here();
        auto found = world.device_memory.find(pointer);
        if (found == world.device_memory.end())
            throw Fault{INVALID_VALUE};
        world.used -= found->second.nbytes;
        world.overruns += !unmap_memory(found->second);
        world.device_memory.erase(found);
    });
}

API int cuMemHostAlloc(void **host, size_t nbytes, unsigned) {
    return call("cuMemHostAlloc", nullptr, CONTEXT_, [=] {
        forbid_while_capturing_here();
        if (!nbytes)
            throw Fault{INVALID_VALUE};
        const Memory memory = map_memory(nbytes);
        world.pinned_memory[memory.host] = memory;
        *host = memory.host;
    });
}

API int cuMemFreeHost(void *host) {
    return call("cuMemFreeHost", host, CLEANUP, [=] {
        forbid_while_capturing_here();
        auto found = world.pinned_memory.find(static_cast<unsigned char *>(host));
        if (found == world.pinned_memory.end())
            throw Fault{INVALID_VALUE};
        world.overruns += !unmap_memory(found->second);
        world.pinned_memory.erase(found);
    });
}

API int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t nbytes, void *stream) {
    return call("cuMemcpyHtoDAsync", stream, CONTEXT_, [=] {
        allocation_of(to, nbytes);
        const bool pinned = is_pinned(from, nbytes);
        auto aside = std::make_shared<std::vector<unsigned char>>();
        if (!pinned)
            aside->assign(static_cast<const unsigned char *>(from), static_cast<const unsigned char *>(from) + nbytes);
        enqueue(stream, "cuMemcpyHtoDAsync", [=] {
            if (pinned && !is_pinned(from, nbytes))
                throw Fault{ILLEGAL_ADDRESS}; // freed in the meantime
            std::memcpy(device_bytes(to, nbytes), pinned ? from : aside->data(), nbytes);
        });
    });
}

API int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t nbytes, void *stream) {
    return call("cuMemcpyDtoHAsync", stream, CONTEXT_, [=] {
        allocation_of(from, nbytes);
        const bool pinned = is_pinned(to, nbytes);
        Op op = enqueue(stream, "cuMemcpyDtoHAsync", [=] {
            if (pinned && !is_pinned(to, nbytes))
                throw Fault{ILLEGAL_ADDRESS};
            std::memcpy(to, device_bytes(from, nbytes), nbytes);
        });
        if (!pinned && !find(world.streams, stream).capture)
            wait_for(op);
    });
}

API int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t nbytes, void *stream) {
    return call("cuMemcpyDtoDAsync", stream, CONTEXT_, [=] {
        enqueue(stream, "cuMemcpyDtoDAsync",
                [=] { std::memmove(device_bytes(to, nbytes), device_bytes(from, nbytes), nbytes); });
    });
}

API int cuMemsetD8Async(Address to, unsigned char value, size_t nbytes, void *stream) {
    return call("cuMemsetD8Async", stream, CONTEXT_, [=] {
        enqueue(stream, "cuMemsetD8Async", [=] { std::memset(device_bytes(to, nbytes), value, nbytes); });
    });
}

// ---- streams and events

API int cuStreamCreate(void **stream, unsigned) {
    return call("cuStreamCreate", nullptr, CONTEXT_, [=] {
        *stream = new_handle();
        world.streams[*stream];
    });
}

API int cuStreamDestroy_v2(void *stream) {
    return call("cuStreamDestroy", stream, CLEANUP, [=] {
        for (Stream &gone = find(world.streams, stream); Op op = newest(gone); gone.pending.pop_back())
            run_needed(op); // the driver lets it end, in its own time
        world.streams.erase(stream);
    });
}

API int cuStreamSynchronize(void *stream) {
    return call("cuStreamSynchronize", stream, CONTEXT_, [=] {
        Stream &found = find(world.streams, stream);
        forbid_while_capturing(found.capture);
        forbid_while_capturing_here();
        if (Op op = newest(found))
            wait_for(op);
    });
}

API int cuStreamQuery(void *stream) {
    return call("cuStreamQuery", stream, CONTEXT_, [=] {
        Stream &found = find(world.streams, stream);
        forbid_while_capturing(found.capture);
        forbid_while_capturing_here();
        Op op = newest(found);
        if (op && !op->done) {
            step([&](const Op &head) { return comes_after(op, head); });
            throw Fault{NOT_READY};
        }
    });
}

API int cuStreamWaitEvent(void *stream, void *event, unsigned) {
    return call("cuStreamWaitEvent", stream, CONTEXT_, [=] {
        Stream &found = find(world.streams, stream);
        Event &awaited = find(world.events, event);
        if (awaited.capture && awaited.capture->ended)
            throw Fault{CAPTURED_EVENT};
        if (found.capture && !awaited.capture && awaited.point)
            forbid_while_capturing(found.capture, CAPTURE_ISOLATION);
        if (awaited.capture && awaited.stream != stream) {
            if (!found.capture)
                found.capture = awaited.capture; // the capture takes this stream in
            else if (stream == found.capture->origin)
                found.capture->joined.insert(awaited.stream);
        } else if (!awaited.capture && awaited.point)
            enqueue(stream, "cuStreamWaitEvent", nullptr, awaited.point);
    });
}

API int cuEventCreate(void **event, unsigned flags) {
    return call("cuEventCreate", nullptr, CONTEXT_, [=] {
        *event = new_handle();
        world.events[*event].flags = flags;
    });
}

API int cuEventDestroy_v2(void *event) {
    return call("cuEventDestroy", event, CLEANUP, [=] {
        find(world.events, event);
        world.events.erase(event);
    });
}

API int cuEventRecord(void *event, void *stream) {
    return call("cuEventRecord", event, CONTEXT_, [=] {
        Event &recorded = find(world.events, event);
        recorded.point = enqueue(stream, "cuEventRecord", nullptr);
        recorded.capture = find(world.streams, stream).capture;
        recorded.stream = stream;
    });
}

API int cuEventSynchronize(void *event) {
    return call("cuEventSynchronize", event, CONTEXT_, [=] {
        Event &awaited = find(world.events, event);
        if (awaited.capture)
            throw Fault{CAPTURED_EVENT};
        forbid_while_capturing_here();
        if (awaited.point)
            wait_for(awaited.point);
    });
}

API int cuEventQuery(void *event) {
    return call("cuEventQuery", event, CONTEXT_, [=] {
        Event &asked = find(world.events, event);
        if (asked.capture)
            throw Fault{CAPTURED_EVENT};
        forbid_while_capturing_here();
        if (asked.point && !asked.point->done) {
            step([&](const Op &head) { return comes_after(asked.point, head); }); // time goes by
            throw Fault{NOT_READY};
        }
    });
}

API int cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
    return call("cuEventElapsedTime", start, CONTEXT_, [=] {
        constexpr unsigned DISABLE_TIMING = 2;
        const Event &first = find(world.events, start), &last = find(world.events, end);
        if (!first.point || !last.point || (first.flags | last.flags) & DISABLE_TIMING)
            throw Fault{INVALID_HANDLE};
        if (!first.point->done || !last.point->done)
            throw Fault{NOT_READY};
        *milliseconds = float(double(last.point->ran_at - first.point->ran_at) * 1e-6);
    });
}

API int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

// ---- kernels

API int cuModuleLoadData(void **module, const void *image) {
    return call("cuModuleLoadData", nullptr, CONTEXT_, [=] {
        forbid_while_capturing_here();
        auto *bytes = static_cast<const char *>(image);
        size_t length = 0;
        if (!std::memcmp(bytes, "\177ELF", 4)) { // its table of sections ends it
            unsigned long long table;
            unsigned short size, count;
            std::memcpy(&table, bytes + 40, 8), std::memcpy(&size, bytes + 58, 2), std::memcpy(&count, bytes + 60, 2);
            length = table + size_t(size) * count;
        } else if (std::strchr("/.", bytes[std::strspn(bytes, " \n")])) // PTX begins with a comment or a directive
            length = std::strlen(bytes);
        else
            throw Fault{INVALID_IMAGE};
        *module = new_handle();
        world.modules[*module] = {std::string(bytes, length)};
    });
}

API int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options, void **values) {
    for (unsigned i = 0; i < count; ++i)
        if (options[i] == 4 || options[i] == 6) // sizes of the log buffers; they come back as bytes written
            values[i] = nullptr;
    return cuModuleLoadData(module, image);
}

API int cuModuleUnload(void *module) {
    return call("cuModuleUnload", module, CLEANUP, [=] {
        forbid_while_capturing_here();
        find(world.modules, module);
        world.modules.erase(module);
        for (auto it = world.functions.begin(); it != world.functions.end();)
            it = it->second.module == module ? world.functions.erase(it) : std::next(it);
    });
}

API int cuModuleGetFunction(void **function, void *module, const char *name) {
    return call("cuModuleGetFunction", module, CONTEXT_, [=] {
        const std::string &image = find(world.modules, module).image;
        const HostKernel *kernel = host_kernel_named(name);
        if (!kernel || image.find(name) == std::string::npos)
            throw Fault{NOT_FOUND};
        *function = new_handle();
        world.functions[*function] = {kernel, module};
    });
}

API int cuFuncSetBlockShape(void *, int, int, int) { return SUCCESS; }

API int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned, void *stream, void **parameters, void **extra) {
    return call("cuLaunchKernel", function, CONTEXT_, [=] {
        const HostKernel *kernel = find(world.functions, function).kernel;
        if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024 || gy > 65535 || gz > 65535 || bz > 64)
            throw Fault{INVALID_VALUE};
        const char *packed = nullptr;
        size_t packed_size = 0;
        for (void **word = extra; word && *word; word += 2) {
            if (word[0] == number(1))
                packed = static_cast<const char *>(word[1]);
            else
                packed_size = *static_cast<size_t *>(word[1]);
        }
        auto values = std::make_shared<std::vector<unsigned long long>>(kernel->count);
        size_t offset = 0;
        for (int i = 0; i < kernel->count; ++i) {
            const size_t size = kernel->sizes[i];
            offset = (offset + size - 1) / size * size;
            if (packed && offset + size > packed_size)
                throw Fault{INVALID_VALUE}; // too few arguments
            std::memcpy(&(*values)[i], packed ? packed + offset : parameters[i], size);
            offset += size;
        }
        if (packed && offset != packed_size)
            throw Fault{INVALID_VALUE};
        const std::array<unsigned, 3> grid = {gx, gy, gz}, block = {bx, by, bz};
        enqueue(stream, "cuLaunchKernel", [=] {
            std::vector<void *> arguments;
            for (unsigned long long &value : *values)
                arguments.push_back(&value);
            kernel->call(arguments.data(), grid.data(), block.data());
        });
    });
}

API int cuLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    return call("cuLaunchHostFunc", stream, CONTEXT_,
                [=] { enqueue(stream, "cuLaunchHostFunc", [=] { function(data); }); });
}

// ---- graphs

API int cuStreamBeginCapture_v2(void *stream, int mode) {
    return call("cuStreamBeginCapture", stream, CONTEXT_, [=] {
        Stream &found = find(world.streams, stream);
        if (!stream || found.capture)
            throw Fault{stream ? INVALID_VALUE : CAPTURE_UNSUPPORTED};
        found.capture = std::make_shared<Capture>(Capture{stream, this_thread(), mode, {}, {}, {}});
    });
}

API int cuStreamIsCapturing(void *stream, int *status) {
    return call("cuStreamIsCapturing", stream, CONTEXT_, [=] {
        const auto &capture = find(world.streams, stream).capture;
        *status = capture ? capture->invalid ? 2 : 1 : 0;
    });
}

API int cuStreamEndCapture(void *stream, void **graph) {
    *graph = nullptr;
    return call("cuStreamEndCapture", stream, CONTEXT_, [=] {
        const auto capture = find(world.streams, stream).capture;
        if (!capture)
            throw Fault{INVALID_VALUE};
        if (capture->origin != stream)
            throw Fault{CAPTURE_UNMATCHED};
        if (capture->thread != this_thread())
            throw Fault{CAPTURE_WRONG_THREAD};
        for (auto &[handle, other] : world.streams)
            if (other.capture == capture)
                other.capture = nullptr;
        capture->ended = true;
        if (capture->invalid)
            throw Fault{CAPTURE_INVALIDATED};
        for (auto &[handle, place] : capture->last)
            if (handle != stream && !capture->joined.count(handle))
                throw Fault{CAPTURE_UNJOINED};
        *graph = new_handle();
        world.graphs[*graph] = capture->operations;
    });
}

API int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
    return call("cuGraphInstantiate", graph, CONTEXT_, [=] {
        const Graph &operations = find(world.graphs, graph);
        *executable = new_handle();
        world.executables[*executable] = operations;
    });
}

API int cuGraphLaunch(void *executable, void *stream) {
    return call("cuGraphLaunch", executable, CONTEXT_, [=] {
        const Graph operations = find(world.executables, executable); // in the order they were put
        enqueue(stream, "cuGraphLaunch", [=] {
            for (const Op &op : operations)
                if (op->run)
                    op->run();
        });
    });
}

API int cuGraphDestroy(void *graph) {
    return call("cuGraphDestroy", graph, CLEANUP, [=] {
        find(world.graphs, graph);
        world.graphs.erase(graph);
    });
}

API int cuGraphExecDestroy(void *executable) {
    return call("cuGraphExecDestroy", executable, CLEANUP, [=] {
        find(world.executables, executable);
        world.executables.erase(executable);
    });
}

// ---- how bindings find all this

API int cuGetProcAddress_v2(const char *name, void **function, int, unsigned long long, int *status) {
    static void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    *function = nullptr;
    for (const char *suffix : {"_v2", "WithFlags", ""})
        if (!*function)
            *function = dlsym(self, (std::string(name) + suffix).c_str());
    if (status)
        *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}

// NVRTC asks the driver for tables of its own, and crashes where the function is missing; an error it takes for "none".
API int cuGetExportTable(const void **table, const void *) {
    *table = nullptr;
    return NOT_FOUND;
}

// ---- what tests ask and set

API void double_reset() {
    std::lock_guard lock(world.mutex);
    const int retained = world.retained; // bindings keep the primary context for the process's life
    world.device_memory.clear(), world.pinned_memory.clear(), world.events.clear(), world.modules.clear();
    world.functions.clear(), world.graphs.clear(), world.executables.clear(), world.log.clear(), world.faults.clear();
    world.streams.clear(), world.streams[nullptr];
    world.mode = LAZY, world.sticky = SUCCESS, world.used = 0, world.refused = 0, world.overruns = 0;
    world.retained = retained;
    world.devices = 1, world.version = 13000, world.total = size_t(1) << 30, world.initialised = true;
}

API void double_mode(int mode, unsigned seed) { world.mode = Mode(mode), world.random.seed(seed); }

// The nth call from now of a function, or for "run:NAME" the nth time that what it put onto a stream runs.
API void double_fail(const char *name, int nth, int code) {
    std::lock_guard lock(world.mutex);
    world.faults[name].push_back({nth, code});
}

API void double_set_device(int devices, int version, unsigned long long total) {
    world.devices = devices, world.version = version, world.total = total;
}

API int double_count(const char *what) {
    std::lock_guard lock(world.mutex);
    size_t pending = 0;
    for (auto &[handle, stream] : world.streams)
        pending += std::count_if(stream.pending.begin(), stream.pending.end(), [](const Op &op) { return !op->done; });
    const std::map<std::string, size_t> counts = {
        {"buffers", world.device_memory.size()}, {"pinned", world.pinned_memory.size()},
        {"streams", world.streams.size() - 1},   {"events", world.events.size()},
        {"modules", world.modules.size()},       {"graphs", world.graphs.size() + world.executables.size()},
        {"pushed", size_t(world.pushed)},        {"retained", size_t(world.retained)},
        {"overruns", size_t(world.overruns)},    {"pending", pending},
    };
    return counts.count(what) ? int(counts.at(what)) : -1;
}

API int double_log_size() { return int(world.log.size()); }
API const char *double_log_name(int i) { return world.log[i].name.c_str(); }
API long double_log_thread(int i) { return world.log[i].thread; }
API Address double_log_handle(int i) { return world.log[i].handle; }
