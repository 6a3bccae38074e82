// What becomes of the sums that the lookup kernel for AVX2 (lookup_avx2.h) has found: neurons are advanced
// by them, or they are written as a signed stream. Lanes of vectors are positions.

#pragma once

#include "lookup_avx2_tables.h"
#include "madd.h"

#if defined(__x86_64__)

namespace lookup_avx2 {

constexpr int64_t SUMS = CHUNK * LANES;  // of an output channel at a vector of positions
constexpr int64_t SIDE = 8;              // of a square of numbers that is transposed at once

// What all threads work by.
struct Job {
    const Population& p;
    Vector<View> views;                 // of the sources
    Vector<const Source*> identities;
    Header header;
    Vector<Block> blocks;               // of parts
    const __m128i* tables;
    int64_t keys, units, length;        // length: blocks of an image

    Job(const Population& given, const Source* sources, int64_t number)
        : p(given),
          keys(keys_of(sources, number)),
          units(units_of(given)),
          length(::blocks(given.height * given.width)) {
        for (const Source* s = sources; s < sources + number; ++s)
            if (s->identity)
                identities.push_back(s);
            else
                views.emplace_back(*s, given);
        const char* const from = (const char*)given.tables;
        std::memcpy(&header, from, sizeof header);
        blocks = blocks_of((const Part*)(from + sizeof header), header.parts);
        tables = (const __m128i*)(from + header_bytes(header.parts));
    }
};

// A vector of outputs at some steps.
struct Place {
    int64_t image, start, steps, vector;
    int32_t* potential;  // [channels, 32], of its block, from its first lane on
    uint32_t valid;      // the positions that exist

    int64_t block() const { return vector / 2; }
    int64_t half() const { return vector % 2; }
};

// Adds 16 currents, as far as their positions exist.
AVX2_INLINE void add_currents(const int32_t* from, uint32_t valid, __m256i& near, __m256i& far) {
    near = _mm256_add_epi32(near, _mm256_maskload_epi32(from, lanes8(valid, 0)));
    far = _mm256_add_epi32(far, _mm256_maskload_epi32(from + 8, lanes8(valid, 8)));
}

// What reaches 16 neurons of channel c at a step: its sums, and what identities bring.
AVX2_INLINE void receive(const Job& job, const Place& at, int64_t c, int64_t t, const int32_t* sums,
                         __m256i& near, __m256i& far) {
    near = _mm256_load_si256((const __m256i*)(sums + t * LANES));
    far = _mm256_load_si256((const __m256i*)(sums + t * LANES + 8));
    const int64_t word = (at.image * job.length + at.block()) * job.p.steps + at.start + t;
    for (const Source* s : job.identities) {
        const uint32_t bits = s->spikes[word * job.p.channels + c] >> at.half() * LANES;
        const __m256i gain = _mm256_set1_epi32(s->weights[c]);
        near = _mm256_add_epi32(near, _mm256_and_si256(lanes8(bits, 0), gain));
        far = _mm256_add_epi32(far, _mm256_and_si256(lanes8(bits, 8), gain));
    }
    if (job.header.wraps) {
        near = _mm256_srai_epi32(_mm256_slli_epi32(near, 16), 16);
        far = _mm256_srai_epi32(_mm256_slli_epi32(far, 16), 16);
    }
}

// Advances 16 neurons of channel c. sums: theirs. Returns the number of spikes.
AVX2_INLINE int64_t advance(const Job& job, const Place& at, int64_t c, const int32_t* sums) {
    const Population& p = job.p;
    const int64_t positions = p.height * p.width, step = job.length * p.steps;
    const int64_t word = at.image * step + at.block() * p.steps + at.start;
    int32_t* const v = at.potential + c * BLOCK;
    const __m256i threshold = _mm256_set1_epi32(p.threshold[c]);
    const __m256i below = _mm256_sub_epi32(threshold, _mm256_set1_epi32(1));
    __m256i near = _mm256_loadu_si256((const __m256i*)v);
    __m256i far = _mm256_loadu_si256((const __m256i*)(v + 8));
    __m256i steady_near = _mm256_setzero_si256(), steady_far = steady_near, most = steady_near;
    if (p.constant)
        add_currents(p.constant + (at.image * p.channels + c) * positions + at.vector * LANES,
                     at.valid, steady_near, steady_far);
    int64_t count = 0;
    for (int64_t t = 0; t < at.steps; ++t) {
        __m256i more_near, more_far;
        receive(job, at, c, t, sums, more_near, more_far);
        near = _mm256_add_epi32(near, _mm256_add_epi32(more_near, steady_near));
        far = _mm256_add_epi32(far, _mm256_add_epi32(more_far, steady_far));
        if (p.current)
            add_currents(p.current + ((at.image * p.steps + at.start + t) * p.channels + c) * positions +
                             at.vector * LANES,
                         at.valid, near, far);
        const __m256i fired_near = _mm256_cmpgt_epi32(near, below);
        const __m256i fired_far = _mm256_cmpgt_epi32(far, below);
        const __m256i less_near = p.reset_to_zero ? near : threshold;
        const __m256i less_far = p.reset_to_zero ? far : threshold;
        near = _mm256_sub_epi32(near, _mm256_and_si256(fired_near, less_near));
        far = _mm256_sub_epi32(far, _mm256_and_si256(fired_far, less_far));
        const uint32_t spikes = (_mm256_movemask_ps(_mm256_castsi256_ps(fired_near)) |
                                 _mm256_movemask_ps(_mm256_castsi256_ps(fired_far)) << 8) &
                                at.valid;
        const uint16_t half = uint16_t(spikes);
        std::memcpy((char*)(p.spikes + (word + t) * p.channels + c) + at.half() * sizeof half, &half,
                    sizeof half);
        count += _mm_popcnt_u32(spikes);
        if (p.peaks) {
            const __m256i seen_near = _mm256_and_si256(lanes8(at.valid, 0), _mm256_abs_epi32(near));
            const __m256i seen_far = _mm256_and_si256(lanes8(at.valid, 8), _mm256_abs_epi32(far));
            most = _mm256_max_epi32(most, _mm256_max_epi32(seen_near, seen_far));
        }
    }
    _mm256_storeu_si256((__m256i*)v, near);
    _mm256_storeu_si256((__m256i*)(v + 8), far);
    if (p.peaks) {
        alignas(32) int32_t all[8];
        _mm256_store_si256((__m256i*)all, most);
        raise_peak(p.peaks + at.image, *std::max_element(all, all + 8));
    }
    return count;
}

// The words of a half of a block whose positions do not exist.
AVX2 static void stay_silent(const Job& job, const Place& at) {
    const Population& p = job.p;
    const int64_t word = (at.image * job.length + at.block()) * p.steps + at.start;
    for (int64_t t = 0; t < at.steps; ++t)
        for (int64_t c = 0; c < p.channels; ++c)
            std::memset((char*)(p.spikes + (word + t) * p.channels + c) + 2 * at.half(), 0, 2);
}

// Transposes a square of numbers.
AVX2_INLINE void transpose(__m256i* rows) {
    __m256i pairs[SIDE], fours[SIDE];
    for (int i = 0; i < SIDE; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4)
        for (int k = 0; k < 2; ++k) {
            fours[i + 2 * k] = _mm256_unpacklo_epi64(pairs[i + k], pairs[i + k + 2]);
            fours[i + 2 * k + 1] = _mm256_unpackhi_epi64(pairs[i + k], pairs[i + k + 2]);
        }
    for (int i = 0; i < SIDE / 2; ++i) {
        rows[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

// Adds a stream to the sums [channels, SUMS] of so many channels from c on.
AVX2 static void add_stream(const Job& job, const Place& at, int64_t c, int64_t channels,
                            int32_t* sums) {
    const Population& p = job.p;
    const int64_t positions = p.height * p.width, first = at.vector * LANES;
    const uint32_t own = uint32_t((1 << std::min(channels, SIDE)) - 1);
    for (int64_t t = 0; t < at.steps; ++t) {
        const int64_t step = (at.image * p.steps + at.start + t) * positions;
        for (int64_t side = 0; side < LANES; side += SIDE) {
            __m256i rows[SIDE];
            for (int64_t i = 0; i < SIDE; ++i) {
                const bool some = at.valid >> (side + i) & 1;
                const int32_t* from = p.stream + (step + first + side + i) * p.channels + c;
                rows[i] = some ? _mm256_maskload_epi32(from, lanes8(own, 0)) : _mm256_setzero_si256();
            }
            transpose(rows);
            for (int64_t i = 0; i < SIDE; ++i) {
                __m256i* to = (__m256i*)(sums + i * SUMS + t * LANES + side);
                *to = _mm256_add_epi32(*to, rows[i]);
            }
        }
    }
}

// Writes the stream of a block at a step. sums: [channels, SUMS] of its two halves, of the channels of
// `outputs`. turned: room for [32, WIDTH].
AVX2 static void write(const Job& job, const madd::Outputs& outputs, const Place& at, int64_t t,
                       const int32_t* const* sums, int32_t* turned) {
    using V = madd::Avx2;
    const Population& p = job.p;
    const int64_t there = std::min(p.height * p.width - at.block() * BLOCK, BLOCK);
    Place half = at;
    for (half.vector = at.vector; (half.vector - at.vector) * LANES < there; ++half.vector)
        for (int64_t c = 0; c < outputs.count; c += SIDE) {
            __m256i near[SIDE] = {}, far[SIDE] = {};
            const int32_t* from = sums[half.half()] + c * SUMS;
            for (int64_t i = 0; i < std::min(outputs.count - c, SIDE); ++i, from += SUMS)
                receive(job, half, outputs.channel + c + i, t, from, near[i], far[i]);
            transpose(near), transpose(far);
            int32_t* to = turned + half.half() * LANES * V::WIDTH + c;
            for (int64_t i = 0; i < SIDE; ++i, to += V::WIDTH) {
                _mm256_storeu_si256((__m256i*)to, near[i]);
                _mm256_storeu_si256((__m256i*)(to + SIDE * V::WIDTH), far[i]);
            }
        }
    const madd::Neurons neurons{&outputs, at.image, at.block(), there, nullptr, nullptr};
    madd::advance_any<V>(p, neurons, nullptr, at.start + t, turned);
}

}  // namespace lookup_avx2

#endif
