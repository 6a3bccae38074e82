// The table of the kernels, and the C interface: what Python calls (engines/cpu/library.py).

#include <stdexcept>
#include <system_error>

#include "amx.h"
#include "bit_ops.h"
#include "event_rows.h"
#include "lookup_avx2.h"
#include "lookup_run.h"
#include "madd.h"
#include "scatter.h"

namespace {

// The best instruction set first.
constexpr Kernel KERNELS[] = {
#if defined(AMX_IS_KNOWN)
    amx::KERNEL,
#endif
#if defined(__x86_64__)
    lookup_avx512::KERNEL,
    event_rows::KERNEL,
    madd::AVX512_KERNEL,
    lookup_avx2::KERNEL,
    madd::AVX2_KERNEL,
    scatter::AVX2_KERNEL,
#endif
    madd::PORTABLE_KERNEL,
    amx::TWIN_KERNEL,
    scatter::PORTABLE_KERNEL,
};

// What every function that works returns: 0, or why it gave up. What it was to write is worthless then.
enum Status : int64_t { DONE, NO_MEMORY, NO_THREAD, DOES_NOT_FIT, FAILED };

thread_local int64_t asked_bytes = 0;  // of memory, by what found none

template <typename Work>
int64_t status_of(const Work& work) noexcept {
    asked_bytes = 0;
    try {
        work();
        return DONE;
    } catch (const OutOfMemory& error) {
        asked_bytes = error.bytes;
        return NO_MEMORY;
    } catch (const std::bad_alloc&) {
        return NO_MEMORY;
    } catch (const std::length_error&) {  // more than a vector can ever hold
        return NO_MEMORY;
    } catch (const std::system_error&) {
        return NO_THREAD;
    } catch (...) {
        return FAILED;
    }
}

}  // namespace

#pragma GCC visibility push(default)  // what Python calls; the rest is hidden
extern "C" {

// Changes with every change of the structures, of a layout or of a function's arguments.
int64_t interface_version() { return 12; }

// The instruction set of this machine.
int64_t machine_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
        __builtin_cpu_supports("gfni") && __builtin_cpu_supports("bmi2"))
        return amx::is_usable() ? AMX_SET : AVX512_SET;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return AVX2_SET;
#endif
    return PORTABLE;
}

int64_t kernel_count() { return sizeof KERNELS / sizeof *KERNELS; }

const Kernel* kernel_info(int64_t kernel) { return KERNELS + kernel; }

// What feature a bit stands for, in words; null after the last.
const char* feature_text(int64_t bit) {
    return bit < int64_t(sizeof FEATURES / sizeof *FEATURES) ? FEATURES[bit] : nullptr;
}

// The bytes that the last call of this thread found no memory for; 0 where that is unknown.
int64_t bytes_asked() { return asked_bytes; }

// For tests: the number-th allocation from now on finds no memory; 0: none does.
void fail_allocation(int64_t number) { allocations_to_failure = number; }

// The features that a population asks for.
int64_t features(const Population* p, const Source* sources, int64_t number) {
    int64_t asked = 0;
    if (p->planes > 1 || p->levels > 1) asked |= LEVELS;
    if (p->is_signed) asked |= SIGNED;
    if (p->reset_to_zero) asked |= RESET_TO_ZERO;
    if (p->constant || p->current) asked |= CURRENTS;
    if (p->peaks) asked |= PEAKS;
    if (p->wide) asked |= WIDE_SUMS;
    if (p->firing_rule != INTEGRATE_AND_FIRE) asked |= DIFFERENTIAL_RULES;
    if (p->shift) asked |= ROUNDED_SUMS;
    if (sums_alone(*p)) asked |= SUMS_ALONE;
    if (p->stream || p->numbers) asked |= STREAMS;
    for (int64_t i = 0; i < number; ++i) {
        if (!sources[i].identity && sources[i].groups > 1) asked |= GROUPS;
        if (sources[i].numbers) asked |= NUMBERS;
        if (sources[i].factors) asked |= FACTORS;
    }
    return asked;
}

// Those of its geometry, weights and neurons that a kernel does not honour for this population though
// it does for others; none where it lacks a feature anyway. It may take as long as some time steps of a
// small image.
int64_t refused(const Population* p, const Source* sources, int64_t number, int64_t kernel,
                int64_t* found) {
    return status_of([=] {
        const Kernel& own = KERNELS[kernel];
        const bool lacks = features(p, sources, number) & ~own.honours;
        *found = own.refused && !lacks ? own.refused(*p, sources, number) : 0;
    });
}

// The bytes that `prepare` writes.
int64_t table_bytes(const Population* p, const Source* sources, int64_t number, int64_t kernel,
                    int64_t* found) {
    return status_of([=] { *found = KERNELS[kernel].bytes(*p, sources, number); });
}

int64_t prepare(const Population* p, const Source* sources, int64_t number, int64_t kernel,
                void* tables) {
    return status_of([=] { KERNELS[kernel].prepare(*p, sources, number, tables); });
}

// Adds to `amounts` [TERMS] what a kernel's work in a time step of an image consists of.
int64_t work(const Population* p, const Source* sources, int64_t number, int64_t kernel,
             const double* rates, double* amounts) {
    return status_of([=] { KERNELS[kernel].work(*p, sources, number, rates, amounts); });
}

// One window of time.
int64_t run_window(const Population* p, const Source* sources, int64_t number, int64_t kernel,
                   int64_t threads) {
    const Kernel& own = KERNELS[kernel];
    if (features(p, sources, number) & ~own.honours || own.instruction_set > machine_level())
        return DOES_NOT_FIT;
    return status_of([=, &own] { own.run(*p, sources, number, threads); });
}

int64_t pack(const uint8_t* bytes, const bit_ops::Extent* extent, int64_t threads, uint32_t* words) {
    return status_of([=] { bit_ops::pack(bytes, *extent, threads, words); });
}

int64_t unpack(const uint32_t* words, const bit_ops::Extent* extent, int64_t threads,
               uint8_t* bytes) {
    return status_of([=] { bit_ops::unpack(words, *extent, threads, bytes); });
}

int64_t count_neurons(const uint32_t* words, const bit_ops::Extent* extent, int64_t threads,
                      int64_t* counts) {
    return status_of([=] { bit_ops::count_neurons(words, *extent, threads, counts); });
}

int64_t sum_channels(const uint32_t* words, const bit_ops::Extent* extent, int64_t threads,
                     int32_t* sums) {
    return status_of([=] { bit_ops::sum_channels(words, *extent, threads, sums); });
}

int64_t pool(const uint32_t* words, const bit_ops::Pool* geometry, int64_t threads,
             int32_t* counts, int32_t* largest, uint32_t* to) {
    return status_of([=] { bit_ops::pool(words, *geometry, threads, counts, largest, to); });
}
}
#pragma GCC visibility pop
