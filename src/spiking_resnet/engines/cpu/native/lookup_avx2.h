// The lookup kernel for AVX2: 16 positions at a time.
//
// Two tables are read at once, for four time steps, whose sums stay in registers: those of two neurons'
// channels, or where sums are wide of one channel: the sums modulo 2^16, and quotients by 2^s, from
// which `advance` has the exact sum.
//
// An index of a table is two bytes, those of its entry: number n is (2n, 2n + 1).

#pragma once

#include "lookup_tables.h"
#include "multilevel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define AVX2_INLINE static inline __attribute__((always_inline)) AVX2

namespace lookup_avx2 {

using lookup::Header;

constexpr int64_t CHUNK = 4;    // time steps summed up at once
constexpr int64_t LANES = 16;   // positions looked up at once
constexpr int64_t GROUP = 3;    // channels looked up at once
constexpr int64_t ENTRIES = 8;  // sums in a table
constexpr int64_t SLACK = 64;   // indices before and after each plane of them, read and ignored
constexpr uint16_t NONE = 0x0100;  // the index of number 0

struct Format {
    using Quotient = int16_t;
    static constexpr int64_t GROUP = lookup_avx2::GROUP, ENTRIES = lookup_avx2::ENTRIES;
    static constexpr int64_t KEYS = INT32_MAX, WIDE_KEYS = KEYS, PARTS = 1;  // all in one part
    static constexpr bool JOINS = false;

    static int64_t unit(const Population& p, const Source*, int64_t) { return p.wide ? 1 : 2; }
};

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
    Vector<int64_t> taps;                // offsets
    Vector<Run> runs;
    Vector<int64_t> first;               // [vectors + 1]: where each one's runs begin

    View(const Source& s, const Population& p) : source(&s), groups(lookup::Keys<Format>(s).groups) {
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

// What all threads work by.
struct Job : lookup::JobBase<Format> {
    Vector<View> views;  // of the sources
    const __m128i* tables;

    Job(const Population& given, const Source* given_sources, int64_t number)
        : JobBase(given, given_sources, number),
          tables((const __m128i*)((const char*)given.tables + sizeof(Header))) {
        for (const Source* s : sources) views.emplace_back(*s, given);
    }
};

// 16 indices.
struct alignas(32) Index {
    uint16_t lanes[LANES];
};

// What a thread works with.
struct Desk {
    Vector<Vector<uint16_t>> planes;  // by source: [groups, CHUNK, plane]
    Vector<uint16_t> flat;                 // of one source: [groups, CHUNK, blocks * 32]
    Vector<Index> panel;                   // [keys, CHUNK]: what a vector of outputs sees
    Vector<int32_t> potential;             // [blocks, channels, 32], of this thread's blocks

    explicit Desk(const Job& job)
        : panel(job.keys * CHUNK), potential(job.length * job.p->channels * BLOCK) {
        int64_t most = 0;
        for (const View& v : job.views) {
            planes.emplace_back(v.groups * CHUNK * v.plane, NONE);
            most = std::max(most, v.groups * blocks(v.source->height * v.source->width));
        }
        flat.resize(most * CHUNK * BLOCK);
    }
};

// A vector of outputs in time.
struct Place {
    int64_t image, start, steps, vector;
    int32_t* potential;  // [channels, 32], of its block, from its first lane on
    uint32_t valid;      // the positions that exist

    int64_t block() const { return vector / 2; }
    int64_t half() const { return vector % 2; }
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

// Writes the indices of an image's spikes at the steps of `at`.
AVX2 static void index_source(const View& v, const Population& p, const Place& at, uint16_t* flat,
                              uint16_t* planes) {
    const Source& s = *v.source;
    const int64_t length = blocks(s.height * s.width), row = length * BLOCK;
    for (int64_t b = 0; b < length; ++b)
        for (int64_t t = 0; t < at.steps; ++t) {
            const uint32_t* words =
                s.spikes + ((at.image * length + b) * p.steps + at.start + t) * s.channels;
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
        for (int64_t t = 0; t < at.steps; ++t) {
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

// Sums up what all keys bring, by two tables each, from the biases on: sums [2, CHUNK]. A function of
// its own, or the compiler has no registers left.
AVX2 __attribute__((noinline)) static void sum(const Index* panel, const __m128i* tables,
                                               int64_t keys, int32_t bias, int32_t next,
                                               __m256i* sums) {
    __m256i a = _mm256_set1_epi16(int16_t(bias)), b = a, c = a, d = a;  // of the steps in turn
    __m256i e = _mm256_set1_epi16(int16_t(next)), f = e, g = e, h = e;
    if (keys > 0) {
#define ADD(t, one, other)                                                                  \
    "vmovdqa " #t "*32(%[panel]), %%ymm10\n"                                                \
    "vpshufb %%ymm10, %%ymm8, %%ymm11\n"                                                    \
    "vpshufb %%ymm10, %%ymm9, %%ymm12\n"                                                    \
    "vpaddw %%ymm11, %[" #one "], %[" #one "]\n"                                            \
    "vpaddw %%ymm12, %[" #other "], %[" #other "]\n"
        __asm__("1:\n"
                "vbroadcasti128 (%[tables]), %%ymm8\n"
                "vbroadcasti128 16(%[tables]), %%ymm9\n"
                ADD(0, a, e) ADD(1, b, f) ADD(2, c, g) ADD(3, d, h)
                "sub $-128, %[panel]\n"
                "add $32, %[tables]\n"
                "dec %[keys]\n"
                "jnz 1b\n"
                : [a] "+x"(a), [b] "+x"(b), [c] "+x"(c), [d] "+x"(d), [e] "+x"(e), [f] "+x"(f),
                  [g] "+x"(g), [h] "+x"(h), [panel] "+r"(panel), [tables] "+r"(tables),
                  [keys] "+r"(keys)
                :
                : "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "cc", "memory");
#undef ADD
    }
    const __m256i all[2 * CHUNK] = {a, b, c, d, e, f, g, h};
    for (int64_t i = 0; i < 2 * CHUNK; ++i) _mm256_store_si256(sums + i, all[i]);
}

// Adds eight lanes each of 16-bit numbers to two vectors of 32 bits, times 2^shift.
AVX2_INLINE void add_lanes(__m256i numbers, int64_t shift, __m256i& near, __m256i& far) {
    const __m128i by = _mm_cvtsi64_si128(shift);
    const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(numbers));
    const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(numbers, 1));
    near = _mm256_add_epi32(near, _mm256_sll_epi32(low, by));
    far = _mm256_add_epi32(far, _mm256_sll_epi32(high, by));
}

// Adds 16 currents, as far as their positions exist.
AVX2_INLINE void add_currents(const int32_t* from, uint32_t valid, __m256i& near, __m256i& far) {
    near = _mm256_add_epi32(near, _mm256_maskload_epi32(from, lanes8(valid, 0)));
    far = _mm256_add_epi32(far, _mm256_maskload_epi32(from + 8, lanes8(valid, 8)));
}

// Advances 16 neurons of channel c. sums: of each step, without identities and currents; quotients:
// wide: theirs by 2^s. Returns the number of spikes.
template <bool WIDE>
AVX2_INLINE int64_t advance(const Job& job, const Place& at, int64_t c, const __m256i* sums,
                            const __m256i* quotients) {
    const Population& p = *job.p;
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
        __m256i total = sums[t];
        if constexpr (WIDE) {
            const __m128i by = _mm_cvtsi64_si128(job.header.shift);
            add_lanes(quotients[t], job.header.shift, near, far);
            total = _mm256_sub_epi16(total, _mm256_sll_epi16(quotients[t], by));
        }
        for (const Source* s : job.identities) {
            const uint32_t bits = s->spikes[(word + t) * p.channels + c] >> at.half() * LANES;
            if constexpr (WIDE) {
                const __m256i gain = _mm256_set1_epi32(s->weights[c]);
                near = _mm256_add_epi32(near, _mm256_and_si256(lanes8(bits, 0), gain));
                far = _mm256_add_epi32(far, _mm256_and_si256(lanes8(bits, 8), gain));
            } else {
                const __m256i gain = _mm256_set1_epi16(int16_t(s->weights[c]));
                total = _mm256_add_epi16(total, _mm256_and_si256(lanes16(bits), gain));
            }
        }
        add_lanes(total, 0, near, far);
        if (p.constant) {
            near = _mm256_add_epi32(near, steady_near);
            far = _mm256_add_epi32(far, steady_far);
        }
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

// One vector of outputs, of all channels. Returns the number of spikes.
template <bool WIDE>
AVX2 static int64_t run_vector(const Job& job, const Place& at, Desk& desk) {
    const Population& p = *job.p;
    if (!at.valid) {
        for (int64_t t = 0; t < at.steps; ++t)
            for (int64_t c = 0; c < p.channels; ++c)
                std::memset((char*)(p.spikes + ((at.image * job.length + at.block()) * p.steps +
                                                at.start + t) * p.channels + c) + 2 * at.half(), 0, 2);
        return 0;
    }
    Index* panel = desk.panel.data();
    for (size_t i = 0; i < job.views.size(); ++i) {
        const View& v = job.views[i];
        const uint16_t* planes = desk.planes[i].data();
        panel = v.step == 1 ? fill_panel<1>(v, at.vector, planes, panel)
                            : fill_panel<2>(v, at.vector, planes, panel);
    }
    int64_t count = 0;
    for (int64_t unit = 0; unit < job.units.number; ++unit) {
        const int64_t c = unit * job.units.channels;
        const int32_t bias = p.bias[c];
        const int32_t next = WIDE ? rounded(bias, job.header.shift)
                                  : c + 1 < p.channels ? p.bias[c + 1] : 0;
        __m256i sums[2 * CHUNK];
        sum(desk.panel.data(), job.tables + unit * job.keys * 2, job.keys, bias, next, sums);
        count += advance<WIDE>(job, at, c, sums, sums + CHUNK);
        if (!WIDE && c + 1 < p.channels)
            count += advance<false>(job, at, c + 1, sums + CHUNK, nullptr);
    }
    return count;
}

// The whole window. Threads share images, and bands of blocks where images are few.
void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    const Job job(p, sources, number);
    const int64_t bands = bands_of(p.images, job.length, threads);
    const int64_t row = p.channels * BLOCK, neurons = job.length * row;  // of a block, of an image
    const auto desk_for = [&] { return Desk(job); };
    share(threads, p.images * bands, desk_for, [&](int64_t task, Desk& desk) {
        const int64_t image = task / bands, band = task % bands;
        const int64_t begin = job.length * band / bands, past = job.length * (band + 1) / bands;
        int32_t* const potential = desk.potential.data();
        take_potentials(p, image, neurons, begin * row, past * row, potential);
        int64_t count = 0;
        Place at{image, 0, 0, 0, nullptr, 0};
        for (; at.start < p.steps; at.start += at.steps) {
            at.steps = std::min(p.steps - at.start, CHUNK);
            for (size_t i = 0; i < job.views.size(); ++i)
                index_source(job.views[i], p, at, desk.flat.data(), desk.planes[i].data());
            for (at.vector = 2 * begin; at.vector < 2 * past; ++at.vector) {
                at.valid = valid_bits(p.height * p.width, at.block()) >> at.half() * LANES & 0xffff;
                at.potential = potential + (at.block() - begin) * row + at.half() * LANES;
                count += p.wide ? run_vector<true>(job, at, desk) : run_vector<false>(job, at, desk);
            }
        }
        keep_potentials(p, image, neurons, begin * row, past * row, potential);
        __atomic_fetch_add(p.counts + image, count, __ATOMIC_RELAXED);
    });
}

int64_t refused(const Population& p, const Source* sources, int64_t number) {
    return lookup::divided<Format>(p, sources, number).fits ? 0 : ANY_SUMS;
}

void work(const Population& p, const Source* sources, int64_t number, const double*, double* amounts) {
    const double vectors = double((p.height * p.width + LANES - 1) / LANES);
    const double keys = vectors * double(lookup::keys_of<Format>(sources, number));
    amounts[0] = keys * p.channels * (p.wide ? 2 : 1);
    amounts[1] = keys;
    amounts[2] = vectors * p.channels;
}

constexpr Kernel KERNEL{
    "lookup-avx2", AVX2_SET, BY_BLOCK, EVERYTHING & ~(PRODUCTS | LEVELS | SIGNED | GROUPS | ANY_SUMS),
    {"lookup", "index", "vector of neurons"},
    refused, lookup::table_bytes<Format>, lookup::fill_tables<Format>, work, run,
};

}  // namespace lookup_avx2

#endif
