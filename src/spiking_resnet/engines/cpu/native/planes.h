// What the kernels are given: spikes as bits, and populations of integrate-and-fire neurons whose
// weights, thresholds and potentials are integers (multiples of the population's grid 2^-k).
//
// A word holds the spikes of one channel of one image at one time step in a block of 32 positions: bit
// i of block b is position p = 32 b + i = y * width + x; bits beyond the last position are 0. Words
// that are computed together lie together: [images, blocks, steps, channels]. Spikes of several bits
// (multilevel.h) have as many words at each step: [images, blocks, steps, planes, channels].

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "memory.h"
#include "threads.h"

#define INLINE static inline __attribute__((always_inline))

constexpr int64_t BLOCK = 32;  // positions in a word

INLINE int64_t blocks(int64_t positions) { return (positions + BLOCK - 1) / BLOCK; }

// A quotient by 2^shift, to the nearest.
INLINE int32_t rounded(int32_t value, int64_t shift) {
    return shift == 0 ? value : (value + (1 << (shift - 1))) >> shift;
}

// The same of any number, ties to even; shift: at most 30.
INLINE int32_t rounded_to_even(int32_t value, int64_t shift) {
    if (shift == 0) return value;
    const int32_t floor = value >> shift, rest = value & ((1 << shift) - 1);
    return floor + (rest + (floor & 1) > 1 << (shift - 1));
}

extern "C" {

// Spikes that reach a population, and their synapses.
struct Source {
    const uint32_t* spikes;  // [images, blocks, steps, planes, channels]
    const int32_t* weights;  // identity: [channels]; others: [outputs, channels / groups, kernel],
                             // which only what prepares a kernel reads
    int64_t height, width, channels;
    int64_t kernel_height, kernel_width;
    int64_t stride_height, stride_width;
    int64_t padding_height, padding_width;
    int64_t dilation_height, dilation_width;
    int64_t groups;
    int64_t identity;        // one synapse from each neuron to the one at its own place
    const int16_t* numbers;  // what is read instead of spikes, [images, steps, positions, channels]; or
                             // null
    const int32_t* factors;  // [steps]: what a spike of size 1 (or a number 1) counts; null: 1
};

// What a population fires by: planes.h has `levels` and `is_signed` for the first, the others are
// those of neurons/differential.py and neurons/dcgs.py in integers.
enum FiringRule : int64_t { INTEGRATE_AND_FIRE, DIFFERENTIAL, DCGS };

// A population of neurons over a window of time steps, and what it computes with.
struct Population {
    int64_t steps, images, height, width, channels;
    // Potentials: [images], and each image's in the kernel's layout (kernel.h).
    const int32_t* start;      // of the first window: one image's, for all; else null
    int32_t* potential;        // taken from here otherwise, and kept here; null: not kept
    const int32_t* constant;   // [images, channels, positions]: current of every step, or null
    const int32_t* current;    // [images, steps, channels, positions]: of each step, or null
    const int32_t* bias;       // [channels]
    const int32_t* threshold;  // [channels]
    int64_t reset_to_zero;
    uint32_t* spikes;          // [images, blocks, steps, own planes, channels]
    int64_t* counts;           // [images]: spikes in this window, added to what is there
    int64_t* peaks;            // [images]: largest |potential| after a step so far, or null
    const void* tables;        // what the kernel's `prepare` wrote
    int64_t wide;              // whether sums (of each plane) need 32 bits instead of 16
    int64_t* bits;             // [images]: as counts, the bits that are set; used where spikes are several
    int64_t planes;            // of the sources' spikes, and
    int64_t minus;             // whether the last of them counts negative
    int64_t levels;            // the most spikes of a neuron in a step, and
    int64_t is_signed;        // whether it may fire negative ones, as many as it has fired so far:
    int32_t* emitted;          // these, as `potential` (0 before the first window); null: not kept
    int64_t firing_rule;       // one of `FiringRule`; of a differential one `emitted` is what was sent,
                               // in units of the grid, `levels` its largest size, and it is signed
    int64_t sizes;             // differential: of a spike: 1, 2, ... 2^(sizes - 1),
    const int32_t* amplitudes; // [steps]: that of size 1, in units of the grid,
    const int32_t* edges;      // [steps, sizes]: from what |wanted| on each size is fired,
    const int32_t* ceiling;    // [channels]: the most that may be sent; or null
    int64_t shift;             // sums of synapses and bias are divided by 2^shift, to the nearest (ties
                               // to even), before currents are added to them
    int32_t* sums;             // [images, steps, positions, channels]: where these sums (currents
                               // included) are written, and no neurons advanced; null: they are
    const int32_t* stream;     // [images, steps, positions, channels]: added as `current` is, or null
    int16_t* numbers;          // as `sums`, once more or instead: divided by 2^numbers_shift, to the
    int64_t numbers_shift;     // nearest (ties to even); or null
};
}

namespace {

// Into how many bands of blocks an image is divided, so that there is work for all threads.
int64_t bands_of(int64_t images, int64_t length, int64_t threads) {
    if (images % threads == 0 || images > 4 * threads) return 1;
    return threads < length ? threads : length;
}

void raise_peak(int64_t* peak, int64_t value) {
    int64_t before = __atomic_load_n(peak, __ATOMIC_RELAXED);
    while (before < value && !__atomic_compare_exchange_n(peak, &before, value, false,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

INLINE void copy_all(const int32_t* from, int64_t count, int32_t* to) {
    std::memcpy(to, from, count * sizeof(int32_t));
}

// The potentials of neurons `first` … `past` - 1 of an image, `each` neurons long, as the window begins.
template <auto COPY = copy_all>
INLINE void take_potentials(const Population& p, int64_t image, int64_t each, int64_t first,
                            int64_t past, int32_t* to) {
    const int32_t* from = p.start ? p.start : p.potential + image * each;
    COPY(from + first, past - first, to);
}

// Keeps them for the next window, if there is one.
template <auto COPY = copy_all>
INLINE void keep_potentials(const Population& p, int64_t image, int64_t each, int64_t first,
                            int64_t past, const int32_t* from) {
    if (p.potential) COPY(from, past - first, p.potential + image * each + first);
}

// The same for the spikes so far, where a neuron may take them back.
template <auto COPY = copy_all>
INLINE void take_emitted(const Population& p, int64_t image, int64_t each, int64_t first,
                         int64_t past, int32_t* to) {
    if (!p.is_signed) return;
    if (p.start)
        std::fill(to, to + (past - first), 0);
    else
        COPY(p.emitted + image * each + first, past - first, to);
}

template <auto COPY = copy_all>
INLINE void keep_emitted(const Population& p, int64_t image, int64_t each, int64_t first,
                         int64_t past, const int32_t* from) {
    if (p.is_signed && p.emitted) COPY(from, past - first, p.emitted + image * each + first);
}

// Whether sums are written, and no neurons advanced.
INLINE bool sums_alone(const Population& p) { return p.sums || p.numbers; }

// The positions of a block that exist.
INLINE uint32_t valid_bits(int64_t positions, int64_t block) {
    const int64_t left = positions - block * BLOCK;
    return left >= BLOCK ? ~uint32_t{0} : (uint32_t{1} << left) - 1;
}

}  // namespace
