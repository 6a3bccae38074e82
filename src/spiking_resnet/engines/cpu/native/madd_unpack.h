// Spikes and numbers on their way to dense products (madd.h): as numbers of 16 bits, [rows, columns,
// channels], with room around them for the padding, so that what a position of the kernel sees lies at
// the same distance from every position of the outputs.

#pragma once

#include <type_traits>

#include "kernel.h"
#include "madd_vectors.h"
#include "multilevel.h"

namespace madd {

constexpr int FEW_BITS = 4, MOST_BITS = 8;  // of a spike, with its sign

// Pairs of numbers that lie together, `offset` numbers from where an output's neighbourhood begins.
struct Run {
    int64_t offset, pairs;
};

// Rows of sums, `stride` from one to the next.
struct Before {
    const int32_t* rows;
    int64_t stride;
};

// What some outputs see, which makes sums [count, WIDTH] with what was before: where each one's numbers
// begin, and what they count; null: 1.
struct Rows {
    const int16_t* const* numbers;
    const int32_t* factors;
    Before before;
    int32_t* sums;
    int64_t count;
};

// Writes the sums of a row's vector, of which `own` are new.
template <typename V>
INLINE void finish(const Rows& rows, int64_t row, int64_t lane, const typename V::Ints& found) {
    typename V::Ints own = found;
    if (rows.factors) own *= rows.factors[row];
    MADD_AT(V, rows.sums + row * V::WIDTH + lane) =
        MADD_AT(V, rows.before.rows + row * rows.before.stride + lane) + own;
}

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

// The words of a block's channels by pairs, [bits, 2, padded]: the lower halves of a pair's two words in
// one, and the upper ones. Beyond its planes a number has bits like its sign.
INLINE void pair_up(const Population& p, const uint32_t* words, int64_t channels, int64_t bits,
                    int64_t padded, uint32_t* to) {
    constexpr uint32_t UPPER = 0xffff0000u;
    const int64_t pairs = channels / 2;
    for (int64_t k = 0; k < bits; ++k, to += 2 * padded) {
        uint32_t *const lower = to, *const upper = to + padded;
        if (k >= p.planes && !p.minus) {
            std::fill(lower, lower + 2 * padded, 0);
            continue;
        }
        const uint32_t* from = words + std::min(k, p.planes - 1) * channels;
        for (int64_t i = 0; i < pairs; ++i) {
            const uint32_t even = from[2 * i], odd = from[2 * i + 1];
            lower[i] = (even & ~UPPER) | odd << 16;
            upper[i] = even >> 16 | (odd & UPPER);
        }
        for (int64_t i = pairs; i < padded; ++i) lower[i] = upper[i] = 0;
        if (channels % 2)
            lower[pairs] = from[channels - 1] & ~UPPER, upper[pairs] = from[channels - 1] >> 16;
    }
}

// How many words there are of each, filled up to whole vectors.
template <typename V>
INLINE int64_t padded_pairs(int64_t channels) {
    return (channels + V::WIDTH - 1) / V::WIDTH * V::LANES;
}

// Transposes matrices of BITS x BITS bits: one has so many neighbouring bits of so many words.
template <typename V, int BITS>
INLINE void transpose(typename V::Words* words) {
    using Words = typename V::Words;
    for (int d = BITS / 2; d; d /= 2) {
        const uint32_t first = d == 1 ? 0x55555555u : d == 2 ? 0x33333333u : 0x0f0f0f0fu;
        for (int k = 0; k < BITS; ++k) {
            if (k & d) continue;
            const Words swapped = (words[k] >> d ^ words[k + d]) & first;
            words[k + d] ^= swapped, words[k] ^= swapped << d;
        }
    }
}

// Where the numbers of a block go: those at positions whose bit is set, to `place`, relative to `to`, of so
// many pairs of channels. The even channel of a pair comes first.
struct Places {
    const int64_t* place;
    uint32_t positions;
    int16_t* to;
    int64_t pairs;
};

// Writes numbers of BITS bits of a vector of pairs. words: theirs. WHOLE: all positions, and all pairs.
template <typename V, int BITS, bool WHOLE>
INLINE void unpack_pairs(const uint32_t* words, int64_t padded, const Places& places) {
    using Words = typename V::Words;
    using Numbers = typename V::Numbers;
    constexpr int HALF = BLOCK / 2;
    const bool all_pairs = places.pairs >= V::LANES;
    for (int half = 0; half < 2; ++half) {
        Words bits[BITS];
        for (int k = 0; k < BITS; ++k) bits[k] = *(const Words*)(words + (2 * k + half) * padded);
        transpose<V, BITS>(bits);
        for (int i = HALF - BITS; i >= 0; i -= BITS)  // from the top, and down again with their signs
            for (int j = 0; j < BITS; ++j) {
                const int position = half * HALF + i + j;
                Numbers numbers = (Numbers)bits[j] >> (HALF - BITS);
                if (BITS == 1) numbers = (Numbers)((typename V::Naturals)bits[j] >> (HALF - 1));
                bits[j] = (Words)((Numbers)bits[j] << BITS);
                if (!WHOLE && !(places.positions >> position & 1)) continue;
                int16_t* const to = places.to + places.place[position];
                if (WHOLE || all_pairs)
                    *(Numbers*)to = numbers;
                else
                    std::memcpy(to, &numbers, places.pairs * sizeof(Pair));
            }
    }
}

// The same of all pairs. words: of the block.
template <typename V, int BITS>
INLINE void unpack_block(const uint32_t* words, int64_t padded, Places places) {
    const bool all_positions = places.positions == ~uint32_t{0};
    for (; places.pairs > 0; places.pairs -= V::LANES, places.to += V::WIDTH, words += V::LANES)
        if (all_positions && places.pairs >= V::LANES)
            unpack_pairs<V, BITS, true>(words, padded, places);
        else
            unpack_pairs<V, BITS, false>(words, padded, places);
}

// The bits of a block whose positions are from `begin` to `past` - 1.
INLINE uint32_t bits_between(int64_t block, int64_t begin, int64_t past) {
    const int64_t low = std::max<int64_t>(begin - block * BLOCK, 0);
    const int64_t high = std::min(past - block * BLOCK, BLOCK);
    const uint32_t before = high == BLOCK ? ~uint32_t{0} : (uint32_t{1} << high) - 1;
    return low >= high ? 0 : before & ~uint32_t{0} << low;
}

// Writes the spikes of an image, at so many steps from `start` on, as far as their rows are in the band.
// desk: memory for one block's words.
template <typename V, int BITS>
INLINE void unpack_spikes(const View& v, const Population& p, int64_t image, int64_t start,
                          int64_t steps, const Band& band, uint32_t* desk) {
    const Source& s = *v.source;
    const int64_t begin = v.first_row(band) * s.width, past = v.past_row(band) * s.width;
    const int64_t length = blocks(s.height * s.width), padded = padded_pairs<V>(s.channels);
    for (int64_t b = begin / BLOCK; b * BLOCK < past; ++b) {
        const uint32_t positions = bits_between(b, begin, past);
        const uint32_t* words =
            s.spikes + ((image * length + b) * p.steps + start) * p.planes * s.channels;
        for (int64_t t = 0; t < steps; ++t, words += p.planes * s.channels) {
            pair_up(p, words, s.channels, BITS, padded, desk);
            unpack_block<V, BITS>(desk, padded,
                                  {v.place.data() + b * BLOCK, positions,
                                   band.at(t) - band.first * v.row(), (s.channels + 1) / 2});
        }
    }
}

// The bits of the sources' spikes, with their sign.
INLINE int64_t bits_of(const Population& p) { return p.planes + !p.minus; }

template <typename V>
INLINE void unpack_any(const View& v, const Population& p, int64_t image, int64_t start,
                       int64_t steps, const Band& band, uint32_t* desk) {
    if constexpr (!std::is_same<V, typename V::Narrow>::value)
        if (v.source->channels <= V::Narrow::WIDTH)
            return unpack_any<typename V::Narrow>(v, p, image, start, steps, band, desk);
    if (p.planes == 1 && !p.minus)
        unpack_spikes<V, 1>(v, p, image, start, steps, band, desk);
    else if (bits_of(p) <= FEW_BITS)
        unpack_spikes<V, FEW_BITS>(v, p, image, start, steps, band, desk);
    else
        unpack_spikes<V, MOST_BITS>(v, p, image, start, steps, band, desk);
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
                      const Band& band, uint32_t* desk) {
    const int64_t bytes = v.row() * int64_t(sizeof(int16_t));
    const int64_t above = v.first_row(band) + v.top - band.first;
    const int64_t below = v.past_row(band) + v.top - band.first;
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t row = 0; row < band.rows; ++row)
            if (row < above || row >= below) std::memset(band.at(t) + row * v.row(), 0, bytes);
    if (v.source->numbers)
        copy_numbers(v, p, image, start, steps, band);
    else
        unpack_any<V>(v, p, image, start, steps, band, desk);
}

}  // namespace madd
