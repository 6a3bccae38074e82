// Neurons that fire several spikes in a step, or take some back (the equation is that of neurons.py):
//
//     s = clip(floor(v / threshold), least, levels);   v -= threshold * s
//
// with least = -min(levels, spikes so far) where they may take spikes back, and 0 where not.
//
// Such numbers are written as bits, in two's complement: plane k of the spikes holds the bits that count
// 2^k each, and where numbers may be negative the last plane's bits count -2^k. A step's planes follow
// each other, so that to whatever adds up weights they are steps of their own.

#pragma once

#include "planes.h"

namespace multilevel {

// Whether a population needs this: reads such spikes, or fires them.
INLINE bool needed(const Population& p) { return p.planes > 1 || p.levels > 1 || p.is_signed; }

// The planes of the spikes it fires.
INLINE int64_t own_planes(const Population& p) {
    int64_t planes = p.is_signed != 0;
    for (int64_t levels = p.levels; levels; levels >>= 1) ++planes;
    return planes;
}

// What a bit of a plane of the sources' spikes counts.
INLINE int32_t weight(const Population& p, int64_t plane) {
    return p.minus && plane + 1 == p.planes ? -(1 << plane) : 1 << plane;
}

// The bits set in so many words.
INLINE int64_t bits_set(const uint32_t* words, int64_t number) {
    int64_t found = 0, i = 0;
    for (; i + 2 <= number; i += 2) {
        uint64_t two;
        std::memcpy(&two, words + i, sizeof two);
        found += __builtin_popcountll(two);
    }
    return i < number ? found + __builtin_popcount(words[i]) : found;
}

// The spikes of integrate-and-fire neurons in the words of a step, [planes, channels], negative ones
// too: of a number -x the bits of x - 1 are reversed.
INLINE int64_t sizes_in(const Population& p, int64_t planes, const uint32_t* words) {
    int64_t found = 0;
    for (int64_t c = 0; c < p.channels; ++c) {
        const uint32_t sign = p.is_signed ? words[(planes - 1) * p.channels + c] : 0;
        found += __builtin_popcount(sign);
        for (int64_t k = 0; k < planes - (p.is_signed != 0); ++k)
            found += int64_t(__builtin_popcount(words[k * p.channels + c] ^ sign)) << k;
    }
    return found;
}

// Those of differential neurons, which count as one, whatever their size.
INLINE int64_t spikes_in(const Population& p, int64_t planes, const uint32_t* words) {
    constexpr int64_t TOGETHER = 16;  // channels
    int64_t found = 0, c = 0;
    for (; c + TOGETHER <= p.channels; c += TOGETHER) {
        uint64_t any[TOGETHER / 2] = {};
        for (int64_t k = 0; k < planes; ++k) {
            uint64_t own[TOGETHER / 2];
            std::memcpy(own, words + k * p.channels + c, sizeof own);
            for (int64_t i = 0; i < TOGETHER / 2; ++i) any[i] |= own[i];
        }
        for (const uint64_t two : any) found += __builtin_popcountll(two);
    }
    for (; c < p.channels; ++c) {
        uint32_t any = 0;
        for (int64_t k = 0; k < planes; ++k) any |= words[k * p.channels + c];
        found += __builtin_popcount(any);
    }
    return found;
}

// Adds the spikes of an image in the words of so many steps, and the bits set in them, to the counts.
INLINE void count(const Population& p, int64_t image, const uint32_t* words, int64_t steps) {
    const int64_t planes = own_planes(p), each = planes * p.channels;
    const int64_t bits = bits_set(words, steps * each);
    int64_t spikes = planes == 1 ? bits : 0;
    for (int64_t i = 0; planes > 1 && i < steps; ++i, words += each)
        spikes += p.firing_rule == INTEGRATE_AND_FIRE ? sizes_in(p, planes, words)
                                                      : spikes_in(p, planes, words);
    __atomic_fetch_add(p.counts + image, spikes, __ATOMIC_RELAXED);
    __atomic_fetch_add(p.bits + image, bits, __ATOMIC_RELAXED);
}

// The spikes a neuron may fire at least.
INLINE int32_t least(const Population& p, int32_t emitted) {
    return p.is_signed ? -std::min(emitted, int32_t(p.levels)) : 0;
}

// The spikes of one neuron.
INLINE int32_t spikes(int32_t v, int32_t threshold, int32_t least, int32_t levels) {
    const int32_t floor = v / threshold - (v % threshold < 0);
    return std::max(least, std::min(floor, levels));
}

}  // namespace multilevel

#if defined(__x86_64__)

#include <immintrin.h>

namespace multilevel {

#define AVX512F_INLINE static inline __attribute__((always_inline, target("avx512f")))

// 16 neurons at once. The caller promises (levels + 1) * threshold <= 2^24: such integers, and whether
// the quotient of two of them is below a whole number, are exact in float32.
struct Sixteen {
    __m512i threshold, top, levels;  // top: the largest potential to be told from larger ones
    __m512 divisor;
};

AVX512F_INLINE Sixteen sixteen(const Population& p, __m512i threshold) {
    const __m512i next = _mm512_set1_epi32(int32_t(p.levels + 1));
    return {threshold, _mm512_sub_epi32(_mm512_mullo_epi32(threshold, next), _mm512_set1_epi32(1)),
            _mm512_set1_epi32(int32_t(p.levels)), _mm512_cvtepi32_ps(threshold)};
}

// Their spikes, taken off their potentials; `emitted`, if they may take spikes back, brought up to date.
AVX512F_INLINE __m512i fire(const Population& p, const Sixteen& n, __m512i& v, __m512i& emitted) {
    const __m512i zero = _mm512_setzero_si512();
    __m512i low = zero;
    if (p.is_signed)
        low = _mm512_sub_epi32(
            low, _mm512_mullo_epi32(_mm512_min_epi32(emitted, n.levels), n.threshold));
    const __m512i within = _mm512_max_epi32(_mm512_min_epi32(v, n.top), low);
    const __m512i fired = _mm512_cvt_roundps_epi32(
        _mm512_div_ps(_mm512_cvtepi32_ps(within), n.divisor), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    v = _mm512_sub_epi32(v, _mm512_mullo_epi32(fired, n.threshold));
    if (p.reset_to_zero) v = _mm512_mask_mov_epi32(v, _mm512_test_epi32_mask(fired, fired), zero);
    if (p.is_signed) emitted = _mm512_add_epi32(emitted, fired);
    return fired;
}

}  // namespace multilevel

#undef AVX512F_INLINE

#endif
