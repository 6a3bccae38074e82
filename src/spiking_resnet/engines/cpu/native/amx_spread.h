// Spikes on their way to tiles (amx.h): as bytes, all that an output sees through a row of the kernel
// side by side. So the rows of a tile, what neighbouring outputs see, lie at equal distances whatever
// stride, padding and dilation are.

#pragma once

#include "amx_tiles.h"
#include "kernel.h"
#include "madd_unpack.h"

namespace amx {

constexpr int64_t FEW = 16;  // positions, of which what all rows of the kernel see lies side by side: then
                              // time steps follow each other at the same distance, and fill tiles

INLINE bool is_small(const Population& p) { return p.height * p.width <= FEW; }

INLINE int64_t filled_up(int64_t bytes) { return (bytes + CHUNK - 1) / CHUNK * CHUNK; }

// Bytes that products sum up at once: `offset` bytes from where what an output sees begins; the first of
// them is number `first` of the taps of the kernel from `tap` on, each as long as there are channels.
struct Chunk {
    int64_t offset, tap, first;
};

// Where the numbers of each row, or column, of a source are written.
struct Targets {
    Vector<int64_t> begins{0}, offsets;

    void add(int64_t offset) { offsets.push_back(offset); }
    void end() { begins.push_back(int64_t(offsets.size())); }
};

// What some rows of outputs, from `first` on, see of a source at some steps.
struct Band {
    int64_t first, rows;
    uint8_t* bytes;
    int64_t size;  // bytes in a step

    uint8_t* at(int64_t step) const { return bytes + step * size; }
};

// How a source is spread: [steps, phases, lines, outputs of a row, pitch]. A line is what a row of outputs
// sees through a row of the kernel, which it shares with other rows of outputs: of row r of the source,
// with the padding, it is line r / stride of phase r % stride. Of few positions: [steps, outputs, pitch].
struct Spread {
    const Source* source;
    bool joined;              // all rows of the kernel side by side
    int64_t pitch, line;      // bytes from output to output, and of a line
    int64_t beyond;           // lines that outputs see beyond their own
    int64_t lines = 0;        // of a phase
    Vector<int64_t> phases;   // those that are seen
    Vector<Chunk> chunks;
    Targets rows, columns;    // as if the first row of outputs were the band's

    Spread(const Source& s, const Population& p) : source(&s), joined(is_small(p)) {
        pitch = filled_up((joined ? s.kernel_height : 1) * s.kernel_width * s.channels);
        line = p.width * pitch;
        beyond = joined ? 0 : (s.kernel_height - 1) * s.dilation_height / s.stride_height;
        for (int64_t ky = 0; ky < (joined ? 1 : s.kernel_height); ++ky) {
            const int64_t phase = ky * s.dilation_height % s.stride_height;
            if (std::find(phases.begin(), phases.end(), phase) == phases.end())
                phases.push_back(phase);
        }
    }

    // The bytes of a step in which so many rows of outputs are.
    int64_t size(int64_t own) const { return int64_t(phases.size()) * (own + beyond) * line; }

    // Decides where everything lies, for bands of up to so many rows of outputs.
    void lay_out(const Population& p, int64_t own) {
        const Source& s = *source;
        lines = own + beyond;
        for (int64_t ky = 0; ky < (joined ? 1 : s.kernel_height); ++ky) {
            const int64_t row = ky * s.dilation_height;
            const int64_t start = (phase_of(row) * lines + row / s.stride_height) * line;
            for (int64_t first = 0; first < pitch; first += CHUNK)
                chunks.push_back({start + first, ky * s.kernel_width, first});
        }
        for (int64_t w = 0; w < s.width; ++w) {
            each_output(w + s.padding_width, s.kernel_width, s.stride_width, s.dilation_width, p.width,
                        [&](int64_t x, int64_t kx) { columns.add(x * pitch + kx * s.channels); });
            columns.end();
        }
        for (int64_t h = 0; h < s.height; ++h) {
            const int64_t row = h + s.padding_height, phase = row < 0 ? -1 : phase_of(row);
            if (joined)
                each_output(row, s.kernel_height, s.stride_height, s.dilation_height, p.height,
                            [&](int64_t y, int64_t ky) {
                                rows.add(y * line + ky * s.kernel_width * s.channels);
                            });
            else if (phase >= 0)
                rows.add((phase * lines + row / s.stride_height) * line);
            rows.end();
        }
    }

    // The rows of the source that lie in a band: all, where outputs are few.
    int64_t first_row(const Band& band) const { return joined ? 0 : within(band.first); }
    int64_t past_row(const Band& band) const {
        return joined ? source->height : within(band.first + band.rows + beyond);
    }

private:
    // Which of the phases a row, counted from the padding, belongs to; -1: to none that is seen.
    int64_t phase_of(int64_t row) const {
        const auto found = std::find(phases.begin(), phases.end(), row % source->stride_height);
        return found == phases.end() ? -1 : found - phases.begin();
    }
    int64_t within(int64_t line) const {
        const int64_t row = line * source->stride_height - source->padding_height;
        return std::max<int64_t>(0, std::min(row, source->height));
    }
    template <typename Visit>
    static void each_output(int64_t place, int64_t kernel, int64_t stride, int64_t dilation,
                            int64_t outputs, const Visit& visit) {
        for (int64_t k = 0; k < kernel; ++k) {
            const int64_t from = place - k * dilation;
            if (from >= 0 && from % stride == 0 && from / stride < outputs) visit(from / stride, k);
        }
    }
};

// The bytes of a block's words in one plane, of positions 0 … 7, 8 … 15, 16 … 23, 24 … 31: [4, channels].
INLINE void split(const uint32_t* words, int64_t channels, uint8_t* to) {
    for (int shift = 0; shift < BLOCK; shift += 8, to += channels)
        for (int64_t c = 0; c < channels; ++c) to[c] = uint8_t(words[c] >> shift);
}

// The spikes of a block, [8, 4, channels]: those at position 8 i + j are at [j, i]. quarters: of the words
// of all planes.
template <typename V, bool BINARY>
INLINE void to_bytes(const Population& p, const uint8_t* quarters, int64_t length, uint8_t* to) {
    using Words = typename V::Words;
    for (int64_t g = 0; g < length; g += int64_t(sizeof(Words)))
        for (int j = 0; j < 8; ++j) {
            Words found{};
            for (int k = 0; k < (BINARY ? 1 : int(p.planes)); ++k) {
                const Words bits = *(const Words*)(quarters + k * length + g) >> j & 0x01010101u;
                const bool minus = p.minus && k + 1 == p.planes;  // with all bits above it
                found |= minus ? (bits << 8) - (bits << k) : bits << k;
            }
            *(Words*)(to + j * length + g) = found;
        }
}

// Copies bytes, so many at a time.
template <int UNIT>
INLINE void copy(uint8_t* to, const uint8_t* from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += UNIT) std::memcpy(to + i, from + i, UNIT);
}

// Writes a block's spikes to all outputs that see them. bits: of the positions that are wanted.
template <int UNIT>
INLINE void spread_block(const Spread& spread, int64_t block, uint32_t bits, const uint8_t* spikes,
                         int64_t length, uint8_t* to) {
    const int64_t width = spread.source->width, channels = spread.source->channels;
    int64_t h = block * BLOCK / width, w = block * BLOCK % width;
    for (int i = 0; i < BLOCK; ++i, ++w) {
        if (w == width) w = 0, ++h;
        if (!(bits >> i & 1)) continue;
        const uint8_t* from = spikes + i % 8 * length + i / 8 * channels;
        const Targets &rows = spread.rows, &columns = spread.columns;
        for (int64_t y = rows.begins[h]; y < rows.begins[h + 1]; ++y)
            for (int64_t x = columns.begins[w]; x < columns.begins[w + 1]; ++x)
                copy<UNIT>(to + rows.offsets[y] + columns.offsets[x], from, channels);
    }
}

// Lines that lie beyond the source: other bands may have written to them.
INLINE void clear_lines(const Spread& spread, const Band& band, uint8_t* to) {
    const Source& s = *spread.source;
    if (spread.joined) return;
    for (size_t i = 0; i < spread.phases.size(); ++i)
        for (int64_t k = 0; k < band.rows + spread.beyond; ++k) {
            const int64_t row = (band.first + k) * s.stride_height + spread.phases[i] - s.padding_height;
            if (row < 0 || row >= s.height)
                std::memset(to + (int64_t(i) * spread.lines + k) * spread.line, 0, spread.line);
        }
}

// The memory that `fill` needs for one block.
INLINE int64_t desk_bytes(const Source& s) { return (madd::MOST_BITS + 8) * filled_up(4 * s.channels); }

// Fills a band with the spikes of an image at some steps; what surrounds them is 0 already.
template <typename V>
INLINE void fill(const Spread& spread, const Population& p, int64_t image, int64_t start, int64_t steps,
                 const Band& band, uint8_t* desk) {
    const Source& s = *spread.source;
    const int64_t begin = spread.first_row(band) * s.width, past = spread.past_row(band) * s.width;
    const int64_t blocks_of_all = blocks(s.height * s.width), length = filled_up(4 * s.channels);
    uint8_t* const spikes = desk + madd::MOST_BITS * length;
    for (int64_t t = 0; t < steps; ++t) clear_lines(spread, band, band.at(t));
    for (int64_t b = begin / BLOCK; b * BLOCK < past; ++b) {
        const uint32_t bits = madd::bits_between(b, begin, past);
        const uint32_t* words =
            s.spikes + ((image * blocks_of_all + b) * p.steps + start) * p.planes * s.channels;
        for (int64_t t = 0; t < steps; ++t) {
            for (int64_t k = 0; k < p.planes; ++k, words += s.channels)
                split(words, s.channels, desk + k * length);
            if (p.planes == 1 && !p.minus)
                to_bytes<V, true>(p, desk, length, spikes);
            else
                to_bytes<V, false>(p, desk, length, spikes);
            uint8_t* const to = band.at(t) - (spread.joined ? 0 : band.first * spread.line);
            if (s.channels % 64 == 0)
                spread_block<64>(spread, b, bits, spikes, length, to);
            else if (s.channels % 16 == 0)
                spread_block<16>(spread, b, bits, spikes, length, to);
            else
                spread_block<1>(spread, b, bits, spikes, length, to);
        }
    }
}

}  // namespace amx
