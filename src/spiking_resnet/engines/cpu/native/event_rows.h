// The event kernel for AVX-512: the set bits of each neighbourhood, gathered into one list, and the
// rows of weights they stand for added up. Its work grows with the number of spikes, and it needs no
// tables: it is the better one where channels are many and spikes few.
//
// Spikes come and go as words over positions; here they are turned into words over channels (a
// transposition of 32 x 32 bits). One list serves all channels of outputs, 64 of them at a time.

#pragma once

#include "kernel.h"
#include "multilevel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512_ROWS                                                                                  \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2," \
                          "popcnt")))

namespace event_rows {

constexpr int64_t CHUNK = 16;  // time steps in turn; of spikes of several bits, planes
constexpr int64_t TURN = 4;    // rows of weights added between two looks at the list's end

constexpr int64_t GROUP = 64;  // outputs computed together: their rows of weights lie together, so
                               // that those of a layer of 512 channels stay in the second cache

// How many outputs the group from `o` on has.
INLINE int64_t group_at(const Population& p, int64_t o) {
    return o + GROUP <= p.channels ? GROUP : p.channels - o;
}

INLINE int64_t units(int64_t channels) { return (channels + 31) / 32; }

INLINE int64_t rows_of(const Source& s) {
    return s.identity ? 0 : s.kernel_height * s.kernel_width * units(s.channels) * 32;
}

INLINE int64_t all_rows(const Source* sources, int64_t number) {
    int64_t rows = 0;
    for (int64_t i = 0; i < number; ++i) rows += rows_of(sources[i]);
    return rows;
}

// The transpose of 32 words of 32 bits.
AVX512_ROWS static inline void transpose(const uint32_t* from, uint32_t* to) {
    alignas(64) uint8_t index[64];  // of bytes 0 of all words, then bytes 1
    for (int i = 0; i < 64; ++i) index[i] = uint8_t(i % 32 * 4 + i / 32);
    const __m512i low = _mm512_loadu_si512(from), high = _mm512_loadu_si512(from + 16);
    const __m512i first = _mm512_load_si512(index);
    for (int half = 0; half < 2; ++half) {
        const __m512i at = _mm512_add_epi8(first, _mm512_set1_epi8(char(2 * half)));
        __m512i bytes = _mm512_permutex2var_epi8(low, at, high);
        for (int bit = 7; bit >= 0; --bit) {
            const uint64_t found = _mm512_movepi8_mask(bytes);
            to[16 * half + bit] = uint32_t(found);
            to[16 * half + 8 + bit] = uint32_t(found >> 32);
            bytes = _mm512_add_epi8(bytes, bytes);  // the next lower bit to the top
        }
    }
}

// Spikes of one image and chunk of a source, over channels: bits [positions, CHUNK, units]. start,
// steps: planes of spikes of several bits are steps of their own.
AVX512_ROWS static void turn_source(const Source& s, const Population& p, int64_t image, int64_t start,
                             int64_t steps, uint32_t* bits) {
    const int64_t positions = s.height * s.width, wide = units(s.channels);
    for (int64_t b = 0; b < blocks(positions); ++b) {
        const uint32_t* words =
            s.spikes + ((image * blocks(positions) + b) * p.steps * p.planes + start) * s.channels;
        const int64_t count = positions - b * BLOCK < BLOCK ? positions - b * BLOCK : BLOCK;
        for (int64_t t = 0; t < steps; ++t, words += s.channels)
            for (int64_t unit = 0; unit < wide; ++unit) {
                uint32_t from[32] = {}, to[32];
                const int64_t left = s.channels - unit * 32;
                std::memcpy(from, words + unit * 32, (left < 32 ? left : 32) * sizeof(uint32_t));
                transpose(from, to);
                uint32_t* at = bits + (b * BLOCK * CHUNK + t) * wide + unit;
                for (int64_t i = 0; i < count; ++i) at[i * CHUNK * wide] = to[i];
            }
    }
}

// Words over channels that an output position sees, and the rows of weights that their bits stand for.
struct Look {
    const uint32_t* bits;  // of step 0
    int64_t stride;        // to the next step
    int64_t row;
};

// What a thread works with.
struct Desk {
    Vector<Vector<uint32_t>> bits;  // by source
    Room memory;
    uint16_t* list;                      // rows of weights: by position and step of a block
    Vector<int64_t> ends;                // [32 * CHUNK + 1]: where each one's rows begin
    Vector<uint32_t> fired;              // [CHUNK, own planes, units, 32]
    Vector<Look> looks;
    Vector<int32_t> potential;           // [positions, channels], of this thread's blocks
    Vector<int32_t> emitted;             // the same, where spikes are taken back
    Desk(const Population& p, const Source* sources, int64_t number, int64_t rows)
        : ends(BLOCK * CHUNK + 1),
          fired(CHUNK * multilevel::own_planes(p) * units(p.channels) * 32),
          looks(rows / 32),
          potential(p.height * p.width * p.channels),
          emitted(p.is_signed ? potential.size() : 0) {
        memory.reserve((BLOCK * CHUNK * (rows + TURN) + 64) * sizeof(uint16_t));
        list = (uint16_t*)memory.data();
        for (int64_t i = 0; i < number; ++i) {
            const Source& s = sources[i];
            bits.emplace_back(s.height * s.width * CHUNK * units(s.channels));
        }
    }
};

// Sets `looks` to what the output position (y, x) sees of all sources. Returns how many there are.
inline int64_t look(const Population& p, const Source* sources, int64_t number, int64_t place,
                    const Desk& desk, Look* looks) {
    const int64_t y = place / p.width, x = place % p.width;
    int64_t found = 0, row = 0;
    for (int64_t k = 0; k < number; ++k) {
        const Source& s = sources[k];
        if (s.identity) continue;
        const int64_t wide = units(s.channels);
        for (int64_t ky = 0; ky < s.kernel_height; ++ky) {
            const int64_t h = y * s.stride_height + ky * s.dilation_height - s.padding_height;
            for (int64_t kx = 0; kx < s.kernel_width; ++kx, row += 32 * wide) {
                const int64_t w = x * s.stride_width + kx * s.dilation_width - s.padding_width;
                if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
                const uint32_t* bits = desk.bits[k].data() + (h * s.width + w) * CHUNK * wide;
                for (int64_t unit = 0; unit < wide; ++unit)
                    looks[found++] = {bits + unit, wide, row + 32 * unit};
            }
        }
    }
    return found;
}

// Lists, for the positions of a block and the steps of a chunk, the rows of weights to add.
AVX512_ROWS static void list_rows(const Population& p, const Source* sources, int64_t number,
                           int64_t block, int64_t count, int64_t steps, int64_t zero, Desk& desk) {
    const __m512i lanes = _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17,
                                           16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    uint16_t *const list = desk.list, *to = list;
    int64_t* end = desk.ends.data();
    Look* const looks = desk.looks.data();
    *end++ = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t seen = look(p, sources, number, block * BLOCK + i, desk, looks);
        for (int64_t t = 0; t < steps; ++t) {
            for (int64_t k = 0; k < seen; ++k) {
                const uint32_t word = looks[k].bits[t * looks[k].stride];
                const __m512i rows =
                    _mm512_add_epi16(lanes, _mm512_set1_epi16(int16_t(looks[k].row)));
                _mm512_storeu_si512(to, _mm512_maskz_compress_epi16(word, rows));
                to += _mm_popcnt_u32(word);
            }
            _mm_storel_epi64((__m128i*)to, _mm_set1_epi16(int16_t(zero)));
            to = list + (to - list + TURN - 1) / TURN * TURN;
            *end++ = to - list;
        }
    }
}

// One position's neurons of VECTORS * 32 channels from `o` on, which lie `at_first` in the desk's
// potentials, for all steps of a chunk.
template <int VECTORS, bool WIDE, bool MULTILEVEL>
AVX512_ROWS static void run_place(const Population& p, const Source* sources, int64_t number,
                           const void* weights, int64_t at_first, int64_t place, int64_t lane,
                           int64_t steps, int64_t o, int64_t rows, Desk& desk) {
    constexpr int HALVES = 2 * VECTORS;                 // vectors of potentials, and of wide sums
    constexpr int SUMS = WIDE ? HALVES : VECTORS;       // vectors of sums
    const int64_t wide = units(p.channels);
    const int64_t row = group_at(p, o) * (WIDE ? 4 : 2);  // bytes
    const char* table = (const char*)weights + o * (rows + 1) * (WIDE ? 4 : 2);
    const __m512i zero = _mm512_setzero_si512();
    const __m512i kept = _mm512_set1_epi32(p.reset_to_zero ? 0 : -1);
    const int64_t planes = MULTILEVEL ? p.planes : 1, own = MULTILEVEL ? multilevel::own_planes(p) : 1;
    int32_t* const v = desk.potential.data() + at_first;
    int32_t* const emitted = desk.emitted.data() + at_first;
    __m512i potential[HALVES], bias[HALVES], threshold[HALVES];
    for (int i = 0; i < HALVES; ++i) {
        potential[i] = _mm512_loadu_si512(v + 16 * i);
        bias[i] = _mm512_loadu_si512(p.bias + o + 16 * i);
        threshold[i] = _mm512_loadu_si512(p.threshold + o + 16 * i);
    }
    const int64_t* ends = desk.ends.data() + lane * steps * planes;
    for (int64_t t = 0; t < steps; ++t) {
        __m512i sum[SUMS], other[SUMS];
        for (int64_t plane = 0; plane < planes; ++plane) {
            for (int i = 0; i < SUMS; ++i) sum[i] = other[i] = zero;
            const uint16_t* at = desk.list + ends[t * planes + plane];
            const uint16_t* end = desk.list + ends[t * planes + plane + 1];
            for (; at < end; at += TURN)
                for (int turn = 0; turn < TURN; turn += 2) {
                    const char* one = table + at[turn] * row;
                    const char* two = table + at[turn + 1] * row;
                    for (int i = 0; i < SUMS; ++i) {
                        const __m512i a = _mm512_loadu_si512(one + 64 * i);
                        const __m512i b = _mm512_loadu_si512(two + 64 * i);
                        sum[i] = WIDE ? _mm512_add_epi32(sum[i], a) : _mm512_add_epi16(sum[i], a);
                        other[i] = WIDE ? _mm512_add_epi32(other[i], b) : _mm512_add_epi16(other[i], b);
                    }
                }
            for (int i = 0; i < HALVES; ++i) {
                __m512i whole;
                if constexpr (WIDE) {
                    whole = _mm512_add_epi32(sum[i], other[i]);
                } else {
                    const __m512i both = _mm512_add_epi16(sum[i / 2], other[i / 2]);
                    whole = _mm512_cvtepi16_epi32(i % 2 ? _mm512_extracti64x4_epi64(both, 1)
                                                        : _mm512_castsi512_si256(both));
                }
                if constexpr (MULTILEVEL)
                    whole = _mm512_mullo_epi32(whole, _mm512_set1_epi32(multilevel::weight(p, plane)));
                potential[i] = _mm512_add_epi32(potential[i], whole);
            }
        }
        for (int i = 0; i < HALVES; ++i) {
            potential[i] = _mm512_add_epi32(potential[i], bias[i]);
            for (int64_t k = 0; k < number; ++k) {
                if (!sources[k].identity) continue;
                const uint32_t* bits =
                    desk.bits[k].data() + (place * CHUNK + t * planes) * wide + o / 32 + i / 2;
                const __m512i gain = _mm512_loadu_si512(sources[k].weights + o + 16 * i);
                for (int64_t plane = 0; plane < planes; ++plane) {
                    __m512i each = gain;
                    if constexpr (MULTILEVEL)
                        each = _mm512_mullo_epi32(gain, _mm512_set1_epi32(multilevel::weight(p, plane)));
                    potential[i] = _mm512_mask_add_epi32(
                        potential[i], bits[plane * wide] >> (16 * (i % 2)), potential[i], each);
                }
            }
        }
        if constexpr (MULTILEVEL) {
            for (int i = 0; i < HALVES; ++i) {
                const multilevel::Sixteen neurons = multilevel::sixteen(p, threshold[i]);
                __m512i so_far = zero;
                if (p.is_signed) so_far = _mm512_loadu_si512(emitted + 16 * i);
                const __m512i spikes = multilevel::fire(p, neurons, potential[i], so_far);
                if (p.is_signed) _mm512_storeu_si512(emitted + 16 * i, so_far);
                for (int64_t plane = 0; plane < own; ++plane) {
                    uint32_t& to = desk.fired[((t * own + plane) * wide + (o + 16 * i) / 32) * 32 + lane];
                    const uint32_t bits =
                        _mm512_test_epi32_mask(spikes, _mm512_set1_epi32(1 << plane));
                    to = i % 2 ? to | bits << 16 : bits;
                }
            }
            continue;
        }
        for (int i = 0; i < HALVES; i += 2) {
            uint32_t fired = 0;
            for (int half = 0; half < 2; ++half) {
                __m512i& u = potential[i + half];
                const __mmask16 spike = _mm512_cmpge_epi32_mask(u, threshold[i + half]);
                u = _mm512_mask_and_epi32(u, spike, _mm512_sub_epi32(u, threshold[i + half]), kept);
                fired |= uint32_t(spike) << (16 * half);
            }
            desk.fired[(t * wide + (o + 16 * i) / 32) * 32 + lane] = fired;
        }
    }
    for (int i = 0; i < HALVES; ++i) _mm512_storeu_si512(v + 16 * i, potential[i]);
}

// All of one image.
template <bool WIDE, bool MULTILEVEL>
AVX512_ROWS static void run_image(const Population& p, const Source* sources, int64_t number, int64_t rows,
                           const void* weights, int64_t image, int64_t first, int64_t past,
                           Desk& desk) {
    const int64_t positions = p.height * p.width, length = blocks(positions);
    const int64_t wide = units(p.channels);
    const int64_t neurons = positions * p.channels, begin = first * BLOCK * p.channels;
    const int64_t end = past * BLOCK < positions ? past * BLOCK * p.channels : neurons;
    const int64_t planes = MULTILEVEL ? p.planes : 1, own = MULTILEVEL ? multilevel::own_planes(p) : 1;
    take_potentials(p, image, neurons, begin, end, desk.potential.data());
    take_emitted(p, image, neurons, begin, end, desk.emitted.data());
    int64_t count = 0;
    const int64_t turn = std::max<int64_t>(CHUNK / planes, 1);
    for (int64_t start = 0; start < p.steps; start += turn) {
        const int64_t steps = std::min(p.steps - start, turn);
        for (int64_t i = 0; i < number; ++i)
            turn_source(sources[i], p, image, start * planes, steps * planes, desk.bits[i].data());
        for (int64_t b = first; b < past; ++b) {
            const int64_t lanes = positions - b * BLOCK < BLOCK ? positions - b * BLOCK : BLOCK;
            list_rows(p, sources, number, b, lanes, steps * planes, rows, desk);
            if (lanes < BLOCK) std::fill(desk.fired.begin(), desk.fired.end(), 0);
            for (int64_t o = 0; o < p.channels;) {
                const int64_t group = group_at(p, o);
                for (int64_t i = 0; i < lanes; ++i)
                    (group == GROUP ? run_place<2, WIDE, MULTILEVEL> : run_place<1, WIDE, MULTILEVEL>)(
                        p, sources, number, weights, ((b - first) * BLOCK + i) * p.channels + o,
                        b * BLOCK + i, i, steps, o, rows, desk);
                o += group;
            }
            uint32_t* words = p.spikes + ((image * length + b) * p.steps + start) * own * p.channels;
            for (int64_t t = 0; t < steps * own; ++t)
                for (int64_t unit = 0; unit < wide; ++unit, words += 32)
                    transpose(desk.fired.data() + (t * wide + unit) * 32, words);
            words -= steps * own * p.channels;
            if constexpr (MULTILEVEL) {
                multilevel::count(p, image, words, steps);
                continue;
            }
            for (int64_t i = 0; i < steps * p.channels; ++i) count += _mm_popcnt_u32(words[i]);
        }
    }
    keep_potentials(p, image, neurons, begin, end, desk.potential.data());
    keep_emitted(p, image, neurons, begin, end, desk.emitted.data());
    __atomic_fetch_add(p.counts + image, count, __ATOMIC_RELAXED);
}

int64_t refused(const Population& p, const Source* sources, int64_t number) {
    const int64_t rows = all_rows(sources, number);
    return rows > 0 && rows < 65535 && p.channels % 32 == 0 ? 0 : ANY_SHAPE;
}

int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    return (all_rows(sources, number) + 1) * p.channels *
           int64_t(p.wide ? sizeof(int32_t) : sizeof(int16_t));
}

// Writes, for each group of outputs, the rows of weights [sources, kernel, channels in units of 32,
// outputs of the group], and one of zeros.
template <typename Number>
void fill_rows(const Population& p, const Source* sources, int64_t number, Number* to) {
    for (int64_t first = 0; first < p.channels; first += GROUP) {
        const int64_t past = first + group_at(p, first);
        for (int64_t i = 0; i < number; ++i) {
            const Source& s = sources[i];
            const int64_t taps = s.kernel_height * s.kernel_width;
            if (s.identity) continue;
            for (int64_t tap = 0; tap < taps; ++tap)
                for (int64_t c = 0; c < units(s.channels) * 32; ++c)
                    for (int64_t o = first; o < past; ++o)
                        *to++ = c < s.channels ? Number(s.weights[(o * s.channels + c) * taps + tap]) : 0;
        }
        for (int64_t o = first; o < past; ++o) *to++ = 0;
    }
}

void prepare(const Population& p, const Source* sources, int64_t number, void* to) {
    p.wide ? fill_rows(p, sources, number, (int32_t*)to)
           : fill_rows(p, sources, number, (int16_t*)to);
}

void work(const Population& p, const Source* sources, int64_t number, const double* rates,
          double* amounts) {
    const double places = double(p.height * p.width), groups = p.channels / double(GROUP);
    double words = 0, spikes = 0;
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        if (s.identity) continue;
        const double taps = double(s.kernel_height * s.kernel_width * p.planes);
        words += taps * units(s.channels);
        spikes += taps * s.channels * rates[i];
    }
    amounts[0] = places * words;
    amounts[1] = places * groups * spikes * (p.wide ? 2 : 1);
    amounts[2] = places * groups;
}

void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    const int64_t rows = all_rows(sources, number);
    const int64_t length = blocks(p.height * p.width), bands = bands_of(p.images, length, threads);
    const auto desk_for = [&] { return Desk(p, sources, number, rows); };
    const auto runner = multilevel::needed(p) ? (p.wide ? run_image<true, true> : run_image<false, true>)
                                           : (p.wide ? run_image<true, false> : run_image<false, false>);
    share(threads, p.images * bands, desk_for, [&](int64_t task, Desk& desk) {
        const int64_t image = task / bands, band = task % bands;
        runner(
            p, sources, number, rows, p.tables, image, length * band / bands,
            length * (band + 1) / bands, desk);
    });
}

constexpr Kernel KERNEL{
    "event-rows", AVX512_SET, BY_POSITION, EVERYTHING & ~(PRODUCTS | GROUPS | CURRENTS | PEAKS | ANY_SHAPE),
    {"word of spikes", "row of weights", "group of neurons"},
    refused, table_bytes, prepare, work, run,
};

}  // namespace event_rows

#endif
