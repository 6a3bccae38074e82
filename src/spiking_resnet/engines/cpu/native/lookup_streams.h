// Signed streams and the lookup kernel for AVX-512: sums are written to them, or neurons read them. A stream
// lies by positions, sums by channels: squares of 16 numbers are transposed.

#pragma once

#include "lookup_advance.h"

#if defined(__x86_64__)

namespace lookup_avx512 {

// Transposes a square of numbers.
AVX512_INLINE void transpose(__m512i (&rows)[SIDE]) {
    __m512i pairs[SIDE], fours[SIDE];
    for (int i = 0; i < SIDE; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4)
        for (int k = 0; k < 2; ++k) {
            fours[i + 2 * k] = _mm512_unpacklo_epi64(pairs[i + k], pairs[i + k + 2]);
            fours[i + 2 * k + 1] = _mm512_unpackhi_epi64(pairs[i + k], pairs[i + k + 2]);
        }
    for (int i = 0; i < 4; ++i) {  // fours[4 j + i]: in each quarter q, column 4 q + i of rows 4 j …
        const __m512i low = _mm512_shuffle_i32x4(fours[i], fours[4 + i], 0x88);
        const __m512i high = _mm512_shuffle_i32x4(fours[i], fours[4 + i], 0xdd);
        const __m512i low_next = _mm512_shuffle_i32x4(fours[8 + i], fours[12 + i], 0x88);
        const __m512i high_next = _mm512_shuffle_i32x4(fours[8 + i], fours[12 + i], 0xdd);
        rows[i] = _mm512_shuffle_i32x4(low, low_next, 0x88);
        rows[4 + i] = _mm512_shuffle_i32x4(high, high_next, 0x88);
        rows[8 + i] = _mm512_shuffle_i32x4(low, low_next, 0xdd);
        rows[12 + i] = _mm512_shuffle_i32x4(high, high_next, 0xdd);
    }
}

// Takes what neurons of a block read of a stream to its seat: the channels from `first` on, which is a
// multiple of SIDE.
AVX512 static void take_stream(const Place& at, int64_t first) {
    const Population& p = *at.job->p;
    const int64_t positions = p.height * p.width;
    const __mmask16 own = __mmask16((1 << std::min(p.channels - first, SIDE)) - 1);
    for (int64_t t = 0; t < at.steps; ++t) {
        const int64_t step = (at.image * p.steps + at.start + t) * positions + at.block * BLOCK;
        for (int64_t odd = 0; odd < 2; ++odd) {
            __m512i rows[SIDE];
            for (int64_t i = 0; i < SIDE; ++i) {
                const bool some = at.valid >> (2 * i + odd) & 1;
                rows[i] = _mm512_maskz_loadu_epi32(
                    some ? own : 0, p.stream + (some ? step + 2 * i + odd : 0) * p.channels + first);
            }
            transpose(rows);
            for (int64_t c = 0; c < SIDE; ++c)
                _mm512_store_si512(at.seat->stream + (c * CHUNK + t) * BLOCK + odd * SIDE, rows[c]);
        }
    }
}

// Writes what lies at the seat of some channels, of which `first` is a multiple of SIDE.
AVX512 static void write_stream(const Place& at, int64_t first, int64_t past) {
    using V = madd::Avx512;
    const Population& p = *at.job->p;
    const int64_t there = std::min(p.height * p.width - at.block * BLOCK, BLOCK);
    const madd::Outputs outputs{first, past - first, 1, 0};
    const madd::Neurons neurons{&outputs, at.image, at.block, there, nullptr, nullptr};
    for (int64_t t = 0; t < at.steps; ++t) {
        for (int64_t odd = 0; odd < 2; ++odd) {
            __m512i rows[SIDE];
            for (int64_t c = 0; c < SIDE; ++c)
                rows[c] = _mm512_load_si512(at.seat->stream + (c * CHUNK + t) * BLOCK + odd * SIDE);
            transpose(rows);
            for (int64_t i = 0; i < SIDE; ++i)
                _mm512_store_si512(at.turned + (2 * i + odd) * V::WIDTH, rows[i]);
        }
        madd::advance_any<V>(p, neurons, nullptr, at.start + t, at.turned);
    }
}

// The sums of channels `first` … `past` - 1, which are no neurons' but a stream's; `sums` are the first
// one's unit's.
template <bool WIDE>
AVX512 static void write_all(const Place& at, int64_t first, int64_t past, const char* sums,
                             int64_t stride) {
    const Job& job = *at.job;
    const Population& p = *job.p;
    const int64_t chunk_stride = job.chunk_stride();
    const int64_t step = (at.image * job.length + at.block) * p.steps + at.start;
    for (int64_t c = first; c < past; ++c) {
        const int64_t unit = (c - first) / job.units.channels, column = (c - first) % job.units.channels;
        const char* low = sums + unit * job.unit_sums + column * CHUNK * 64;
        const char* high = sums + unit * job.unit_sums + (job.units.channels * 2 + column) * CHUNK * 32;
        const __m512i bias = _mm512_set1_epi32(p.planes > 1 ? p.bias[c] : 0);
        for (int64_t t = 0; t < at.steps; ++t) {
            __m512i even = bias, odd = bias;
            add_planes<WIDE>(job, t, stride, chunk_stride, low, high, even, odd);
            add_numbers(job, (step + t) * p.planes * p.channels + c, c, even, odd);
            int32_t* const to = at.seat->stream + (c % SIDE * CHUNK + t) * BLOCK;
            _mm512_store_si512(to, even);
            _mm512_store_si512(to + SIDE, odd);
        }
        if (c % SIDE == SIDE - 1 || c + 1 == p.channels) write_stream(at, c - c % SIDE, c + 1);
    }
}

// Advances neurons by a stream, too.
template <auto ADVANCE>
AVX512 static void advance_by_stream(const Place& at, int64_t first, int64_t past, const char* sums,
                                     int64_t stride) {
    const Job& job = *at.job;
    for (int64_t begin = first, end; begin < past; begin = end) {
        end = std::min(past, (begin / SIDE + 1) * SIDE);
        if (begin % SIDE == 0) take_stream(at, begin);
        ADVANCE(at, begin, end, sums + (begin - first) / job.units.channels * job.unit_sums, stride);
    }
}

}  // namespace lookup_avx512

#endif
