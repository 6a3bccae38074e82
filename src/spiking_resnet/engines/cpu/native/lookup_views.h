// How the lookup kernel for AVX-512 reads the spikes of its sources: as numbers of six channels at a
// position, and as what a block of outputs sees of them.

#pragma once

#include "lookup_tables.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <array>
#include <map>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,gfni,bmi,bmi2,popcnt")))
#define AVX512_LAMBDA __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,gfni,bmi,bmi2,popcnt")))
#define AVX512_INLINE_MEMBER __attribute__((always_inline)) AVX512 inline
#define AVX512_INLINE static inline __attribute__((always_inline)) AVX512

namespace lookup_avx512 {

using lookup::Header;
using lookup::part_of;

constexpr int64_t CHUNK = 8;     // time steps (or planes of them) summed up at once
constexpr int64_t GROUP = 6;     // channels looked up at once
constexpr int64_t ENTRIES = 64;  // sums in a table
constexpr int64_t UNITS = 8;     // units in turn, where keys are more than fit one part
constexpr int64_t SLACK = 64;    // entries before and after each plane of numbers, read and ignored
constexpr uint32_t EVEN = 0x55555555;

struct Format {
    using Quotient = int8_t;
    static constexpr int64_t GROUP = lookup_avx512::GROUP, ENTRIES = lookup_avx512::ENTRIES;
    static constexpr int64_t KEYS = 36, WIDE_KEYS = 48;  // summed up at once at most
    static constexpr int64_t PARTS = INT64_MAX;

    // One channel where a source's groups read different channels for each output.
    static int64_t unit(const Population& p, const Source* sources, int64_t number) {
        for (int64_t i = 0; i < number; ++i) {
            const Source& s = sources[i];
            if (!s.identity && s.groups > 1 && p.channels / s.groups % 2) return 1;
        }
        return 2;
    }
};

using Keys = lookup::Keys<Format>;
using Units = lookup::Units<Format>;

// Positions of a source that a block of outputs sees through one position of the kernel: lanes
// `mask` of a stretch from `offset` on, each lane `index[lane]` further.
struct Piece {
    int64_t offset;
    uint32_t mask;
    bool stepping;  // whether `index` is needed: else lanes are neighbours
    alignas(64) uint16_t index[BLOCK];
};

// How sources of one geometry are read.
struct View {
    Source source;               // its geometry alone
    Keys keys;
    int64_t groups, pitch;       // keys' planes of a group's channels, left over ones included
    Vector<int64_t> first;  // [taps * blocks + 1]: where each one's pieces begin
    Vector<Piece> pieces;
    // What a block sees through one row of the kernel another block sees through another: row r at
    // block b is stretch b * advance + r * descent. slots: so many stretches are kept.
    int64_t advance = 0, descent = 0, slots;

    View(const Source& s, const Population& p)
        : source(s),
          keys(s),
          groups(keys.groups + (keys.left > 0)),
          pitch(blocks(s.height * s.width) * BLOCK + 2 * SLACK),
          slots(keys.rows) {
        if (s.identity) return;
        for (int64_t ky = 0; ky < s.kernel_height; ++ky)
            for (int64_t kx = 0; kx < s.kernel_width; ++kx)
                for (int64_t b = 0; b < blocks(p.height * p.width); ++b) see(s, p, ky, kx, b);
        first.push_back(pieces.size());
        const bool even = BLOCK % p.width == 0 || p.width % BLOCK == 0;
        if (!even || s.groups > 1 || keys.rows == 1 || s.stride_height > 1 || s.stride_width > 1)
            return;
        const int64_t unit = std::min(p.width, BLOCK);
        advance = BLOCK / unit;
        descent = s.dilation_height * p.width / unit;
        slots = (keys.rows - 1) * descent + 1;
    }

    // The numbers in a chunk's panel.
    int64_t panel() const { return slots * keys.each * CHUNK * BLOCK; }

    void see(const Source& s, const Population& p, int64_t ky, int64_t kx, int64_t block) {
        first.push_back(pieces.size());
        Piece whole{0, 0, false, {}};  // as long as all lanes are neighbours
        Vector<Piece> rows;       // else a piece for each stretch of a row
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

// The view of a source: making one takes longer than a small layer, so this thread keeps some. Valid
// as long as the job for which it is asked.
const View& view_of(const Source& s, const Population& p, size_t sources) {
    using Geometry = std::array<int64_t, 16>;
    using Entry = std::pair<const Geometry, View>;
    static thread_local std::map<Geometry, View, std::less<Geometry>, Allocator<Entry>> kept;
    constexpr size_t MOST = 256;
    if (sources == 0 && kept.size() > MOST) kept.clear();  // none is in use yet
    const Geometry geometry{s.height, s.width, s.channels, s.kernel_height, s.kernel_width,
                            s.stride_height, s.stride_width, s.padding_height, s.padding_width,
                            s.dilation_height, s.dilation_width, s.groups, s.identity,
                            p.height, p.width, p.channels};
    const auto found = kept.find(geometry);
    return found != kept.end() ? found->second : kept.try_emplace(geometry, s, p).first->second;
}

// The numbers that `count` (at most six) channels' spikes in a block make, for its 32 positions. Bytes
// of eight positions are gathered from all channels and transposed as a matrix of bits.
AVX512_INLINE __m512i numbers_of(const uint32_t* words, int64_t count) {
    const __m256i spikes = _mm256_maskz_loadu_epi32(__mmask8((1 << count) - 1), words);
    const __m256i gather = _mm256_set_epi8(3, 7, 11, 15, 19, 23, 27, 31, 2, 6, 10, 14, 18, 22, 26, 30,
                                           1, 5, 9, 13, 17, 21, 25, 29, 0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i bytes = _mm256_permutexvar_epi8(gather, spikes);
    const __m256i unit = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    return _mm512_cvtepu8_epi16(_mm256_gf2p8affine_epi64_epi8(unit, bytes, 0));
}

// The numbers of `steps` time steps from `start` on, for all channels of one image. Planes of spikes of
// several bits count as steps.
AVX512 static void number_source(const View& view, const Source& s, const Population& p, int64_t image,
                                 int64_t start, int64_t steps, uint16_t* numbers) {
    const int64_t length = blocks(s.height * s.width), inner = s.channels / s.groups;
    for (int64_t b = 0; b < length; ++b) {
        const uint32_t* word = s.spikes + ((image * length + b) * p.steps * p.planes + start) * s.channels;
        uint16_t* to = numbers + SLACK + b * BLOCK;
        for (int64_t t = 0; t < steps; ++t)
            for (int64_t group = 0; group < s.groups; ++group, word += inner)
                for (int64_t first = 0; first < inner; first += GROUP, to += view.pitch)
                    _mm512_storeu_si512(
                        to, numbers_of(word + first, std::min(inner - first, GROUP)));
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

// Keeps a key's eight planes in the panel. In the wide form an even step's bytes are its number and the
// next step's.
template <bool WIDE>
AVX512_INLINE void keep(__m512i (&key)[CHUNK], uint16_t* panel) {
    for (int t = 0; t < CHUNK; ++t) {
        if (WIDE && t % 2 == 0)
            key[t] = _mm512_or_si512(key[t], _mm512_slli_epi16(key[t + 1], 8));
        _mm512_store_si512(panel + t * BLOCK, key[t]);
    }
}

// Copies to the panel what one block of outputs sees of one group of a source's channels through one
// row of the kernel. (All steps of a chunk, if there are fewer too: nobody looks at what comes of
// the rest.)
template <bool WIDE>
AVX512 static void fill_panel(const View& view, const uint16_t* numbers, int64_t group, int64_t row,
                              int64_t block, int64_t length, uint16_t* panel) {
    const Keys& keys = view.keys;
    const int64_t stride = view.groups * view.source.groups * view.pitch;  // to the next step
    numbers += group * view.groups * view.pitch + SLACK;
    const Piece* pieces = view.pieces.data();
    const int64_t* first = view.first.data() + row * keys.taps * length + block;
    __m512i found[CHUNK];
    for (int64_t tap = 0; tap < keys.taps; ++tap)
        for (int64_t g = 0; g < keys.groups; ++g, panel += CHUNK * BLOCK) {
            see(pieces + first[tap * length], pieces + first[tap * length + 1],
                numbers + g * view.pitch, stride, found);
            keep<WIDE>(found, panel);
        }
    // Channels left over: one key takes six bits of the row that they make over all positions.
    const int64_t left = keys.left, last = keys.taps * left;
    for (int64_t bit = 0; bit < last; bit += GROUP, panel += CHUNK * BLOCK) {
        __m512i key[CHUNK];
        for (int t = 0; t < CHUNK; ++t) key[t] = _mm512_setzero_si512();
        for (int64_t tap = bit / left; tap < keys.taps && tap * left < bit + GROUP; ++tap) {
            see(pieces + first[tap * length], pieces + first[tap * length + 1],
                numbers + keys.groups * view.pitch, stride, found);
            const int64_t shift = tap * left - bit;
            const __m512i count = _mm512_set1_epi16(int16_t(shift < 0 ? -shift : shift));
            for (int t = 0; t < CHUNK; ++t)
                key[t] = _mm512_or_si512(key[t], shift < 0 ? _mm512_srlv_epi16(found[t], count)
                                                           : _mm512_sllv_epi16(found[t], count));
        }
        for (int t = 0; t < CHUNK; ++t)
            key[t] = _mm512_and_si512(key[t], _mm512_set1_epi16(ENTRIES - 1));
        keep<WIDE>(key, panel);
    }
}

}  // namespace lookup_avx512

#endif
