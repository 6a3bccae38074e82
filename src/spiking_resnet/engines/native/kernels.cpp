// The kernels' C interface: what Python calls (engines/cpu.py).

#include "lookup.h"
#include "moves.h"
#include "scatter.h"

extern "C" {

// Changes with every change of the structures, of a layout or of a function's arguments.
int64_t interface_version() { return 3; }

// What this machine can do: 0 portable, 1 AVX2, 2 AVX-512.
int64_t machine_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("bmi2"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return 1;
#endif
    return 0;
}

int64_t table_size(const Population* p, const Source* sources, int64_t number) {
    const lookup::Units units(*p, sources, number);
    return units.number * units.columns * lookup::keys_of(sources, number) * lookup::ENTRIES;
}

void fill_tables(const Population* p, const Source* sources, int64_t number, int16_t* tables) {
    lookup::fill_tables(*p, sources, number, tables);
}

// level: as in machine_level; 2 is the lookup kernel, which has its own layouts.
void run_window(const Population* p, const Source* sources, int64_t number, int64_t threads,
                int64_t level) {
#if defined(__x86_64__)
    if (level == 2) return lookup::run(*p, sources, number, threads);
#endif
    scatter::run(*p, sources, number, threads, level == 1);
}

void pack(const uint8_t* bytes, const moves::Extent* extent, int64_t threads, uint32_t* words) {
    moves::pack(bytes, *extent, threads, words);
}

void unpack(const uint32_t* words, const moves::Extent* extent, int64_t threads, uint8_t* bytes) {
    moves::unpack(words, *extent, threads, bytes);
}

void count_neurons(const uint32_t* words, const moves::Extent* extent, int64_t threads,
                   int64_t* counts) {
    moves::count_neurons(words, *extent, threads, counts);
}

void sum_channels(const uint32_t* words, const moves::Extent* extent, int64_t threads,
                  float* sums) {
    moves::sum_channels(words, *extent, threads, sums);
}

void pool(const uint32_t* words, const moves::Pool* geometry, int64_t threads, int32_t* counts,
          int32_t* largest, uint32_t* to) {
    moves::pool(words, *geometry, threads, counts, largest, to);
}
}
