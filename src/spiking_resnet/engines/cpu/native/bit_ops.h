// What happens to spikes between populations: packing, counting, pooling.

#pragma once

#include "planes.h"

namespace bit_ops {

// How many of everything: spikes [images, steps, channels, positions] in words [images, blocks, steps,
// channels].
struct Extent {
    int64_t images, steps, channels, positions;
};

// Calls work(word, first position, positions in it, plane) for every word of an image; planes are
// counted over steps and channels.
template <typename Word, typename Work>
void each_word(Word* words, const Extent& e, int64_t image, const Work& work) {
    words += image * blocks(e.positions) * e.steps * e.channels;
    for (int64_t first = 0; first < e.positions; first += BLOCK) {
        const int64_t count = e.positions - first < BLOCK ? e.positions - first : BLOCK;
        for (int64_t plane = 0; plane < e.steps * e.channels; ++plane)
            work(*words++, first, count, plane);
    }
}

// Bytes (0 or not) [images, steps, channels, positions] as words.
void pack(const uint8_t* bytes, const Extent& e, int64_t threads, uint32_t* words) {
    share(threads, e.images, [=, &e](int64_t image) {
        const uint8_t* from = bytes + image * e.steps * e.channels * e.positions;
        each_word(words, e, image, [&](uint32_t& word, int64_t first, int64_t count, int64_t plane) {
            word = 0;
            for (int64_t i = 0; i < count; ++i)
                word |= uint32_t{from[plane * e.positions + first + i] != 0} << i;
        });
    });
}

// The reverse.
void unpack(const uint32_t* words, const Extent& e, int64_t threads, uint8_t* bytes) {
    share(threads, e.images, [=, &e](int64_t image) {
        uint8_t* to = bytes + image * e.steps * e.channels * e.positions;
        each_word(words, e, image, [&](uint32_t word, int64_t first, int64_t count, int64_t plane) {
            for (int64_t i = 0; i < count; ++i)
                to[plane * e.positions + first + i] = word >> i & 1;
        });
    });
}

constexpr int64_t COUNTED = 64;  // channels whose spikes are counted at once
constexpr int FEW = 3, MANY = 6;  // binary digits of such counts

constexpr int64_t most_counted(int digits) { return (int64_t{1} << digits) - 1; }

// counts [width, positions] += the spikes in a block of `count` positions over at most
// most_counted(DIGITS) steps. words: of the first step; a step has `channels` of them.
template <int DIGITS>
void count_block(const uint32_t* words, int64_t steps, int64_t channels, int64_t width,
                 int64_t count, int64_t positions, int64_t* counts) {
    uint32_t digits[DIGITS][COUNTED] = {};  // bit i of a word is a digit of position i's count
    for (int64_t t = 0; t < steps; ++t, words += channels)
        for (int64_t c = 0; c < width; ++c) {
            uint32_t carry = words[c];
            for (int d = 0; d < DIGITS; ++d) {
                const uint32_t both = digits[d][c] & carry;
                digits[d][c] ^= carry;
                carry = both;
            }
        }
    for (int64_t c = 0; c < width; ++c, counts += positions)
        for (int64_t i = 0; i < count; ++i) {
            uint32_t sum = 0;
            for (int d = 0; d < DIGITS; ++d) sum |= (digits[d][c] >> i & 1) << d;
            counts[i] += sum;
        }
}

// counts [images, channels, positions] += the spikes of every neuron.
void count_neurons(const uint32_t* words, const Extent& e, int64_t threads, int64_t* counts) {
    const int64_t length = blocks(e.positions), parts = (e.channels + COUNTED - 1) / COUNTED;
    const bool few = e.steps <= most_counted(FEW);
    const auto count = few ? count_block<FEW> : count_block<MANY>;
    const int64_t at_once = most_counted(few ? FEW : MANY);
    share(threads, e.images * parts, [=, &e](int64_t task) {
        const int64_t image = task / parts, first = task % parts * COUNTED;
        const int64_t width = std::min(e.channels - first, COUNTED);
        int64_t* to = counts + (image * e.channels + first) * e.positions;
        for (int64_t b = 0; b < length; ++b) {
            const uint32_t* from = words + (image * length + b) * e.steps * e.channels + first;
            const int64_t own = std::min(e.positions - b * BLOCK, int64_t{BLOCK});
            for (int64_t t = 0; t < e.steps; t += at_once)
                count(from + t * e.channels, std::min(e.steps - t, at_once), e.channels, width, own,
                      e.positions, to + b * BLOCK);
        }
    });
}

// sums [images, steps, channels]: the spikes of each channel at each step.
void sum_channels(const uint32_t* words, const Extent& e, int64_t threads, int32_t* sums) {
    share(threads, e.images, [=, &e](int64_t image) {
        int32_t* to = sums + image * e.steps * e.channels;
        std::memset(to, 0, e.steps * e.channels * sizeof(int32_t));
        each_word(words, e, image, [&](uint32_t word, int64_t, int64_t, int64_t plane) {
            to[plane] += __builtin_popcount(word);
        });
    });
}

// A max pool of spike counts: an output spikes when the largest count of its window grows.
struct Pool {
    int64_t images, steps, channels, height, width;
    int64_t kernel_height, kernel_width, stride_height, stride_width;
    int64_t padding_height, padding_width, dilation_height, dilation_width;
    int64_t new_height, new_width;
};

// The windows that each position lies in: `each` of them, filled up with one beyond the last.
struct Windows {
    int64_t each = 0;
    Vector<int32_t> reached;  // [positions, each]

    explicit Windows(const Pool& p) {
        Vector<Vector<int32_t>> found;
        for (int64_t h = 0; h < p.height; ++h)
            for (int64_t w = 0; w < p.width; ++w) {
                auto& own = found.emplace_back();
                for (int64_t ky = 0; ky < p.kernel_height; ++ky)
                    for (int64_t kx = 0; kx < p.kernel_width; ++kx) {
                        const int64_t y = h + p.padding_height - ky * p.dilation_height;
                        const int64_t x = w + p.padding_width - kx * p.dilation_width;
                        if (y < 0 || x < 0 || y % p.stride_height || x % p.stride_width) continue;
                        if (y / p.stride_height >= p.new_height) continue;
                        if (x / p.stride_width >= p.new_width) continue;
                        own.push_back(int32_t(y / p.stride_height * p.new_width + x / p.stride_width));
                    }
                each = std::max(each, int64_t(own.size()));
            }
        for (auto& own : found) {
            own.resize(each, int32_t(p.new_height * p.new_width));
            reached.insert(reached.end(), own.begin(), own.end());
        }
    }

    const int32_t* of(int64_t position) const { return reached.data() + position * each; }
};

constexpr int64_t CHUNK = 16;   // time steps in turn, and
constexpr int64_t POOLED = 16;  // channels, whose words lie in one line of the cache

// counts [images, channels, positions] and largest [images, channels, new positions] are carried on.
void pool(const uint32_t* words, const Pool& p, int64_t threads, int32_t* counts, int32_t* largest,
          uint32_t* to) {
    const int64_t positions = p.height * p.width, outputs = p.new_height * p.new_width;
    const Windows windows(p);
    const int64_t length = blocks(positions), made = blocks(outputs);
    const int64_t groups = (p.channels + POOLED - 1) / POOLED;
    share(threads, p.images * groups, [&](int64_t task) {
        const int64_t image = task / groups, c = task % groups * POOLED;
        const int64_t width = p.channels - c < POOLED ? p.channels - c : POOLED;
        Vector<uint32_t> in(POOLED * CHUNK * length), out(POOLED * CHUNK * made + 1);
        Vector<int32_t> most(outputs + 1);
        for (int64_t start = 0; start < p.steps; start += CHUNK) {
            const int64_t steps = p.steps - start < CHUNK ? p.steps - start : CHUNK;
            // Word `t` of block `b`, channel c + k: by channel and step in `in` and `out`.
            const auto each = [&](int64_t all, auto&& visit) {
                for (int64_t b = 0; b < all; ++b)
                    for (int64_t t = 0; t < steps; ++t)
                        for (int64_t k = 0; k < width; ++k)
                            visit(((image * all + b) * p.steps + start + t) * p.channels + c + k,
                                  (k * CHUNK + t) * all + b);
            };
            each(length, [&](int64_t outer, int64_t inner) { in[inner] = words[outer]; });
            std::fill(out.begin(), out.end(), 0);
            for (int64_t k = 0; k < width; ++k) {
                int32_t* count = counts + (image * p.channels + c + k) * positions;
                int32_t* kept = largest + (image * p.channels + c + k) * outputs;
                std::copy(kept, kept + outputs, most.begin());
                most[outputs] = INT32_MAX;
                for (int64_t t = 0; t < steps; ++t) {
                    const uint32_t* from = in.data() + (k * CHUNK + t) * length;
                    uint32_t* fired = out.data() + (k * CHUNK + t) * made;
                    for (int64_t b = 0; b < length; ++b)
                        for (uint32_t bits = from[b]; bits; bits &= bits - 1) {
                            const int64_t place = b * BLOCK + __builtin_ctz(bits);
                            const int32_t sum = ++count[place];
                            const int32_t* reached = windows.of(place);
                            for (int64_t i = 0; i < windows.each; ++i) {
                                const int32_t o = reached[i];
                                const uint32_t grown = sum > most[o];  // then by one: no branch
                                most[o] += int32_t(grown);
                                fired[o / BLOCK] |= grown << o % BLOCK;
                            }
                        }
                }
                std::copy(most.begin(), most.end() - 1, kept);
            }
            each(made, [&](int64_t outer, int64_t inner) { to[outer] = out[inner]; });
        }
    });
}

}  // namespace bit_ops
