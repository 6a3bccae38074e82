// Bits on their way to bytes, for tiles (amx_spread.h).

#pragma once

#include "amx_tiles.h"
#include "madd_advance.h"

namespace amx {

INLINE int64_t filled_up(int64_t bytes) { return (bytes + CHUNK - 1) / CHUNK * CHUNK; }

// Copies bytes, so many at a time.
template <int UNIT>
INLINE void copy(uint8_t* to, const uint8_t* from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += UNIT) std::memcpy(to + i, from + i, UNIT);
}

// Copies `number` times so many bytes, the beginnings of which are so far apart.
template <int UNIT>
INLINE void copy_all(uint8_t* to, int64_t pitch, const uint8_t* from, int64_t stride, int64_t bytes,
                     int64_t number) {
    for (int64_t i = 0; i < number; ++i, to += pitch, from += stride) copy<UNIT>(to, from, bytes);
}

INLINE void copy_any(uint8_t* to, int64_t pitch, const uint8_t* from, int64_t stride, int64_t bytes,
                     int64_t number) {
    if (bytes == 64)  // the usual case, without an inner loop
        copy_all<64>(to, pitch, from, stride, 64, number);
    else if (bytes % 64 == 0)
        copy_all<64>(to, pitch, from, stride, bytes, number);
    else if (bytes % 16 == 0)
        copy_all<16>(to, pitch, from, stride, bytes, number);
    else
        copy_all<1>(to, pitch, from, stride, bytes, number);
}

// The bytes of a block's words in one plane, of positions 0 … 7, 8 … 15, 16 … 23, 24 … 31, each so often:
// [4, repeats, channels].
template <typename V>
INLINE void split(const uint32_t* words, int64_t channels, int64_t repeats, uint8_t* to) {
    for (int shift = 0; shift < BLOCK; shift += 8, to += repeats * channels) {
        int64_t c = 0;
        for (; c + V::LANES <= channels; c += V::LANES) {
            const auto bytes = __builtin_convertvector(MADD_AT(V, words + c) >> shift, typename V::Bytes);
            for (int64_t r = 0; r < repeats; ++r) std::memcpy(to + r * channels + c, &bytes, sizeof bytes);
        }
        for (; c < channels; ++c)
            for (int64_t r = 0; r < repeats; ++r) to[r * channels + c] = uint8_t(words[c] >> shift);
    }
}

// The planes of spikes: SIZES of what they count, and one of signs or none. Usual ones are known when this
// is compiled; 0: those of the population.
template <int SIZES, bool SIGNED>
struct Coded {
    INLINE int sizes(const Population& p) { return SIZES ? SIZES : int(p.planes - (p.minus != 0)); }
    INLINE bool is_signed(const Population& p) { return SIZES ? SIGNED : p.minus != 0; }
    INLINE bool fits(const Population& p) { return p.planes == SIZES + SIGNED && SIGNED == (p.minus != 0); }
};
using Binary = Coded<1, false>;
using Usual = Coded<madd::USUAL_SIZES, true>;
using Any = Coded<0, false>;
constexpr int USUAL_PLANES = madd::USUAL_SIZES + 1;

// Writes the spikes that stand in some bits of the bytes of all planes, which are `length` apart.
template <typename V, typename Code>
INLINE void write_spikes(const Population& p, const uint8_t* bytes, int64_t length,
                         const typename V::Words& shifts, uint8_t* to) {
    using Words = typename V::Words;
    const int sizes = Code::sizes(p);
    Words found{};
    for (int k = sizes - 1; k >= 0; --k)
        found = found << 1 | (*(const Words*)(bytes + k * length) >> shifts & 0x01010101u);
    if (Code::is_signed(p)) {  // with all bits above it
        const Words minus = *(const Words*)(bytes + sizes * length) >> shifts & 0x01010101u;
        found |= (minus << 8) - (minus << sizes);
    }
    *(Words*)to = found;
}

// Of each lane, which of the positions it is of: of[n], where n lanes hold one; of[0]: all of one.
struct Places {
    uint32_t of[ROWS][ROWS] = {};
    constexpr Places() {
        for (uint32_t n = 1; n < ROWS; ++n)
            for (uint32_t lane = 0; lane < ROWS; ++lane) of[n][lane] = lane / n;
    }
};
constexpr Places PLACES;

template <typename V>
constexpr int64_t BYTES = V::LANES * int64_t(sizeof(int32_t));

// What `unpack` needs memory for: so many times the bytes of a block's words in one plane, those of all
// planes, and of each of 8 positions.
constexpr int64_t UNPACKED = madd::MOST_BITS + 8;
INLINE int64_t plane_bytes(int64_t channels) { return 4 * filled_up(channels); }

// Whether a vector holds all channels of some positions, or some channels of one.
template <typename V>
INLINE bool fills_vectors(int64_t channels) {
    const bool several = BYTES<V> % channels == 0 && channels % 4 == 0 && 8 * channels >= BYTES<V>;
    return several || channels % BYTES<V> == 0;
}

// The spikes of a block of a source at one step as bytes, [32, channels], where these fill vectors.
template <typename V, typename Code>
INLINE void unpack_vectors(const Population& p, const uint32_t* words, int64_t channels, uint8_t* desk,
                           uint8_t* to) {
    using Words = typename V::Words;
    const int64_t side = std::max(channels, BYTES<V>), repeats = side / channels;
    const int64_t length = plane_bytes(channels);
    for (int64_t k = 0; k < Code::sizes(p) + Code::is_signed(p); ++k)
        split<V>(words + k * channels, channels, repeats, desk + k * length);
    Words first;  // of the positions that a vector holds, each one's place
    std::memcpy(&first, PLACES.of[repeats == 1 ? 0 : V::LANES / repeats], sizeof first);
    for (int64_t i = 0; i < 4; ++i, desk += side)
        for (int64_t j = 0; j < 8; j += repeats)
            for (int64_t c = 0; c < side; c += BYTES<V>, to += BYTES<V>)
                write_spikes<V, Code>(p, desk + c, length, first + uint32_t(j), to);
}

// The same where they do not.
template <typename V, typename Code>
INLINE void unpack_rest(const Population& p, const uint32_t* words, int64_t channels, uint8_t* desk,
                        uint8_t* to) {
    using Words = typename V::Words;
    const int64_t length = plane_bytes(channels);
    uint8_t* const found = desk + madd::MOST_BITS * length;  // [8, 4, channels]: position 8 i + j at [j, i]
    for (int64_t k = 0; k < Code::sizes(p) + Code::is_signed(p); ++k)
        split<V>(words + k * channels, channels, 1, desk + k * length);
    for (int64_t c = 0; c < 4 * channels; c += BYTES<V>)
        for (int64_t j = 0; j < 8; ++j)
            write_spikes<V, Code>(p, desk + c, length, Words{} + uint32_t(j), found + j * length + c);
    for (int64_t i = 0; i < 4; ++i)
        copy_any(to + 8 * i * channels, channels, found + i * channels, length, channels, 8);
}

template <typename V, typename Code>
INLINE void unpack_coded(const Population& p, const uint32_t* words, int64_t channels, uint8_t* desk,
                       uint8_t* to) {
    if (fills_vectors<V>(channels))
        unpack_vectors<V, Code>(p, words, channels, desk, to);
    else
        unpack_rest<V, Code>(p, words, channels, desk, to);
}

// The same of any. desk: memory.
template <typename V>
INLINE void unpack(const Population& p, const uint32_t* words, int64_t channels, uint8_t* desk,
                   uint8_t* to) {
    if (Binary::fits(p))
        unpack_coded<V, Binary>(p, words, channels, desk, to);
    else if (Usual::fits(p))
        unpack_coded<V, Usual>(p, words, channels, desk, to);
    else
        unpack_coded<V, Any>(p, words, channels, desk, to);
}

}  // namespace amx
