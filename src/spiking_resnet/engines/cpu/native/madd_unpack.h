// Spikes and numbers on their way to dense products (madd.h): as numbers of 16 bits, [rows, columns,
// channels], with room around them for the padding, so that what a position of the kernel sees lies at
// the same distance from every position of the outputs.

#pragma once

#include "kernel.h"
#include "madd_vectors.h"
#include "multilevel.h"

namespace madd {

constexpr int FEW_BITS = 2, USUAL_BITS = 5, MOST_BITS = 8;  // of a spike, with its sign

// Pairs of numbers that lie together, `offset` numbers from where an output's neighbourhood begins.
struct Run {
    int64_t offset, pairs;
};

// What some outputs see, which is to be added to their sums: where each one's numbers begin, what they
// count, and its sums [count, WIDTH].
struct Rows {
    const int16_t* const* numbers;
    const int32_t* factors;
    int32_t* sums;
    int64_t count;
};

// Rows of a source with the room around it, from `first` on, at some steps: [steps, rows, columns,
// pitch].
struct Band {
    int64_t first, rows;
    int16_t* numbers;
    int64_t size;  // numbers in a step

    int16_t* at(int64_t step) const { return numbers + step * size; }
};

// How a source is read.
struct View {
    const Source* source;
    int64_t pitch;           // numbers from a position to the next: an even number of channels
    int64_t top, left;       // rows and columns before the first
    int64_t columns, reach;  // columns with those around; rows that an output sees
    Vector<Run> runs;        // what an output sees of a group of channels, in the order of the weights
    Vector<int64_t> place;   // [positions of the source]: where each one's numbers lie
    Vector<int64_t> start;   // [positions of the population]: where what it sees begins

    View(const Source& s, const Population& p) : source(&s), pitch(s.channels + s.channels % 2) {
        top = std::max<int64_t>(s.padding_height, 0), left = std::max<int64_t>(s.padding_width, 0);
        const int64_t right = (p.width - 1) * s.stride_width + (s.kernel_width - 1) * s.dilation_width -
                              s.padding_width;
        columns = left + std::max(s.width, right + 1);
        reach = (s.kernel_height - 1) * s.dilation_height + 1 + top - s.padding_height;
        const int64_t inner = s.identity || s.groups == 1 ? pitch : s.channels / s.groups;
        const bool joined = inner == pitch && s.dilation_width == 1;
        for (int64_t ky = 0; ky < s.kernel_height; ++ky)
            for (int64_t kx = 0; kx < s.kernel_width; kx += joined ? s.kernel_width : 1) {
                const int64_t y = ky * s.dilation_height + top - s.padding_height;
                const int64_t x = kx * s.dilation_width + left - s.padding_width;
                const int64_t taps = joined ? s.kernel_width : 1;
                runs.push_back({(y * columns + x) * pitch, taps * inner / 2});
            }
        place.reserve(s.height * s.width), start.reserve(p.height * p.width);
        for (int64_t h = 0; h < s.height; ++h)
            for (int64_t w = 0; w < s.width; ++w)
                place.push_back(((h + top) * columns + w + left) * pitch);
        for (int64_t y = 0; y < p.height; ++y)
            for (int64_t x = 0; x < p.width; ++x)
                start.push_back((y * s.stride_height * columns + x * s.stride_width) * pitch);
    }

    int64_t row() const { return columns * pitch; }

    // The rows of the source that lie in a band.
    int64_t first_row(const Band& band) const { return within(band.first - top); }
    int64_t past_row(const Band& band) const { return within(band.first + band.rows - top); }

private:
    int64_t within(int64_t row) const {
        return std::max<int64_t>(0, std::min(row, source->height));
    }
};

// The words of a block's channels, the even ones and the odd ones: [bits, 2, padded]. Beyond its planes
// a number has bits like its sign.
INLINE void part(const Population& p, const uint32_t* words, int64_t channels, int64_t bits,
                 int64_t padded, uint32_t* to) {
    const int64_t pairs = channels / 2;
    for (int64_t k = 0; k < bits; ++k, to += 2 * padded) {
        uint32_t *const even = to, *const odd = to + padded;
        if (k >= p.planes && !p.minus) {
            std::fill(even, even + 2 * padded, 0);
            continue;
        }
        const uint32_t* from = words + std::min(k, p.planes - 1) * channels;
        for (int64_t i = 0; i < pairs; ++i) even[i] = from[2 * i], odd[i] = from[2 * i + 1];
        for (int64_t i = pairs; i < padded; ++i) even[i] = odd[i] = 0;
        if (channels % 2) even[pairs] = from[channels - 1];
    }
}

// How many words there are of each, filled up to whole vectors.
template <typename V>
INLINE int64_t padded_pairs(int64_t channels) {
    return (channels + V::WIDTH - 1) / V::WIDTH * V::LANES;
}

// Writes the spikes of a block at positions whose bit is set. halves: of its words; place: of its
// positions, relative to `to`. The even channel of a pair comes first.
template <typename V, int BITS>
INLINE void unpack_block(const uint32_t* halves, int64_t channels, uint32_t positions,
                         const int64_t* place, int16_t* to) {
    using Ints = typename V::Ints;
    using Words = typename V::Words;
    const int64_t padded = padded_pairs<V>(channels), pairs = (channels + 1) / 2;
    for (int64_t g = 0; g < padded; g += V::LANES, halves += V::LANES, to += V::WIDTH) {
        const int64_t bytes = std::min(pairs - g, V::LANES) * int64_t(sizeof(uint32_t));
        for (int j = 0; j < 8; ++j) {
            Words even{}, odd{};  // bytes: the spikes at positions j, j + 8, j + 16, j + 24
            for (int k = 0; k < BITS; ++k) {
                even |= (*(const Words*)(halves + 2 * k * padded) >> j & 0x01010101u) << k;
                odd |= (*(const Words*)(halves + (2 * k + 1) * padded) >> j & 0x01010101u) << k;
            }
            for (int i = j; i < BLOCK; i += 8) {
                if (!(positions >> i & 1)) continue;
                const int up = 32 - BITS - (i - j);  // to the top, and down again with their signs
                const Words one = (Words)((Ints)(even << up) >> (32 - BITS));
                const Words other = (Words)((Ints)(odd << up) >> (16 - BITS));
                const Words both = (one & 0xffffu) | (other & 0xffff0000u);
                if (bytes == sizeof both)
                    *(Words*)(to + place[i]) = both;
                else
                    std::memcpy(to + place[i], &both, bytes);
            }
        }
    }
}

// The bits of a block whose positions are from `begin` to `past` - 1.
INLINE uint32_t bits_between(int64_t block, int64_t begin, int64_t past) {
    const int64_t low = std::max<int64_t>(begin - block * BLOCK, 0);
    const int64_t high = std::min(past - block * BLOCK, BLOCK);
    const uint32_t before = high == BLOCK ? ~uint32_t{0} : (uint32_t{1} << high) - 1;
    return low >= high ? 0 : before & ~uint32_t{0} << low;
}

// Writes the spikes of an image, at so many steps from `start` on, as far as their rows are in the band.
// halves: memory for one block's words.
template <typename V, int BITS>
INLINE void unpack_spikes(const View& v, const Population& p, int64_t image, int64_t start,
                          int64_t steps, const Band& band, uint32_t* halves) {
    const Source& s = *v.source;
    const int64_t begin = v.first_row(band) * s.width, past = v.past_row(band) * s.width;
    const int64_t length = blocks(s.height * s.width);
    for (int64_t b = begin / BLOCK; b * BLOCK < past; ++b) {
        const uint32_t positions = bits_between(b, begin, past);
        const uint32_t* words =
            s.spikes + ((image * length + b) * p.steps + start) * p.planes * s.channels;
        for (int64_t t = 0; t < steps; ++t, words += p.planes * s.channels) {
            part(p, words, s.channels, BITS, padded_pairs<V>(s.channels), halves);
            unpack_block<V, BITS>(halves, s.channels, positions, v.place.data() + b * BLOCK,
                                  band.at(t) - band.first * v.row());
        }
    }
}

// The bits of the sources' spikes, with their sign.
INLINE int64_t bits_of(const Population& p) { return p.planes + !p.minus; }

template <typename V>
INLINE void unpack_any(const View& v, const Population& p, int64_t image, int64_t start,
                       int64_t steps, const Band& band, uint32_t* halves) {
    if (bits_of(p) <= FEW_BITS)
        unpack_spikes<V, FEW_BITS>(v, p, image, start, steps, band, halves);
    else if (bits_of(p) <= USUAL_BITS)
        unpack_spikes<V, USUAL_BITS>(v, p, image, start, steps, band, halves);
    else
        unpack_spikes<V, MOST_BITS>(v, p, image, start, steps, band, halves);
}

// The same for numbers.
INLINE void copy_numbers(const View& v, const Population& p, int64_t image, int64_t start,
                         int64_t steps, const Band& band) {
    const Source& s = *v.source;
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t h = v.first_row(band); h < v.past_row(band); ++h) {
            const int64_t first = ((image * p.steps + start + t) * s.height + h) * s.width;
            const int16_t* from = s.numbers + first * s.channels;
            int16_t* to = band.at(t) - band.first * v.row() + v.place[h * s.width];
            const bool joined = s.channels == v.pitch;
            const int64_t bytes = s.channels * (joined ? s.width : 1) * int64_t(sizeof(int16_t));
            for (int64_t w = 0; w < s.width; w += joined ? s.width : 1)
                std::memcpy(to + w * v.pitch, from + w * s.channels, bytes);
        }
}

// Fills a band with what there is at some steps of an image; the columns around it are 0 already.
template <typename V>
INLINE void fill_band(const View& v, const Population& p, int64_t image, int64_t start, int64_t steps,
                      const Band& band, uint32_t* halves) {
    const int64_t bytes = v.row() * int64_t(sizeof(int16_t));
    const int64_t above = v.first_row(band) + v.top - band.first;
    const int64_t below = v.past_row(band) + v.top - band.first;
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t row = 0; row < band.rows; ++row)
            if (row < above || row >= below) std::memset(band.at(t) + row * v.row(), 0, bytes);
    if (v.source->numbers)
        copy_numbers(v, p, image, start, steps, band);
    else
        unpack_any<V>(v, p, image, start, steps, band, halves);
}

}  // namespace madd
