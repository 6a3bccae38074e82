// The tables of the lookup kernel for AVX-512. There nothing is multiplied and no spike is looked for; sums of weights are looked
// up, 32 positions at a time.
//
// Six channels' spikes at one position are a number below 64, and what they add to a neuron's
// potential is an entry of a table of 64 sums. Such a table of 16-bit integers fills two registers,
// and one instruction (vpermi2w) looks up 32 positions in it: 192 synapses of work, whatever fires.
// For two neurons' channels and eight time steps at once, sums and tables stay in registers; what a
// few dozen groups of channels and kernel positions ("keys") bring stays in the first cache.
//
// 16-bit sums wrap around without harm as long as the total of a step fits 16 bits ("narrow", the
// caller's promise). Where it does not ("wide") a second table holds the entries' quotients by 2^s in
// 8 bits, in one register, in which one instruction (vpermb) looks up 32 positions at two time steps:
// together they give the exact sum (see `advance`), for half as much work again.
//
// Planes of spikes of several bits (multilevel.h) are summed up as steps of their own, with the same
// tables; a plane's sum counts twice that of the plane below it when neurons are advanced.

#pragma once

#include "planes.h"
#include "multilevel.h"

namespace lookup {

constexpr int64_t CHUNK = 8;     // time steps (or planes of them) summed up at once
constexpr int64_t KEYS = 36;     // keys summed up at once at most,
constexpr int64_t WIDE_KEYS = 48;  // and in the wide form
constexpr int64_t UNITS = 8;     // units in turn, where keys are more
constexpr int64_t GROUP = 6;     // channels looked up at once
constexpr int64_t ENTRIES = 64;  // sums in a table
constexpr uint32_t EVEN = 0x55555555;
constexpr int64_t SLACK = 64;    // entries before and after each plane of numbers, read and ignored

// The keys of a source. Six channels at a position of the kernel make a key; the channels left over (5
// at most) make keys together with those of the next positions in the same row of the kernel, or
// (where that takes fewer keys) of all positions, which are then as one row.
struct Keys {
    int64_t inner, groups, left;  // channels; keys at each position, and the channels left over
    int64_t rows, taps, each;     // rows of the kernel; positions and keys in each
    explicit Keys(const Source& s)
        : inner(s.channels / s.groups), groups(inner / GROUP), left(inner % GROUP) {
        const int64_t all = s.kernel_height * s.kernel_width;
        const bool joint = s.kernel_height * whole(s.kernel_width * left) > whole(all * left);
        rows = joint ? 1 : s.kernel_height;
        taps = all / rows;
        each = taps * groups + whole(taps * left);
        if (s.identity) rows = each = 0;
    }
    int64_t number() const { return rows * each; }
    static int64_t whole(int64_t bits) { return (bits + GROUP - 1) / GROUP; }
};

INLINE int64_t keys_of(const Source* sources, int64_t number) {
    int64_t keys = 0;
    for (int64_t i = 0; i < number; ++i) keys += Keys(sources[i]).number();
    return keys;
}

// Whether the source's groups read different channels for each output: a unit is one channel then.
INLINE bool single(const Population& p, const Source* sources, int64_t number) {
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        if (!s.identity && s.groups > 1 && p.channels / s.groups % 2) return true;
    }
    return false;
}

// Units are what is summed up together: two channels, or one. All sizes in bytes.
struct Units {
    int64_t channels, number;  // in each, and of units
    int64_t table, sums;       // a key's tables: [channels, 64] of 16 bits, wide: and of 8 bits;
                               // sums: [channels, CHUNK, 32] of 16 bits, wide: and of 8 bits
    Units(const Population& p, const Source* sources, int64_t count)
        : channels(single(p, sources, count) ? 1 : 2),
          number((p.channels + channels - 1) / channels),
          table(channels * ENTRIES * (p.wide ? 3 : 2)),
          sums(channels * CHUNK * BLOCK * (p.wide ? 3 : 2)) {}
};

// What precedes the tables.
struct alignas(64) Header {
    int64_t parts;  // into which the keys are divided
    int64_t shift;  // s
    int64_t fits;   // whether all sums can be had
};

// Which key `key` of an output channel takes as its `bit`; 0 where it has none.
INLINE int32_t weight_of(const Source& s, const Keys& keys, int64_t output, int64_t key, int64_t bit) {
    const int64_t row = key / keys.each, at = key % keys.each, whole = keys.taps * keys.groups;
    const int64_t rest = (at - whole) * GROUP + bit;  // among those left over
    const int64_t tap = at < whole ? at / keys.groups : rest / keys.left;
    const int64_t c = at < whole ? at % keys.groups * GROUP + bit
                                 : keys.inner - keys.left + rest % keys.left;
    if (tap >= keys.taps) return 0;
    const int64_t taps = s.kernel_height * s.kernel_width;
    return s.weights[(output * keys.inner + c) * taps + row * keys.taps + tap];
}

// Calls visit(key, weights [6]) for every key of an output channel.
template <typename Visit>
INLINE void each_key(const Source* sources, int64_t number, int64_t output, const Visit& visit) {
    int64_t before = 0;
    for (int64_t i = 0; i < number; ++i) {
        const Keys keys(sources[i]);
        for (int64_t key = 0; key < keys.number(); ++key) {
            int32_t weights[GROUP];
            for (int64_t bit = 0; bit < GROUP; ++bit)
                weights[bit] = weight_of(sources[i], keys, output, key, bit);
            visit(before + key, weights);
        }
        before += keys.number();
    }
}

INLINE int64_t part_of(int64_t keys, int64_t part, int64_t parts) { return keys * part / parts; }

// The fewest parts in which the sums of a population can be had. In every part the quotients' sum
// must fit 8 bits; each entry (and bias and gain) is rounded by at most half of 2^s, and all of them
// together must be off by less than 2^15.
Header divided(const Population& p, const Source* sources, int64_t number) {
    const int64_t keys = keys_of(sources, number);
    const int64_t most_keys = p.wide ? WIDE_KEYS : KEYS;
    Header found{std::max<int64_t>((keys + most_keys - 1) / most_keys, 1), 0, true};
    if (!p.wide) return found;
    std::vector<int32_t> most(p.channels * keys), least(p.channels * keys);
    for (int64_t o = 0; o < p.channels; ++o)
        each_key(sources, number, o, [&](int64_t key, const int32_t* weights) {
            for (int64_t bit = 0; bit < GROUP; ++bit)
                (weights[bit] > 0 ? most : least)[o * keys + key] += weights[bit];
        });
    for (;; ++found.parts) {
        const int64_t longest = (keys + found.parts - 1) / found.parts;
        found.shift = 14;
        while (((longest + 2) << found.shift) / 2 >= 32768) --found.shift;
        found.fits = true;
        for (int64_t o = 0; found.fits && o < p.channels; ++o)
            for (int64_t part = 0; found.fits && part < found.parts; ++part) {
                int64_t high = part ? 0 : rounded(p.bias[o], found.shift), low = high;
                for (int64_t key = part_of(keys, part, found.parts);
                     key < part_of(keys, part + 1, found.parts); ++key) {
                    high += rounded(most[o * keys + key], found.shift);
                    low += rounded(least[o * keys + key], found.shift);
                }
                found.fits = high < 128 && low >= -128;
            }
        if (found.fits || found.parts >= keys) return found;
    }
}

INLINE int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    const Units units(p, sources, number);
    return sizeof(Header) + units.number * keys_of(sources, number) * units.table;
}

// Writes the header and the tables [part, unit, key of the part], in the order they are read in. Keys:
// sources; in each, rows of the kernel; in each, first those of six channels at each position, then
// those of what is left over.
void fill_tables(const Population& p, const Source* sources, int64_t number, char* tables) {
    const int64_t keys = keys_of(sources, number);
    const Units units(p, sources, number);
    const Header header = divided(p, sources, number);
    std::memset(tables, 0, table_bytes(p, sources, number));
    std::memcpy(tables, &header, sizeof header);
    for (int64_t o = 0; o < p.channels; ++o) {
        const int64_t unit = o / units.channels, column = o % units.channels;
        int64_t part = 0;
        each_key(sources, number, o, [&](int64_t key, const int32_t* weights) {
            while (key >= part_of(keys, part + 1, header.parts)) ++part;
            const int64_t begin = part_of(keys, part, header.parts);
            const int64_t count = part_of(keys, part + 1, header.parts) - begin;
            char* const own = tables + sizeof header +
                              (begin * units.number + unit * count + key - begin) * units.table;
            int16_t* low = (int16_t*)own + column * ENTRIES;
            int8_t* high = (int8_t*)own + (2 * units.channels + column) * ENTRIES;
            int32_t sums[ENTRIES] = {};
            for (int64_t bit = 0; bit < GROUP; ++bit)
                for (int64_t e = 0; e < 1 << bit; ++e) sums[e + (1 << bit)] = sums[e] + weights[bit];
            for (int64_t e = 0; e < ENTRIES; ++e) {
                low[e] = int16_t(uint16_t(sums[e]));
                if (p.wide) high[e] = int8_t(rounded(sums[e], header.shift));
            }
        });
    }
}

}  // namespace lookup
