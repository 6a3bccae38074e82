// Weights as the kernel of tiles (amx.h) reads them: in two planes of bytes, or in one where they fit.

#pragma once

#include "amx_spread.h"
#include "madd.h"

namespace amx {

using madd::Outputs;

constexpr int64_t HEADER = CHUNK;   // bytes before the weights
constexpr int64_t MOST_PLANES = 2;  // of weights

// The planes of a population's weights.
INLINE int64_t planes_of(const Population& p, const Source* sources, int64_t number) {
    for (const Source* s = sources; s < sources + number; ++s) {
        if (s->identity) continue;
        const int64_t weights = p.channels * s->channels * s->kernel_height * s->kernel_width;
        for (int64_t k = 0; k < weights; ++k)
            if (s->weights[k] != int8_t(s->weights[k])) return 2;
    }
    return 1;
}

// The chunks of what an output sees of a source.
INLINE int64_t chunks_of(const Source& s, const Population& p) {
    if (s.identity) return 0;
    const int64_t row = s.kernel_width * s.channels;
    return is_small(p) ? filled_up(s.kernel_height * row) / CHUNK
                       : s.kernel_height * (filled_up(row) / CHUNK);
}

// The tiles of so many channels.
INLINE int64_t tiles_of(int64_t channels) { return (channels + ROWS - 1) / ROWS; }

int64_t refused(const Population& p, const Source* sources, int64_t number) {
    int64_t found = madd::refused(p, nullptr, 0);  // neurons that are not advanced
    for (const Source* s = sources; s < sources + number; ++s) {
        if (s->identity) continue;
        const int64_t weights = p.channels * (s->channels / s->groups) * s->kernel_height * s->kernel_width;
        for (int64_t k = 0; k < weights; ++k)
            if (s->weights[k] != int16_t(s->weights[k])) return found | ANY_SUMS;
    }
    return found;
}

int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    int64_t chunks = 0;
    for (const Source* s = sources; s < sources + number; ++s) chunks += chunks_of(*s, p);
    return HEADER + tiles_of(p.channels) * chunks * MOST_PLANES * TILE;
}

// Writes the tile of one chunk and plane of the weights of 16 outputs from `channel` on: a weight is
// 256 times its signed high byte and its unsigned low one, or what its only byte holds.
INLINE void write_tile(const Population& p, const Spread& spread, const Chunk& chunk, int64_t channel,
                       int64_t shift, uint8_t* to) {
    const Source& s = *spread.source;
    const int64_t taps = s.kernel_height * s.kernel_width;
    const int64_t together = spread.joined ? taps : s.kernel_width;
    for (int64_t k = 0; k < CHUNK; ++k)
        for (int64_t n = 0; n < ROWS; ++n) {
            const int64_t tap = (chunk.first + k) / s.channels, inner = (chunk.first + k) % s.channels;
            const bool some = channel + n < p.channels && tap < together;
            const int64_t own = ((channel + n) * s.channels + inner) * taps + chunk.tap + tap;
            to[k / 4 * CHUNK + 4 * n + k % 4] = some ? uint8_t(s.weights[own] >> shift) : uint8_t{0};
        }
}

// Those of 32 outputs, in two planes or in one. Returns where they end.
INLINE uint8_t* write_planes(const Population& p, const Spread& spread, const Outputs& outputs, uint8_t* to) {
    for (int64_t c = outputs.channel; c < outputs.channel + outputs.count; c += ROWS)
        for (const Chunk& chunk : spread.chunks)
            for (const int64_t shift : {8, 0}) write_tile(p, spread, chunk, c, shift, to), to += TILE;
    return to;
}

INLINE uint8_t* write_plane(const Population& p, const Spread& spread, const Outputs& outputs, uint8_t* to) {
    for (const Chunk& chunk : spread.chunks)
        for (int64_t c = outputs.channel; c < outputs.channel + outputs.count; c += ROWS, to += TILE)
            write_tile(p, spread, chunk, c, 0, to);
    return to;
}

// Writes the number of planes, and for every source the tiles of weights as `multiply` reads them.
void prepare(const Population& p, const Source* sources, int64_t number, void* tables) {
    const int64_t planes = planes_of(p, sources, number);
    uint8_t* to = (uint8_t*)tables;
    std::memset(to, 0, table_bytes(p, sources, number));
    *to = uint8_t(planes);
    to += HEADER;
    const Vector<Outputs> all_outputs = madd::outputs_of<Lanes>(p, nullptr, 0);
    for (const Source* s = sources; s < sources + number; ++s) {
        if (s->identity) continue;
        Spread spread(*s, p);
        spread.lay_out(p, p.height);
        for (const Outputs& outputs : all_outputs)
            to = planes == 2 ? write_planes(p, spread, outputs, to) : write_plane(p, spread, outputs, to);
    }
}

}  // namespace amx
