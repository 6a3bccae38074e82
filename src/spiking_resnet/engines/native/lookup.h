// The kernel for AVX-512: nothing is multiplied and no spike is looked for; sums of weights are looked
// up, 32 positions at a time.
//
// Six channels' spikes at one position are a number below 64, and what they add to a neuron's
// potential is an entry of a table of 64 sums. Such a table of 16-bit integers fills two registers,
// and one instruction (vpermi2w) looks up 32 positions in it: 192 synapses of work, whatever fires.
// For two neurons' channels and eight time steps at once, sums and tables stay in registers; what 36
// groups of channels and kernel positions ("keys") bring stays in the first cache.
//
// 16-bit sums wrap around without harm as long as the total of a step fits 16 bits ("narrow", the
// caller's promise). Where it does not ("wide") a second table holds the entries divided by 2^s and
// rounded: together they give the exact sum, for twice the work (see `advance`).

#pragma once

#include "planes.h"

namespace lookup {

constexpr int64_t CHUNK = 8;     // time steps summed up at once
constexpr int64_t KEYS = 36;     // keys summed up at once, for
constexpr int64_t UNITS = 16;     // units in turn
constexpr int64_t GROUP = 6;     // channels looked up at once
constexpr int64_t ENTRIES = 64;  // sums in a table
constexpr uint32_t EVEN = 0x55555555;
constexpr int64_t SLACK = 64;    // entries before and after each plane of numbers, read and ignored

// Six channels at a position of the kernel make a key; the channels left over (5 at most) make keys
// together with those of the next positions.
INLINE int64_t groups_of(const Source& s) { return s.channels / s.groups / GROUP; }
INLINE int64_t left_over(const Source& s) { return s.channels / s.groups % GROUP; }

INLINE int64_t keys_of(const Source& s) {
    const int64_t taps = s.kernel_height * s.kernel_width;
    return s.identity ? 0 : taps * groups_of(s) + (taps * left_over(s) + GROUP - 1) / GROUP;
}

INLINE int64_t keys_of(const Source* sources, int64_t number) {
    int64_t keys = 0;
    for (int64_t i = 0; i < number; ++i) keys += keys_of(sources[i]);
    return keys;
}

// How far the second table's entries are shifted. Each is rounded by at most half a unit, and all of
// them (the bias too) together must be off by less than 2^15.
INLINE int shift_of(int64_t keys) {
    int shift = 8;
    while (((keys + 1) << shift) / 2 >= 32768) --shift;
    return shift;
}

INLINE int32_t rounded(int32_t value, int shift) {
    return shift == 0 ? value : (value + (1 << (shift - 1))) >> shift;
}

// Whether the source's groups read different channels for each output: a unit is one channel then.
INLINE bool single(const Population& p, const Source* sources, int64_t number) {
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        if (!s.identity && s.groups > 1 && p.channels / s.groups % 2) return true;
    }
    return false;
}

// Units are what is summed up together: two channels, or (wide) one channel's two tables.
struct Units {
    int64_t number, columns, channels;  // of tables, and of channels, in each
    Units(const Population& p, const Source* sources, int64_t count) {
        columns = p.wide || !single(p, sources, count) ? 2 : 1;
        channels = p.wide ? 1 : columns;
        number = (p.channels + channels - 1) / channels;
    }
};

// Writes the tables [unit, key, columns, 64]. Keys: sources; in each, first those of six channels at
// each kernel position, then those of what is left over.
void fill_tables(const Population& p, const Source* sources, int64_t number, int16_t* tables) {
    const int64_t keys = keys_of(sources, number);
    const Units units(p, sources, number);
    const int shift = shift_of(keys);
    std::fill_n(tables, units.number * keys * units.columns * ENTRIES, int16_t{0});
    for (int64_t o = 0; o < p.channels; ++o) {
        const int64_t unit = o / units.channels, column = o % units.channels;
        int16_t* to = tables + (unit * keys * units.columns + column) * ENTRIES;
        for (int64_t i = 0; i < number; ++i) {
            const Source& s = sources[i];
            if (s.identity) continue;
            const int64_t inner = s.channels / s.groups, taps = s.kernel_height * s.kernel_width;
            const int64_t whole = taps * groups_of(s), left = left_over(s);
            for (int64_t key = 0; key < keys_of(s); ++key, to += units.columns * ENTRIES) {
                int32_t sums[ENTRIES] = {};
                for (int64_t bit = 0; bit < GROUP; ++bit) {
                    const int64_t at = (key - whole) * GROUP + bit;  // among those left over
                    int64_t tap = key < whole ? key / groups_of(s) : at / left;
                    int64_t c = key < whole ? key % groups_of(s) * GROUP + bit : inner - left + at % left;
                    const int32_t weight = tap < taps ? s.weights[(o * inner + c) * taps + tap] : 0;
                    for (int64_t e = 0; e < 1 << bit; ++e) sums[e + (1 << bit)] = sums[e] + weight;
                }
                for (int64_t e = 0; e < ENTRIES; ++e) {
                    to[e] = int16_t(uint16_t(sums[e]));
                    if (p.wide) to[ENTRIES + e] = int16_t(rounded(sums[e], shift));
                }
            }
        }
    }
}

}  // namespace lookup

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi,bmi2,popcnt")))
#define AVX512_INLINE static inline __attribute__((always_inline)) AVX512

namespace lookup {

// Positions of a source that a block of outputs sees through one position of the kernel: lanes
// `mask` of a stretch from `offset` on, each lane `index[lane]` further.
struct Piece {
    int64_t offset;
    uint32_t mask;
    bool stepping;  // whether `index` is needed: else lanes are neighbours
    alignas(64) uint16_t index[BLOCK];
};

// A source as this kernel reads it.
struct View {
    const Source* source;
    int64_t groups, left, taps, keys, pitch;  // groups: of six channels, and what is left over
    std::vector<int64_t> first;  // [taps * blocks + 1]: where each one's pieces begin
    std::vector<Piece> pieces;

    View(const Source& s, const Population& p)
        : source(&s),
          groups(groups_of(s) + (left_over(s) > 0)),
          left(left_over(s)),
          taps(s.kernel_height * s.kernel_width),
          keys(keys_of(s)),
          pitch(blocks(s.height * s.width) * BLOCK + 2 * SLACK) {
        if (s.identity) return;
        for (int64_t ky = 0; ky < s.kernel_height; ++ky)
            for (int64_t kx = 0; kx < s.kernel_width; ++kx)
                for (int64_t b = 0; b < blocks(p.height * p.width); ++b) see(s, p, ky, kx, b);
        first.push_back(pieces.size());
    }

    void see(const Source& s, const Population& p, int64_t ky, int64_t kx, int64_t block) {
        first.push_back(pieces.size());
        Piece whole{0, 0, false, {}};  // as long as all lanes are neighbours
        std::vector<Piece> rows;       // else a piece for each stretch of a row
        bool neighbours = true;
        int64_t row = -1, start = 0;   // of the piece begun last: its row of outputs, its first lane
        int64_t y = block * BLOCK / p.width, x = block * BLOCK % p.width - 1;
        for (int64_t lane = 0; lane < BLOCK; ++lane) {
            if (++x == p.width) ++y, x = 0;
            if (y >= p.height) break;
            const int64_t h = y * s.stride_height + ky * s.dilation_height - s.padding_height;
            const int64_t w = x * s.stride_width + kx * s.dilation_width - s.padding_width;
            if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
            const int64_t from = h * s.width + w;
            if (!whole.mask) whole.offset = from - lane;
            neighbours = neighbours && from - lane == whole.offset;
            whole.mask |= uint32_t{1} << lane;
            if (rows.empty() || y != row || (lane - start) * s.stride_width >= 2 * BLOCK) {
                rows.push_back({from, 0, true, {}});
                row = y, start = lane;
            }
            rows.back().mask |= uint32_t{1} << lane;
            rows.back().index[lane] = from - rows.back().offset;
        }
        if (!whole.mask) return;
        if (neighbours)
            pieces.push_back(whole);
        else
            pieces.insert(pieces.end(), rows.begin(), rows.end());
    }
};

// Memory that begins at a multiple of 64 bytes, zero at first.
struct Aligned {
    std::vector<char> memory;
    explicit Aligned(int64_t bytes) : memory(bytes + 64) {}
    void* data() { return (void*)((uintptr_t(memory.data()) + 63) & ~uintptr_t{63}); }
};

// What a thread works with.
struct Desk {
    std::vector<Aligned> number_memory;
    Aligned panel_memory, sums_memory, potential_memory;
    std::vector<uint16_t*> numbers;  // by source: [CHUNK, channel groups, pitch]
    uint16_t* panel;                 // [keys, CHUNK, 32]: what a block of outputs sees
    int16_t* sums;                   // [UNITS, columns, CHUNK, 32]
    int32_t* potential;              // [blocks, channels, 32], of this thread's blocks
    Desk(const std::vector<View>& views, int64_t keys, const Units& units, int64_t neurons)
        : panel_memory(keys * CHUNK * BLOCK * sizeof(uint16_t)),
          sums_memory(UNITS * units.columns * CHUNK * BLOCK * sizeof(int16_t)),
          potential_memory(neurons * sizeof(int32_t)),
          panel((uint16_t*)panel_memory.data()),
          sums((int16_t*)sums_memory.data()),
          potential((int32_t*)potential_memory.data()) {
        for (const View& view : views)
            number_memory.emplace_back(CHUNK * view.groups * view.source->groups * view.pitch *
                                       sizeof(uint16_t));
        for (Aligned& memory : number_memory) numbers.push_back((uint16_t*)memory.data());
    }
};

// The numbers of `steps` time steps from `start` on, for all channels of one image.
AVX512 static void number_source(const View& view, const Population& p, int64_t image,
                                 int64_t start, int64_t steps, uint16_t* numbers) {
    const Source& s = *view.source;
    const int64_t length = blocks(s.height * s.width), inner = s.channels / s.groups;
    for (int64_t b = 0; b < length; ++b) {
        const uint32_t* word = s.spikes + ((image * length + b) * p.steps + start) * s.channels;
        uint16_t* to = numbers + SLACK + b * BLOCK;
        for (int64_t t = 0; t < steps; ++t)
            for (int64_t group = 0; group < s.groups; ++group)
                for (int64_t first = 0; first < inner; first += GROUP, to += view.pitch) {
                    const int64_t count = inner - first < GROUP ? inner - first : GROUP;
                    __m512i sum = _mm512_maskz_set1_epi16(*word++, 1);
                    for (int64_t c = 1; c < count; ++c)
                        sum = _mm512_mask_add_epi16(sum, *word++, sum,
                                                    _mm512_set1_epi16(int16_t(1 << c)));
                    _mm512_storeu_si512(to, sum);
                }
    }
}

// What a block of outputs sees of CHUNK planes of numbers, `stride` apart, through one position of the
// kernel: a masked stretch of each, or pieces put together.
AVX512_INLINE void see(const Piece* piece, const Piece* end, const uint16_t* plane, int64_t stride,
                       __m512i (&found)[CHUNK]) {
    if (end - piece == 1 && !piece->stepping) {
        const __mmask32 mask = piece->mask;
        for (int t = 0; t < CHUNK; ++t)
            found[t] = _mm512_maskz_loadu_epi16(mask, plane + piece->offset + t * stride);
        return;
    }
    for (int t = 0; t < CHUNK; ++t) found[t] = _mm512_setzero_si512();
    for (; piece < end; ++piece) {
        const __m512i index = _mm512_load_si512(piece->index);
        const __mmask32 mask = piece->mask;
        for (int t = 0; t < CHUNK; ++t) {
            const uint16_t* from = plane + piece->offset + t * stride;
            found[t] = _mm512_mask_mov_epi16(
                found[t], mask,
                _mm512_permutex2var_epi16(_mm512_loadu_si512(from), index,
                                          _mm512_loadu_si512(from + BLOCK)));
        }
    }
}

// Copies to the panel what one block of outputs sees of one group of a source's channels. (All steps
// of a chunk, if there are fewer too: nobody looks at what comes of the rest.)
AVX512 static void fill_panel(const View& view, const uint16_t* numbers, int64_t group,
                              int64_t block, int64_t length, uint16_t* panel) {
    const int64_t stride = view.groups * view.source->groups * view.pitch;  // to the next step
    const int64_t whole = view.groups - (view.left > 0);
    numbers += group * view.groups * view.pitch + SLACK;
    const Piece* pieces = view.pieces.data();
    const int64_t* first = view.first.data() + block;
    __m512i found[CHUNK];
    for (int64_t tap = 0; tap < view.taps; ++tap)
        for (int64_t g = 0; g < whole; ++g, panel += CHUNK * BLOCK) {
            see(pieces + first[tap * length], pieces + first[tap * length + 1],
                numbers + g * view.pitch, stride, found);
            for (int t = 0; t < CHUNK; ++t) _mm512_store_si512(panel + t * BLOCK, found[t]);
        }
    // Channels left over: one key takes six bits of the row that they make over all positions.
    for (int64_t bit = 0; bit < view.taps * view.left; bit += GROUP, panel += CHUNK * BLOCK) {
        __m512i key[CHUNK];
        for (int t = 0; t < CHUNK; ++t) key[t] = _mm512_setzero_si512();
        for (int64_t tap = bit / view.left; tap < view.taps && tap * view.left < bit + GROUP; ++tap) {
            see(pieces + first[tap * length], pieces + first[tap * length + 1],
                numbers + whole * view.pitch, stride, found);
            const int64_t shift = tap * view.left - bit;
            const __m512i count = _mm512_set1_epi16(int16_t(shift < 0 ? -shift : shift));
            for (int t = 0; t < CHUNK; ++t)
                key[t] = _mm512_or_si512(key[t], shift < 0 ? _mm512_srlv_epi16(found[t], count)
                                                           : _mm512_sllv_epi16(found[t], count));
        }
        for (int t = 0; t < CHUNK; ++t)
            _mm512_store_si512(panel + t * BLOCK,
                               _mm512_and_si512(key[t], _mm512_set1_epi16(ENTRIES - 1)));
    }
}

// The sums [2, 8, 32] of what the panel's keys bring, from `first` [2] on, or (null) from what they
// are. The innermost loop of all: each key is 4 + 8 loads, 16 lookups and 16 additions, and takes as
// many cycles as there are lookups. It is in assembler because compilers copy and spill accumulators.
AVX512 static void sum_pair(int64_t keys, const uint16_t* panel, const int16_t* table,
                            const int16_t* first, int16_t* sums) {
#define START(t, offset, far)                                   \
    "vmovdqa64 %%zmm28, %%zmm" #t "\n vmovdqa64 %%zmm29, %%zmm1" #t "\n"
#define LOAD(t, offset, far)                                    \
    "vmovdqa64 " #offset "(%[sums]), %%zmm" #t "\n"             \
    "vmovdqa64 " #far "(%[sums]), %%zmm1" #t "\n"
#define STORE(t, offset, far)                                   \
    "vmovdqa64 %%zmm" #t ", " #offset "(%[sums])\n"             \
    "vmovdqa64 %%zmm1" #t ", " #far "(%[sums])\n"
#define STEP(t, offset, i, j)                                   \
    "vmovdqa64 " #offset "(%[panel]), %%zmm" #i "\n"            \
    "vmovdqa64 %%zmm" #i ", %%zmm" #j "\n"                      \
    "vpermi2w %%zmm29, %%zmm28, %%zmm" #i "\n"                  \
    "vpermi2w %%zmm31, %%zmm30, %%zmm" #j "\n"                  \
    "vpaddw %%zmm" #i ", %%zmm" #t ", %%zmm" #t "\n"            \
    "vpaddw %%zmm" #j ", %%zmm1" #t ", %%zmm1" #t "\n"
#define ALL(WHAT)                                                                          \
    WHAT(0, 0, 512) WHAT(1, 64, 576) WHAT(2, 128, 640) WHAT(3, 192, 704) WHAT(4, 256, 768) \
        WHAT(5, 320, 832) WHAT(6, 384, 896) WHAT(7, 448, 960)
    asm volatile(
        "test %[first], %[first]\n jz 1f\n"
        "vpbroadcastw (%[first]), %%zmm28\n vpbroadcastw 2(%[first]), %%zmm29\n"
        ALL(START) "jmp 2f\n 1:\n" ALL(LOAD) "2:\n test %[keys], %[keys]\n jz 4f\n"
        ".p2align 5\n 3:\n"
        "vmovdqa64 (%[table]), %%zmm28\n vmovdqa64 64(%[table]), %%zmm29\n"
        "vmovdqa64 128(%[table]), %%zmm30\n vmovdqa64 192(%[table]), %%zmm31\n"
        STEP(0, 0, 20, 21) STEP(1, 64, 22, 23) STEP(2, 128, 24, 25) STEP(3, 192, 26, 27)
        STEP(4, 256, 18, 19) STEP(5, 320, 8, 9) STEP(6, 384, 20, 21) STEP(7, 448, 22, 23)
        "add $256, %[table]\n add $512, %[panel]\n dec %[keys]\n jnz 3b\n 4:\n"
        ALL(STORE)
        : [panel] "+r"(panel), [table] "+r"(table), [keys] "+r"(keys)
        : [sums] "r"(sums), [first] "r"(first)
        : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
          "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18",
          "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",
          "xmm28", "xmm29", "xmm30", "xmm31");
#undef START
#undef LOAD
#undef STORE
#undef STEP
#undef ALL
}

// The same for a unit of one table.
AVX512 static void sum_single(int64_t keys, const uint16_t* panel, const int16_t* table,
                              const int16_t* first, int16_t* sums) {
    __m512i sum[CHUNK];
    for (int64_t t = 0; t < CHUNK; ++t)
        sum[t] = first ? _mm512_set1_epi16(*first) : _mm512_load_si512(sums + t * BLOCK);
    for (; keys > 0; --keys, table += ENTRIES, panel += CHUNK * BLOCK) {
        const __m512i near = _mm512_load_si512(table), far = _mm512_load_si512(table + BLOCK);
        for (int64_t t = 0; t < CHUNK; ++t) {
            const __m512i index = _mm512_load_si512(panel + t * BLOCK);
            sum[t] = _mm512_add_epi16(sum[t], _mm512_permutex2var_epi16(near, index, far));
        }
    }
    for (int64_t t = 0; t < CHUNK; ++t) _mm512_store_si512(sums + t * BLOCK, sum[t]);
}

// One block of outputs of one image, from time step `start` on.
struct Place {
    const Population* p;
    const Source* const* identities;
    int64_t number;  // of identities
    int64_t image, start, steps, block, length;
    int32_t* potential;  // [channels, 32], of this block
    uint32_t valid;
    int shift;
};

// Adds to 16 potentials each the even and the odd lanes of 32 16-bit numbers, times `factor`.
AVX512_INLINE void add_lanes(__m512i numbers, int factor, __m512i& even, __m512i& odd) {
    even = _mm512_add_epi32(even, _mm512_madd_epi16(numbers, _mm512_set1_epi32(factor)));
    odd = _mm512_add_epi32(odd, _mm512_madd_epi16(numbers, _mm512_set1_epi32(factor << 16)));
}

// Adds to 32 potentials the currents of a block, as far as there are any.
AVX512_INLINE void add_currents(const int32_t* currents, uint32_t valid, __m512i& even,
                                __m512i& odd) {
    const __m512i near = _mm512_maskz_loadu_epi32(valid, currents);
    const __m512i far = _mm512_maskz_loadu_epi32(valid >> 16, currents + 16);
    const __m512i index = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    even = _mm512_add_epi32(even, _mm512_permutex2var_epi32(near, index, far));
    odd = _mm512_add_epi32(
        odd, _mm512_permutex2var_epi32(near, _mm512_add_epi32(index, _mm512_set1_epi32(1)), far));
}

// Advances 32 neurons of each of NUMBER channels by the place's time steps, given the sums
// [channel, CHUNK, 32] of their lookups (wide: [channel, 2, CHUNK, 32], the low 16 bits and the
// quotients by 2^shift, off by less than 2^15). PLAIN: there is nothing but spikes and reset by
// subtraction.
template <int NUMBER, bool WIDE, bool PLAIN>
AVX512 static void advance(const Place& at, int64_t first, const int16_t* sums) {
    const Population& p = *at.p;
    const int64_t block = at.image * at.length + at.block, sources = at.number;
    const int64_t word = (block * p.steps + at.start) * p.channels + first;
    const bool to_zero = !PLAIN && p.reset_to_zero, watched = !PLAIN && p.peaks;
    const int64_t channels = p.channels, positions = p.height * p.width;
    int32_t* v = at.potential + first * BLOCK;
    const uint32_t valid = at.valid;
    const uint32_t* __restrict const identity = sources ? at.identities[0]->spikes + word : nullptr;
    uint32_t* __restrict const out = p.spikes + word;
    const int64_t steps = at.steps;
    const int shift = at.shift;
    const int32_t* const current = PLAIN ? nullptr : p.current;
    __m512i even[NUMBER], odd[NUMBER], threshold[NUMBER];
    __m512i steady_even[PLAIN ? 1 : NUMBER], steady_odd[PLAIN ? 1 : NUMBER];
    __m512i most = _mm512_setzero_si512();
    __m512i gains[NUMBER];  // of the first identity: there is seldom another
    for (int c = 0; c < NUMBER; ++c) {
        gains[c] = _mm512_set1_epi16(sources ? int16_t(at.identities[0]->weights[first + c]) : 0);
        threshold[c] = _mm512_set1_epi32(p.threshold[first + c]);
        even[c] = _mm512_load_si512(v + c * BLOCK);
        odd[c] = _mm512_load_si512(v + c * BLOCK + 16);
        if constexpr (!PLAIN) {
            steady_even[c] = steady_odd[c] = _mm512_setzero_si512();
            if (p.constant)
                add_currents(p.constant + (at.image * channels + first + c) * positions +
                                 at.block * BLOCK,
                             valid, steady_even[c], steady_odd[c]);
        }
    }
    for (int64_t t = 0; t < steps; ++t) {
        __m512i sum[NUMBER];
        for (int c = 0; c < NUMBER; ++c) {
            const int16_t* from = sums + (c * (WIDE ? 2 : 1) * CHUNK + t) * BLOCK;
            sum[c] = _mm512_load_si512(from);
            if constexpr (WIDE) {
                // What the quotient misses of the sum fits 16 bits: so their difference is exact.
                const __m512i quotient = _mm512_load_si512(from + CHUNK * BLOCK);
                sum[c] = _mm512_sub_epi16(
                    sum[c], _mm512_sll_epi16(quotient, _mm_cvtsi32_si128(shift)));
                add_lanes(quotient, 1 << shift, even[c], odd[c]);
            }
        }
        if (identity && !WIDE)
            for (int c = 0; c < NUMBER; ++c)
                sum[c] = _mm512_mask_add_epi16(sum[c], identity[t * channels + c], sum[c], gains[c]);
        for (int64_t i = WIDE ? 0 : 1; i < sources; ++i) {
            const Source& s = *at.identities[i];
            const uint32_t* words = s.spikes + word + t * channels;
            for (int c = 0; c < NUMBER; ++c) {
                const __m512i gain = _mm512_set1_epi32(s.weights[first + c]);
                even[c] = _mm512_mask_add_epi32(even[c], _pext_u32(words[c], EVEN), even[c], gain);
                odd[c] = _mm512_mask_add_epi32(odd[c], _pext_u32(words[c], ~EVEN), odd[c], gain);
            }
        }
        uint32_t* __restrict spikes = out + t * channels;
        for (int c = 0; c < NUMBER; ++c) {
            add_lanes(sum[c], 1, even[c], odd[c]);
            if constexpr (!PLAIN) {
                even[c] = _mm512_add_epi32(even[c], steady_even[c]);
                odd[c] = _mm512_add_epi32(odd[c], steady_odd[c]);
                if (current) {
                    const int64_t plane = (at.image * p.steps + at.start + t) * channels + first + c;
                    add_currents(current + plane * positions + at.block * BLOCK, valid, even[c],
                                 odd[c]);
                }
            }
            const __mmask16 fired_even = _mm512_cmpge_epi32_mask(even[c], threshold[c]);
            const __mmask16 fired_odd = _mm512_cmpge_epi32_mask(odd[c], threshold[c]);
            even[c] = _mm512_mask_sub_epi32(even[c], fired_even, even[c],
                                            to_zero ? even[c] : threshold[c]);
            odd[c] =
                _mm512_mask_sub_epi32(odd[c], fired_odd, odd[c], to_zero ? odd[c] : threshold[c]);
            spikes[c] =
                (_pdep_u32(fired_even, EVEN) | _pdep_u32(fired_odd, ~EVEN)) & valid;
            if (watched) {
                most = _mm512_mask_max_epi32(most, _pext_u32(valid, EVEN), most,
                                             _mm512_abs_epi32(even[c]));
                most = _mm512_mask_max_epi32(most, _pext_u32(valid, ~EVEN), most,
                                             _mm512_abs_epi32(odd[c]));
            }
        }
    }
    for (int c = 0; c < NUMBER; ++c) {
        _mm512_store_si512(v + c * BLOCK, even[c]);
        _mm512_store_si512(v + c * BLOCK + 16, odd[c]);
    }
    if (watched) raise_peak(p.peaks + at.image, _mm512_reduce_max_epi32(most));
}

// Channels `first` … `past` - 1.
template <bool WIDE, bool PLAIN>
AVX512 static void advance_all(const Place& at, int64_t first, int64_t past, const int16_t* sums) {
    const int64_t each = (WIDE ? 2 : 1) * CHUNK * BLOCK;
    for (; first + 2 <= past; first += 2, sums += 2 * each)
        advance<2, WIDE, PLAIN>(at, first, sums);
    for (; first < past; ++first, sums += each) advance<1, WIDE, PLAIN>(at, first, sums);
}

// What the sums of each unit start from [unit, columns]: the biases.
std::vector<int16_t> biases(const Population& p, const Units& units, int shift) {
    std::vector<int16_t> found(units.number * units.columns);
    for (int64_t o = 0; o < p.channels; ++o) {
        found[o * (p.wide ? 2 : 1)] = int16_t(uint16_t(p.bias[o]));
        if (p.wide) found[2 * o + 1] = int16_t(rounded(p.bias[o], shift));
    }
    return found;
}

// One block: sums up what all sources bring to each unit, and advances its neurons.
template <typename Finish>
AVX512 static void run_block(const Place& at, const std::vector<View>& views, const Units& units,
                             int64_t keys, const int16_t* first, Finish finish, Desk& desk) {
    const Population& p = *at.p;
    for (int64_t begin = 0; begin < units.number;) {
        int64_t past = begin + UNITS < units.number ? begin + UNITS : units.number;
        uint16_t* panel = desk.panel;
        for (size_t i = 0; i < views.size(); panel += views[i++].keys * CHUNK * BLOCK) {
            const int64_t outputs = p.channels / views[i].source->groups / units.channels;
            if (views[i].source->groups > 1 && past > (begin / outputs + 1) * outputs)
                past = (begin / outputs + 1) * outputs;  // units that see the same panel
            if (views[i].source->groups > 1 ? begin % outputs == 0 : begin == 0)
                fill_panel(views[i], desk.numbers[i],
                           views[i].source->groups > 1 ? begin / outputs : 0, at.block, at.length,
                           panel);
        }
        const int64_t parts = keys > KEYS ? (keys + KEYS - 1) / KEYS : 1;
        for (int64_t part = 0; part < parts; ++part) {
            const int64_t key = keys * part / parts, count = keys * (part + 1) / parts - key;
            for (int64_t unit = begin; unit < past; ++unit) {
                const int16_t* table = (const int16_t*)p.tables + (unit * keys + key) * units.columns * ENTRIES;
                const int16_t* start = key ? nullptr : first + unit * units.columns;
                int16_t* sums = desk.sums + (unit - begin) * units.columns * CHUNK * BLOCK;
                (units.columns == 2 ? sum_pair : sum_single)(
                    count, desk.panel + key * CHUNK * BLOCK, table, start, sums);
            }
        }
        const int64_t last = past * units.channels;
        finish(at, begin * units.channels, last < p.channels ? last : p.channels, desk.sums);
        begin = past;
    }
}

// The spikes in so many words.
AVX512 static int64_t count_words(const uint32_t* words, int64_t number) {
    int64_t count = 0, i = 0;
    for (; i + 2 <= number; i += 2) {
        uint64_t two;
        std::memcpy(&two, words + i, sizeof two);
        count += _mm_popcnt_u64(two);
    }
    return i < number ? count + _mm_popcnt_u32(words[i]) : count;
}

// The whole window. Threads share images, and bands of blocks where images are few.
void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    std::vector<View> views;
    std::vector<const Source*> identities;
    for (int64_t i = 0; i < number; ++i) {
        if (sources[i].identity)
            identities.push_back(sources + i);
        else
            views.emplace_back(sources[i], p);
    }
    const int64_t keys = keys_of(sources, number), length = blocks(p.height * p.width);
    const Units units(p, sources, number);
    const bool plain = !p.constant && !p.current && !p.peaks && !p.reset_to_zero;
    auto* const finish = p.wide ? (plain ? advance_all<true, true> : advance_all<true, false>)
                                : (plain ? advance_all<false, true> : advance_all<false, false>);
    const std::vector<int16_t> first = biases(p, units, shift_of(keys));
    const int64_t bands = bands_of(p.images, length, threads);
    const int64_t neurons = length * p.channels * BLOCK;  // of an image
    const auto desk_for = [&] { return std::make_unique<Desk>(views, keys, units, neurons); };
    share(threads, p.images * bands, desk_for, [&](int64_t task, std::unique_ptr<Desk>& own) {
        Desk& desk = *own;
        const int64_t image = task / bands, band = task % bands;
        const int64_t begin = length * band / bands, past = length * (band + 1) / bands;
        const int64_t row = p.channels * BLOCK;
        take_potentials(p, image, neurons, begin * row, past * row, desk.potential);
        Place at{&p, identities.data(), int64_t(identities.size()), image, 0, 0, 0, length,
                 nullptr, 0, shift_of(keys)};
        for (; at.start < p.steps; at.start += at.steps) {
            at.steps = p.steps - at.start < CHUNK ? p.steps - at.start : CHUNK;
            for (size_t i = 0; i < views.size(); ++i)
                number_source(views[i], p, image, at.start, at.steps, desk.numbers[i]);
            for (at.block = begin; at.block < past; ++at.block) {
                at.valid = valid_bits(p.height * p.width, at.block);
                at.potential = desk.potential + (at.block - begin) * row;
                run_block(at, views, units, keys, first.data(), finish, desk);
            }
        }
        keep_potentials(p, image, neurons, begin * row, past * row, desk.potential);
        const int64_t words = p.steps * p.channels;
        const uint32_t* spikes = p.spikes + (image * length + begin) * words;
        __atomic_fetch_add(p.counts + image, count_words(spikes, (past - begin) * words),
                           __ATOMIC_RELAXED);
    });
}

}  // namespace lookup

#endif
