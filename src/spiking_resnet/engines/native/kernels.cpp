// The kernels' C interface: what Python calls (engines/cpu.py).

#include "lookup.h"
#include "moves.h"
#include "scatter.h"
#include "several.h"
#include "triples.h"
#include "walk.h"

extern "C" {

// Changes with every change of the structures, of a layout or of a function's arguments.
int64_t interface_version() { return 8; }

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

// Ways to compute a population.
enum Way { SCATTER_PORTABLE, SCATTER_AVX2, LOOKUP, WALK_ROWS, TRIPLES };

// Whether lookups take a population: not where the sums of six weights are beyond all bounds.
int64_t lookup_fits(const Population* p, const Source* sources, int64_t number) {
    return lookup::divided(*p, sources, number).fits;
}

// Whether the walk takes a population (the scatter takes all).
int64_t walk_fits(const Population* p, const Source* sources, int64_t number) {
#if defined(__x86_64__)
    return walk::fits(*p, sources, number);
#else
    (void)p, (void)sources, (void)number;
    return 0;
#endif
}

// Whether lookups of three channels take a population.
int64_t triples_fits(const Population* p, const Source* sources, int64_t number) {
    return triples::fits(*p, sources, number);
}

// The bytes that `fill_tables` writes.
int64_t table_size(const Population* p, const Source* sources, int64_t number, int64_t way) {
#if defined(__x86_64__)
    if (way == WALK_ROWS) {
        int64_t rows = 1;
        for (int64_t i = 0; i < number; ++i) rows += walk::rows_of(sources[i]);
        return rows * p->channels * (p->wide ? sizeof(int32_t) : sizeof(int16_t));
    }
#endif
    if (way == LOOKUP) return lookup::table_bytes(*p, sources, number);
    if (way == TRIPLES) return triples::table_bytes(*p, sources, number);
    return 0;
}

void fill_tables(const Population* p, const Source* sources, int64_t number, int64_t way,
                 void* tables) {
#if defined(__x86_64__)
    if (way == WALK_ROWS && p->wide)
        return walk::fill_rows(*p, sources, number, (int32_t*)tables);
    if (way == WALK_ROWS) return walk::fill_rows(*p, sources, number, (int16_t*)tables);
#endif
    if (way == LOOKUP) lookup::fill_tables(*p, sources, number, (char*)tables);
    if (way == TRIPLES) triples::fill_tables(*p, sources, number, (char*)tables);
}

void run_window(const Population* p, const Source* sources, int64_t number, int64_t threads,
                int64_t way) {
#if defined(__x86_64__)
    if (way == LOOKUP) return lookup::run(*p, sources, number, threads);
    if (way == TRIPLES) return triples::run(*p, sources, number, threads);
    if (way == WALK_ROWS) return walk::run(*p, sources, number, threads);
#endif
    scatter::run(*p, sources, number, threads, way == SCATTER_AVX2);
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
