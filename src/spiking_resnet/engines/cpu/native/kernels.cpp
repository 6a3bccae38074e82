// The kernels' C interface: what Python calls (engines/cpu/library.py).

#include <new>
#include <stdexcept>
#include <system_error>

#include "lookup_run.h"
#include "bit_ops.h"
#include "scatter.h"
#include "multilevel.h"
#include "lookup_avx2.h"
#include "event_rows.h"

namespace {

// What every function that works returns: 0, or why it gave up. What it was to write is worthless then.
enum Status : int64_t { DONE, NO_MEMORY, NO_THREAD, FAILED };

template <typename Work>
int64_t status_of(const Work& work) noexcept {
    try {
        work();
        return DONE;
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

extern "C" {

// Changes with every change of the structures, of a layout or of a function's arguments.
int64_t interface_version() { return 9; }

// What this machine can do: 0 portable, 1 AVX2, 2 AVX-512.
int64_t machine_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("gfni") &&
        __builtin_cpu_supports("bmi2"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return 1;
#endif
    return 0;
}

// The kernels that compute a population.
enum Kernel : int64_t { SCATTER_PORTABLE, SCATTER_AVX2, LOOKUP_AVX512, EVENT_ROWS, LOOKUP_AVX2 };

// Whether a kernel takes a population, by its geometry, weights and neurons alone: lookups not where sums
// are beyond all bounds, for one; the scatter takes all. (Event rows take no currents either, and
// watch no potentials.)
int64_t fits(const Population* p, const Source* sources, int64_t number, int64_t kernel, int64_t* found) {
    return status_of([=] {
        *found = true;
#if defined(__x86_64__)
        if (kernel == EVENT_ROWS) *found = event_rows::fits(*p, sources, number);
#endif
        if (kernel == LOOKUP_AVX512) *found = lookup::divided(*p, sources, number).fits;
        if (kernel == LOOKUP_AVX2) *found = lookup_avx2::fits(*p, sources, number);
    });
}

// The bytes that `fill_tables` writes.
int64_t table_size(const Population* p, const Source* sources, int64_t number, int64_t kernel,
                   int64_t* found) {
    return status_of([=] {
        *found = 0;
#if defined(__x86_64__)
        if (kernel == EVENT_ROWS) {
            int64_t rows = 1;
            for (int64_t i = 0; i < number; ++i) rows += event_rows::rows_of(sources[i]);
            *found = rows * p->channels * (p->wide ? sizeof(int32_t) : sizeof(int16_t));
        }
#endif
        if (kernel == LOOKUP_AVX512) *found = lookup::table_bytes(*p, sources, number);
        if (kernel == LOOKUP_AVX2) *found = lookup_avx2::table_bytes(*p, sources, number);
    });
}

int64_t fill_tables(const Population* p, const Source* sources, int64_t number, int64_t kernel,
                    void* tables) {
    return status_of([=] {
#if defined(__x86_64__)
        if (kernel == EVENT_ROWS && p->wide) event_rows::fill_rows(*p, sources, number, (int32_t*)tables);
        if (kernel == EVENT_ROWS && !p->wide) event_rows::fill_rows(*p, sources, number, (int16_t*)tables);
#endif
        if (kernel == LOOKUP_AVX512) lookup::fill_tables(*p, sources, number, (char*)tables);
        if (kernel == LOOKUP_AVX2) lookup_avx2::fill_tables(*p, sources, number, (char*)tables);
    });
}

int64_t run_window(const Population* p, const Source* sources, int64_t number, int64_t threads,
                   int64_t kernel) {
    return status_of([=] {
#if defined(__x86_64__)
        if (kernel == LOOKUP_AVX512) return lookup::run(*p, sources, number, threads);
        if (kernel == LOOKUP_AVX2) return lookup_avx2::run(*p, sources, number, threads);
        if (kernel == EVENT_ROWS) return event_rows::run(*p, sources, number, threads);
#endif
        scatter::run(*p, sources, number, threads, kernel == SCATTER_AVX2);
    });
}

int64_t pack(const uint8_t* bytes, const bit_ops::Extent* extent, int64_t threads, uint32_t* words) {
    return status_of([=] { bit_ops::pack(bytes, *extent, threads, words); });
}

int64_t unpack(const uint32_t* words, const bit_ops::Extent* extent, int64_t threads, uint8_t* bytes) {
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

int64_t pool(const uint32_t* words, const bit_ops::Pool* geometry, int64_t threads, int32_t* counts,
             int32_t* largest, uint32_t* to) {
    return status_of([=] { bit_ops::pool(words, *geometry, threads, counts, largest, to); });
}
}
