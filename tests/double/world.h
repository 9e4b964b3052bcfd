// What the driver's double keeps, and when the operations that its streams were given run. For libcuda.cpp alone.
#pragma once

#include "libcuda.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace {

using Address = unsigned long long;

enum Error {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
    INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NO_BINARY_FOR_GPU = 209, INVALID_HANDLE = 400, NOT_FOUND = 500,
    NOT_READY = 600, ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904, CAPTURE_ISOLATION = 905, CAPTURED_EVENT = 907, CAPTURE_WRONG_THREAD = 908,
};

const std::map<int, std::pair<const char *, const char *>> ERRORS = {
    {0, {"CUDA_SUCCESS", "no error"}},
    {1, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {2, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {3, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {34, {"CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"}},
    {46, {"CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"}},
    {100, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {101, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {200, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {201, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {209, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {222, {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."}},
    {400, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {500, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {600, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {700, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {719, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {801, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}},
    {802, {"CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"}},
    {803, {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"}},
    {804,
     {"CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted on non supported HW"}},
    {900,
     {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
    {901,
     {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
    {903, {"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"}},
    {904, {"CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"}},
    {905, {"CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"}},
    {907, {"CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"}},
    {908,
     {"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
      "attempt to terminate a thread-local capture sequence from another thread"}},
    {999, {"CUDA_ERROR_UNKNOWN", "unknown error"}},
};

struct Fault {
    int code;
};

// ---- memory

constexpr Address FIRST_ADDRESS = 0x00D0000000000000; // no x86-64 or Arm CPU maps it
constexpr size_t PAGE = 4096, GUARD = 64;
constexpr unsigned char FRESH = 0xCD, GUARDED = 0xFD;
constexpr size_t ALIGNMENT = 512; // cuMemAlloc promises at least 256

struct Memory {
    unsigned char *host;
    size_t nbytes, mapped;
};

Memory map_memory(size_t nbytes) {
    const size_t mapped = (nbytes + GUARD + PAGE - 1) / PAGE * PAGE;
    void *host = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Memory memory{static_cast<unsigned char *>(host), nbytes, mapped};
    std::memset(memory.host, FRESH, nbytes);
    std::memset(memory.host + nbytes, GUARDED, GUARD);
    return memory;
}

// True if nothing was written behind its end. Who reads it afterwards finds zeros, who writes crashes at once.
bool unmap_memory(const Memory &memory) {
    bool intact = true;
    for (size_t i = 0; i < GUARD; ++i)
        intact &= memory.host[memory.nbytes + i] == GUARDED;
    mmap(memory.host, memory.mapped, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return intact;
}

// ---- streams of operations

struct Operation {
    std::string call;
    std::function<void()> run; // empty for a mere point in the order
    std::vector<std::shared_ptr<Operation>> after;
    bool done = false;
    long long ran_at = 0; // ns
};
using Op = std::shared_ptr<Operation>;

struct Capture;

struct Stream {
    std::deque<Op> pending;
    std::shared_ptr<Capture> capture;
};

struct Capture {
    void *origin;
    long thread;
    int mode; // whom it forbids to allocate or wait: 0 every thread, 1 its own, 2 none
    std::vector<Op> operations;
    std::map<void *, size_t> last; // each stream's newest operation, by its place in `operations`
    std::set<void *> joined;       // streams whose work the origin waits for, up to now
    bool invalid = false, ended = false;
};

struct Event {
    unsigned flags = 0;
    Op point;
    std::shared_ptr<Capture> capture; // of a captured record
    void *stream = nullptr;
};

struct Module {
    std::string image;
};

struct Function {
    const HostKernel *kernel;
    void *module;
};

using Graph = std::vector<Op>;

enum Mode {
    LAZY = 0,         // as late as can be
    EAGER = 1,        // at once
    OTHERS_FIRST = 2, // before what is waited for, all that need not come after it: finds what is overwritten too soon
    SHUFFLED = 3,     // any order that the streams and events allow
};

struct Call {
    std::string name;
    long thread;
    Address handle;
};

struct World {
    std::recursive_mutex mutex;
    Mode mode = LAZY;
    std::mt19937 random{1};
    bool initialised = false;
    int devices = 1, version = 13000, capability = 90, sticky = SUCCESS;
    size_t total = size_t(1) << 30, used = 0;
    Address next_address = FIRST_ADDRESS, next_handle = 0x5000;
    std::map<Address, Memory> device_memory;
    std::map<unsigned char *, Memory> pinned_memory;
    std::map<void *, Stream> streams{{nullptr, Stream{}}};
    std::map<void *, Event> events;
    std::map<void *, Module> modules;
    std::map<void *, Function> functions;
    std::map<void *, Graph> graphs, executables;
    int retained = 0, pushed = 0, overruns = 0;
    std::vector<Call> log;
    size_t refused = 0; // the log's length when memory was last refused
    std::map<std::string, std::deque<std::pair<int, int>>> faults; // calls until then, code
};

// Never destroyed: bindings free things while the process ends.
World &world = *new World;
thread_local std::vector<void *> contexts;
void *const CONTEXT = reinterpret_cast<void *>(0xC0DE0);

long this_thread() { return syscall(SYS_gettid); }

void *new_handle() { return reinterpret_cast<void *>(world.next_handle += 16); }

int fault(const std::string &name) {
    auto found = world.faults.find(name);
    if (found == world.faults.end())
        return SUCCESS;
    int code = SUCCESS;
    for (auto &[left, then] : found->second)
        if (--left == 0)
            code = then;
    return code;
}

template <typename T> T &find(std::map<void *, T> &things, void *handle) {
    auto found = things.find(handle);
    if (found == things.end())
        throw Fault{INVALID_HANDLE};
    return found->second;
}

std::pair<const Address, Memory> &allocation_of(Address pointer, size_t nbytes) {
    auto next = world.device_memory.upper_bound(pointer);
    if (next == world.device_memory.begin())
        throw Fault{ILLEGAL_ADDRESS};
    auto &found = *std::prev(next);
    if (pointer + nbytes > found.first + found.second.nbytes)
        throw Fault{ILLEGAL_ADDRESS};
    return found;
}

unsigned char *device_bytes(Address pointer, size_t nbytes) {
    auto &[base, memory] = allocation_of(pointer, nbytes);
    return memory.host + (pointer - base);
}

bool is_pinned(const void *host, size_t nbytes) {
    auto *first = static_cast<const unsigned char *>(host);
    auto next = world.pinned_memory.upper_bound(const_cast<unsigned char *>(first));
    if (next == world.pinned_memory.begin())
        return false;
    const Memory &memory = std::prev(next)->second;
    return first + nbytes <= memory.host + memory.nbytes;
}

void run(const Op &op) {
    if (op->done)
        return;
    op->done = true;
    op->ran_at = std::chrono::steady_clock::now().time_since_epoch().count();
    int code = fault("run:" + op->call);
    if (!code && !world.sticky && op->run)
        try {
            op->run();
        } catch (const Fault &error) {
            code = error.code;
        }
    if (code && !world.sticky)
        world.sticky = code; // the context is lost, as by a kernel that faults
    op->run = nullptr;
    op->after.clear();
}

bool ready(const Op &op) {
    return std::all_of(op->after.begin(), op->after.end(), [](const Op &before) { return before->done; });
}

void run_needed(const Op &op) {
    if (op->done)
        return;
    const std::vector<Op> before = op->after;
    for (const Op &one : before)
        run_needed(one);
    run(op);
}

bool comes_after(const Op &op, const Op &target) {
    return op == target || std::any_of(op->after.begin(), op->after.end(),
                                       [&](const Op &before) { return !before->done && comes_after(before, target); });
}

// One ready head of a stream, of those that `allowed` names; false where there is none.
bool step(const std::function<bool(const Op &)> &allowed) {
    std::vector<Op> heads;
    for (auto &[handle, stream] : world.streams) {
        while (!stream.pending.empty() && stream.pending.front()->done)
            stream.pending.pop_front();
        if (!stream.pending.empty() && ready(stream.pending.front()) && allowed(stream.pending.front()))
            heads.push_back(stream.pending.front());
    }
    if (heads.empty())
        return false;
    run(heads[world.mode == SHUFFLED ? world.random() % heads.size() : 0]);
    return true;
}

void wait_for(const Op &op) {
    if (world.mode == OTHERS_FIRST)
        while (!op->done && step([&](const Op &head) { return !comes_after(head, op); }))
            ;
    if (world.mode == SHUFFLED)
        while (!op->done && step([](const Op &) { return true; }))
            ;
    run_needed(op);
}

void wait_for_all() {
    while (step([](const Op &) { return true; }))
        ;
}

Op newest(const Stream &stream) { return stream.pending.empty() ? nullptr : stream.pending.back(); }

Op enqueue(void *handle, const char *call, std::function<void()> work, const Op &also_after = nullptr) {
    Stream &stream = find(world.streams, handle);
    auto op = std::make_shared<Operation>();
    op->call = call;
    op->run = std::move(work);
    if (stream.capture) {
        if (stream.capture->invalid)
            throw Fault{CAPTURE_INVALIDATED};
        stream.capture->last[handle] = stream.capture->operations.size();
        stream.capture->operations.push_back(op);
        if (handle != stream.capture->origin)
            stream.capture->joined.erase(handle);
        return op;
    }
    if (also_after)
        op->after.push_back(also_after);
    while (!stream.pending.empty() && stream.pending.front()->done)
        stream.pending.pop_front();
    if (Op before = newest(stream))
        op->after.push_back(before);
    stream.pending.push_back(op);
    if (world.mode == EAGER)
        run_needed(op);
    return op;
}

// Calls that a capture forbids: those that wait for the stream or for all of its context, from any thread and in any
// mode, and in the capturing thread those that may wait or are not seen by the capture. They end the capture too.
void forbid_while_capturing(const std::shared_ptr<Capture> &capture, int code = CAPTURE_UNSUPPORTED) {
    if (capture) {
        capture->invalid = true;
        throw Fault{code};
    }
}

void forbid_while_any_captures(const std::function<bool(const Capture &)> &concerned) {
    bool forbidden = false;
    for (auto &[handle, stream] : world.streams)
        if (stream.capture && concerned(*stream.capture))
            forbidden = stream.capture->invalid = true;
    if (forbidden)
        throw Fault{CAPTURE_UNSUPPORTED};
}

void forbid_while_capturing_here() {
    forbid_while_any_captures([](const Capture &capture) {
        return capture.mode == 0 || (capture.mode == 1 && capture.thread == this_thread());
    });
}

enum Needs { NOTHING, DRIVER, CONTEXT_, CLEANUP };

// Every entry point: log, fault, what must be there, and errors as codes.
int call(const char *name, const void *handle, Needs needs, const std::function<void()> &body) {
    std::lock_guard lock(world.mutex);
    const bool again = world.refused && world.refused == world.log.size() && world.log.back().name == name;
    world.log.push_back({name, this_thread(), reinterpret_cast<Address>(handle)});
    try {
        const int code = again ? int(OUT_OF_MEMORY) : fault(name); // PyCUDA collects garbage and asks once more
        world.refused = code == OUT_OF_MEMORY ? world.log.size() : 0;
        if (code)
            return code;
        if (needs != NOTHING && !world.initialised)
            return NOT_INITIALIZED;
        if (needs >= CONTEXT_ && contexts.empty())
            return INVALID_CONTEXT;
        if (needs == CONTEXT_ && world.sticky)
            return world.sticky;
        body();
        return needs >= CONTEXT_ ? world.sticky : int(SUCCESS);
    } catch (const Fault &error) {
        return error.code;
    }
}

} // namespace
