// Spikes on their way to tiles (amx.h): as bytes, all that an output sees through a row of the kernel
// side by side, and what 16 neighbouring outputs see at equal distances, whatever stride, padding and
// dilation are: those are the rows of a tile. Where rows of outputs are whole tiles wide, rows of the
// source lie as they are (`flat`), and what neighbours see overlaps; elsewhere each output has its own.

#pragma once

#include "amx_unpack.h"
#include "kernel.h"

namespace amx {

constexpr int64_t FEW = 16;  // positions, of which what all rows of the kernel see lies side by side: then
                              // time steps follow each other at the same distance, and fill tiles

INLINE bool is_small(const Population& p) { return p.height * p.width <= FEW; }

// Bytes that products sum up at once: `offset` bytes from where what an output sees begins; the first of
// them is number `first` of the taps of the kernel from `tap` on, each as long as there are channels.
struct Chunk {
    int64_t offset, tap, first;
};

// The lines to which each row of a source is copied.
struct Targets {
    Vector<int64_t> begins{0}, offsets;

    void add(int64_t offset) { offsets.push_back(offset); }
    void end() { begins.push_back(int64_t(offsets.size())); }
};

// What neighbouring outputs see side by side of a row of the source: so many bytes each, of which the
// first output's begin at `from` in the row, and go to `to` in its line.
struct Piece {
    int64_t from, to, bytes, outputs;
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
// Flat: [steps, lines, columns with the padding, channels], where a line is a row of the source.
struct Spread {
    const Source* source;
    bool joined;              // all rows of the kernel side by side
    bool flat;
    int64_t pitch, line;      // bytes from output to output, and of a line
    int64_t row;              // bytes from a row of outputs to the next
    int64_t beyond;           // lines that outputs see beyond their own
    int64_t lines = 0;        // of a phase
    Vector<int64_t> phases;   // those that are seen
    Vector<Chunk> chunks;
    Targets rows;             // as if the first row of outputs were the band's
    Vector<Piece> pieces;     // of every row

    Spread(const Source& s, const Population& p) : source(&s), joined(is_small(p)) {
        flat = !joined && p.width % ROWS == 0 && (s.dilation_width == 1 || s.kernel_width == 1);
        const int64_t reach = (s.kernel_height - 1) * s.dilation_height;
        if (flat) {
            pitch = s.stride_width * s.channels;
            line = ((p.width - 1) * s.stride_width + s.kernel_width) * s.channels;
            row = s.stride_height * line, beyond = reach, phases = {0};
            return;
        }
        pitch = filled_up((joined ? s.kernel_height : 1) * s.kernel_width * s.channels);
        row = line = p.width * pitch;
        beyond = joined ? 0 : reach / s.stride_height;
        for (int64_t ky = 0; ky < (joined ? 1 : s.kernel_height); ++ky) {
            const int64_t phase = ky * s.dilation_height % s.stride_height;
            if (std::find(phases.begin(), phases.end(), phase) == phases.end())
                phases.push_back(phase);
        }
    }

    // The lines, of a phase, that so many rows of outputs see.
    int64_t lines_of(int64_t own) const {
        return (flat ? (own - 1) * source->stride_height + 1 : own) + beyond;
    }
    // The rows of the source from a line to the next one of its phase.
    int64_t stride() const { return flat ? 1 : source->stride_height; }

    // The bytes of a step in which so many rows of outputs are.
    int64_t size(int64_t own) const { return filled_up(int64_t(phases.size()) * lines_of(own) * line); }

    // The rows of the source that so many rows of outputs see at most.
    int64_t seen(int64_t own) const {
        return joined ? source->height : std::min(source->height, lines_of(own) * stride());
    }

    // Where in a band begins what the output at a position of a population so wide sees.
    int64_t place(const Band& band, int64_t position, int64_t width) const {
        return (position / width - band.first) * row + position % width * pitch;
    }

    // Decides where everything lies, for bands of up to so many rows of outputs.
    void lay_out(const Population& p, int64_t own) {
        const Source& s = *source;
        lines = lines_of(own);
        const int64_t taps = (joined ? s.kernel_height : 1) * s.kernel_width;
        for (int64_t ky = 0; ky < (joined ? 1 : s.kernel_height); ++ky) {
            const int64_t below = ky * s.dilation_height;
            const int64_t number = flat ? below : phase_of(below) * lines + below / s.stride_height;
            const int64_t start = number * line;
            for (int64_t first = 0; first < taps * s.channels; first += CHUNK)
                chunks.push_back({start + first, ky * s.kernel_width, first});
        }
        for (int64_t h = 0; !flat && h < s.height; ++h) add_targets(p, h + s.padding_height);
        if (!flat) add_pieces(p);
    }

    // The rows of the source that lie in a band: all, where outputs are few.
    int64_t first_row(const Band& band) const { return joined ? 0 : within(top(band)); }
    int64_t past_row(const Band& band) const {
        return joined ? source->height : within(top(band) + lines_of(band.rows) * stride());
    }
    // The row of the source, or of its padding, that a band begins with.
    int64_t top(const Band& band) const {
        return band.first * source->stride_height - source->padding_height;
    }

private:
    // Which of the phases a row, counted from the padding, belongs to; -1: to none that is seen.
    int64_t phase_of(int64_t h) const {
        const auto found = std::find(phases.begin(), phases.end(), h % source->stride_height);
        return found == phases.end() ? -1 : found - phases.begin();
    }
    int64_t within(int64_t h) const { return std::max<int64_t>(0, std::min(h, source->height)); }
    void add_targets(const Population& p, int64_t h) {
        const Source& s = *source;
        for (int64_t ky = 0; joined && ky < s.kernel_height; ++ky) {
            const int64_t from = h - ky * s.dilation_height, y = from / s.stride_height;
            if (from >= 0 && from % s.stride_height == 0 && y < p.height)
                rows.add(y * line + ky * s.kernel_width * s.channels);
        }
        const int64_t phase = joined || h < 0 ? -1 : phase_of(h);
        if (phase >= 0) rows.add((phase * lines + h / s.stride_height) * line);
        rows.end();
    }
    // Outputs that see the whole row of the kernel, if it is no wider than its taps, are copied to at
    // once; what follows their taps in a line counts nothing. Others tap by tap: what these see of the
    // padding is 0.
    void add_pieces(const Population& p) {
        const Source& s = *source;
        const int64_t taps = s.kernel_width;
        int64_t begin = 0, past = 0;
        if (taps == 1 || s.dilation_width == 1) {
            begin = outputs_until(0, p.width, [&](int64_t x) { return sees(x, 0); });
            past = outputs_until(begin, p.width,
                                 [&](int64_t x) { return !sees(x, 0) || !sees(x, taps - 1); });
            add_piece(begin, past, 0, joined ? taps * s.channels : pitch);
        }
        for (int64_t k = 0; k < taps; ++k)
            for (const auto& [first, last] : {std::pair{int64_t{0}, begin}, std::pair{past, p.width}}) {
                const int64_t from = outputs_until(first, last, [&](int64_t x) { return sees(x, k); });
                const int64_t to = outputs_until(from, last, [&](int64_t x) { return !sees(x, k); });
                add_piece(from, to, k, s.channels);
            }
    }
    template <typename Ends>
    static int64_t outputs_until(int64_t x, int64_t last, const Ends& ends) {
        while (x < last && !ends(x)) ++x;
        return x;
    }
    int64_t column(int64_t x, int64_t tap) const {
        return x * source->stride_width + tap * source->dilation_width - source->padding_width;
    }
    bool sees(int64_t x, int64_t tap) const {
        return column(x, tap) >= 0 && column(x, tap) < source->width;
    }
    void add_piece(int64_t x, int64_t past, int64_t tap, int64_t bytes) {
        const int64_t channels = source->channels;
        if (x < past)
            pieces.push_back({column(x, tap) * channels, x * pitch + tap * channels, bytes, past - x});
    }
};

// Lines that lie beyond the source: other bands may have written to them.
INLINE void clear_lines(const Spread& spread, const Band& band, uint8_t* to) {
    const Source& s = *spread.source;
    if (spread.joined) return;
    for (size_t i = 0; i < spread.phases.size(); ++i)
        for (int64_t k = 0; k < spread.lines_of(band.rows); ++k) {
            const int64_t h = spread.top(band) + k * spread.stride() + spread.phases[i];
            if (h < 0 || h >= s.height)
                std::memset(to + (int64_t(i) * spread.lines + k) * spread.line, 0, spread.line);
        }
}

// Of a source that bands of so many rows of outputs see: the bytes of the blocks they reach into.
INLINE int64_t map_bytes(const Spread& spread, int64_t own) {
    return (blocks(spread.seen(own) * spread.source->width) + 1) * BLOCK * spread.source->channels;
}

// The memory that `fill` needs for so many steps; more is read than is needed.
INLINE int64_t desk_bytes(const Spread& spread, int64_t own, int64_t steps) {
    return UNPACKED * plane_bytes(spread.source->channels) + steps * map_bytes(spread, own) + CHUNK;
}

// Copies rows of the source, from `first` to before `past`, to where outputs see them in a step of a band.
// from: [positions, channels].
INLINE void copy_rows(const Spread& spread, const Band& band, int64_t first, int64_t past,
                      const uint8_t* from, uint8_t* to) {
    const Source& s = *spread.source;
    const int64_t row = s.width * s.channels, padding = s.padding_width * s.channels;
    if (spread.flat) {
        const int64_t left = std::max<int64_t>(0, padding), skipped = std::max<int64_t>(0, -padding);
        const int64_t bytes = std::max<int64_t>(0, std::min(row - skipped, spread.line - left));
        to += (first - spread.top(band)) * spread.line + left, from += skipped;
        for (int64_t h = first; h < past; ++h, from += row, to += spread.line) std::memcpy(to, from, bytes);
        return;
    }
    if (!spread.joined) to -= band.first * spread.line;
    for (int64_t h = first; h < past; ++h, from += row)
        for (int64_t y = spread.rows.begins[h]; y < spread.rows.begins[h + 1]; ++y)
            for (const Piece& piece : spread.pieces)
                copy_any(to + spread.rows.offsets[y] + piece.to, spread.pitch, from + piece.from,
                         s.stride_width * s.channels, piece.bytes, piece.outputs);
}

// Fills a band with the spikes of an image at some steps; what surrounds them is 0 already.
template <typename V>
INLINE void fill(const Spread& spread, const Population& p, int64_t image, int64_t start, int64_t steps,
                 const Band& band, uint8_t* desk) {
    const Source& s = *spread.source;
    const int64_t channels = s.channels, first = spread.first_row(band), past = spread.past_row(band);
    const int64_t begin = first * s.width / BLOCK, number = blocks(past * s.width) - begin;
    const int64_t block = BLOCK * channels, size = number * block;
    uint8_t* const map = desk + UNPACKED * plane_bytes(channels);  // [steps, positions, channels]
    for (int64_t b = 0; past > first && b < number; ++b) {
        const int64_t own = image * blocks(s.height * s.width) + begin + b;
        const uint32_t* words = s.spikes + (own * p.steps + start) * p.planes * channels;
        for (int64_t t = 0; t < steps; ++t, words += p.planes * channels)
            unpack<V>(p, words, channels, desk, map + t * size + b * block);
    }
    const uint8_t* from = map + (first * s.width - begin * BLOCK) * channels;
    for (int64_t t = 0; t < steps; ++t, from += size) {
        clear_lines(spread, band, band.at(t));
        if (past > first) copy_rows(spread, band, first, past, from, band.at(t));
    }
}

}  // namespace amx
