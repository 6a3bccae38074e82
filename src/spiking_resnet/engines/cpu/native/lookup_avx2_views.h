// How the lookup kernel for AVX2 (lookup_avx2.h) reads spikes: three channels' spikes at a position are an
// index; those that a vector of outputs sees are copied together once for all channels.
//
// An index of a table is two bytes, those of its entry: number n is (2n, 2n + 1).

#pragma once

#include "kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define AVX2_INLINE static inline __attribute__((always_inline)) AVX2

namespace lookup_avx2 {

constexpr int64_t CHUNK = 4;    // time steps summed up at once
constexpr int64_t LANES = 16;   // positions looked up at once
constexpr int64_t GROUP = 3;    // channels looked up at once
constexpr int64_t SLACK = 64;   // indices before and after each plane of them, read and ignored
constexpr uint16_t NONE = 0x0100;  // the index of number 0

INLINE int64_t groups_of(const Source& s) { return (s.channels + GROUP - 1) / GROUP; }

// A stretch of a plane of indices that some lanes of a vector of outputs see: lane i sees the index
// `step` * i further than `offset`.
struct alignas(32) Run {
    uint16_t mask[LANES];  // all bits set in those lanes
    int64_t offset;
};

// How a source is read. Its indices are written to planes with room around them for the padding, so
// all positions of the kernel see the same pattern, each from another offset on.
struct View {
    const Source* source;
    int64_t groups, top, left, pitch, plane;  // plane: indices in one, slack included
    int64_t step;                             // of the positions a run sees
    Vector<int64_t> taps;                     // offsets
    Vector<Run> runs;
    Vector<int64_t> first;                    // [vectors + 1]: where each one's runs begin

    View(const Source& s, const Population& p) : source(&s), groups(groups_of(s)) {
        top = std::max<int64_t>(s.padding_height, 0), left = std::max<int64_t>(s.padding_width, 0);
        const int64_t bottom = (p.height - 1) * s.stride_height +
                               (s.kernel_height - 1) * s.dilation_height - s.padding_height;
        const int64_t right = (p.width - 1) * s.stride_width +
                              (s.kernel_width - 1) * s.dilation_width - s.padding_width;
        pitch = left + std::max(s.width, right + 1);
        plane = (top + std::max(s.height, bottom + 1)) * pitch + 2 * SLACK;
        step = s.stride_width == 2 ? 2 : 1;
        for (int64_t ky = 0; ky < s.kernel_height; ++ky)
            for (int64_t kx = 0; kx < s.kernel_width; ++kx)
                taps.push_back((ky * s.dilation_height + top - s.padding_height) * pitch +
                               kx * s.dilation_width + left - s.padding_width);
        const int64_t positions = p.height * p.width;
        for (int64_t begin = 0; begin < blocks(positions) * BLOCK; begin += LANES) {
            first.push_back(runs.size());
            int64_t expected = -1;
            for (int64_t lane = 0; lane < LANES && begin + lane < positions; ++lane) {
                const int64_t y = (begin + lane) / p.width, x = (begin + lane) % p.width;
                const int64_t at = y * s.stride_height * pitch + x * s.stride_width;
                if (at != expected) runs.push_back({{}, at - lane * step});
                runs.back().mask[lane] = 0xffff;
                expected = at + step;
            }
        }
        first.push_back(runs.size());
    }
};

// 16 indices.
struct alignas(32) Index {
    uint16_t lanes[LANES];
};

AVX2_INLINE __m256i select16() {
    return _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384,
                             int16_t(0x8000));
}

// All bits of the lanes whose bit is set.
AVX2_INLINE __m256i lanes16(uint32_t bits) {
    return _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(int16_t(bits)), select16()), select16());
}

// The same for the eight lanes of 32 bits from `bit` on.
AVX2_INLINE __m256i lanes8(uint32_t bits, int bit) {
    const __m256i select = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(int32_t(bits >> bit)), select), select);
}

// The indices that three channels' spikes at 16 positions make.
AVX2_INLINE __m256i indices(uint32_t first, uint32_t second, uint32_t third) {
    const __m256i ones = _mm256_and_si256(lanes16(first), _mm256_set1_epi16(0x0202));
    const __m256i twos = _mm256_and_si256(lanes16(second), _mm256_set1_epi16(0x0404));
    const __m256i fours = _mm256_and_si256(lanes16(third), _mm256_set1_epi16(0x0808));
    const __m256i all = _mm256_or_si256(_mm256_or_si256(ones, twos), fours);
    return _mm256_or_si256(all, _mm256_set1_epi16(int16_t(NONE)));
}

// Writes the indices of an image's spikes at so many steps from `start` on.
AVX2 static void index_source(const View& v, const Population& p, int64_t image, int64_t start,
                              int64_t steps, uint16_t* flat, uint16_t* planes) {
    const Source& s = *v.source;
    const int64_t length = blocks(s.height * s.width), row = length * BLOCK;
    for (int64_t b = 0; b < length; ++b)
        for (int64_t t = 0; t < steps; ++t) {
            const uint32_t* words = s.spikes + ((image * length + b) * p.steps + start + t) * s.channels;
            for (int64_t g = 0; g < v.groups; ++g) {
                const int64_t c = g * GROUP, left = s.channels - c;
                const uint32_t first = words[c], second = left > 1 ? words[c + 1] : 0;
                const uint32_t third = left > 2 ? words[c + 2] : 0;
                uint16_t* to = flat + (g * CHUNK + t) * row + b * BLOCK;
                _mm256_storeu_si256((__m256i*)to, indices(first, second, third));
                _mm256_storeu_si256((__m256i*)(to + LANES),
                                    indices(first >> LANES, second >> LANES, third >> LANES));
            }
        }
    for (int64_t g = 0; g < v.groups; ++g)
        for (int64_t t = 0; t < steps; ++t) {
            const uint16_t* from = flat + (g * CHUNK + t) * row;
            uint16_t* to = planes + (g * CHUNK + t) * v.plane + SLACK + v.top * v.pitch + v.left;
            for (int64_t h = 0; h < s.height; ++h)
                std::memcpy(to + h * v.pitch, from + h * s.width, s.width * sizeof(uint16_t));
        }
}

// 16 indices, each STEP further than the last.
template <int64_t STEP>
AVX2_INLINE __m256i stretch(const uint16_t* from) {
    const __m256i near = _mm256_loadu_si256((const __m256i*)from);
    if constexpr (STEP == 1) return near;
    const __m256i far = _mm256_loadu_si256((const __m256i*)(from + LANES));
    const __m256i even = _mm256_set1_epi32(0xffff);
    const __m256i both =
        _mm256_packus_epi32(_mm256_and_si256(near, even), _mm256_and_si256(far, even));
    return _mm256_permute4x64_epi64(both, 0xd8);
}

// Copies to the panel what a vector of outputs sees of a source. Returns where the next one's begins.
template <int64_t STEP>
AVX2 static Index* fill_panel(const View& v, int64_t vector, const uint16_t* planes, Index* panel) {
    const Run* const begin = v.runs.data() + v.first[vector];
    const Run* const end = v.runs.data() + v.first[vector + 1];
    for (const int64_t tap : v.taps) {
        const uint16_t* from = planes + SLACK + tap;
        for (int64_t i = 0; i < v.groups * CHUNK; ++i, from += v.plane, ++panel) {
            __m256i seen = stretch<STEP>(from + begin->offset);
            for (const Run* run = begin + 1; run < end; ++run)
                seen = _mm256_blendv_epi8(seen, stretch<STEP>(from + run->offset),
                                          _mm256_load_si256((const __m256i*)run->mask));
            _mm256_store_si256((__m256i*)panel, seen);
        }
    }
    return panel;
}

}  // namespace lookup_avx2

#endif
