// The tables of the lookup kernel for AVX-512 (those for AVX2: lookup_avx2_tables.h). There nothing is
// multiplied and no spike is looked for: some channels' spikes at one position are a small number, and what
// they add to a neuron's potential is an entry of a table of sums of their weights. One instruction looks up
// many positions in it.
//
// Six channels make a number below 64; a table of 64 sums of 16 bits fills two registers, in which
// vpermi2w looks up 32 positions: 192 synapses of work, whatever fires.
//
// 16-bit sums wrap around without harm as long as the total of a step fits 16 bits ("narrow", the
// caller's promise). Where it does not ("wide") a second table holds the entries' quotients by 2^s in 8
// bits, where vpermb looks up 32 positions at two time steps. Together they give the exact sum (see
// `advance`).
//
// Planes of spikes of several bits (multilevel.h) are summed up as steps of their own, with the same
// tables; a plane's sum counts twice that of the plane below it when neurons are advanced.

#pragma once

#include "kernel.h"

namespace lookup {

// The keys of a source: what is looked up together. FORMAT::GROUP channels at a position of the kernel
// make a key. The channels left over make keys together with those of the next positions in the same row
// of the kernel, or (where that takes fewer keys) of all positions, which are then as one row.
template <typename FORMAT>
struct Keys {
    int64_t inner, groups, left;  // channels; keys at each position, and the channels left over
    int64_t rows, taps, each;     // rows of the kernel; positions and keys in each
    explicit Keys(const Source& s)
        : inner(s.channels / s.groups),
          groups(inner / FORMAT::GROUP),
          left(inner % FORMAT::GROUP) {
        const int64_t all = s.kernel_height * s.kernel_width;
        const bool joint = s.kernel_height * whole(s.kernel_width * left) > whole(all * left);
        rows = joint ? 1 : s.kernel_height;
        taps = all / rows;
        each = taps * groups + whole(taps * left);
        if (s.identity) rows = each = 0;
    }
    int64_t number() const { return rows * each; }
    static int64_t whole(int64_t bits) { return (bits + FORMAT::GROUP - 1) / FORMAT::GROUP; }
};

template <typename FORMAT>
INLINE int64_t keys_of(const Source* sources, int64_t number) {
    int64_t keys = 0;
    for (int64_t i = 0; i < number; ++i) keys += Keys<FORMAT>(sources[i]).number();
    return keys;
}

// Units are what is summed up together: two channels, or one. All sizes in bytes.
template <typename FORMAT>
struct Units {
    int64_t channels, number;  // in each, and of units
    int64_t table;             // a key's tables: [channels, ENTRIES] of 16 bits, wide: and of quotients
    Units(const Population& p, const Source* sources, int64_t count)
        : channels(FORMAT::unit(p, sources, count)),
          number((p.channels + channels - 1) / channels),
          table(channels * FORMAT::ENTRIES *
                (sizeof(int16_t) + (p.wide ? sizeof(typename FORMAT::Quotient) : 0))) {}
};

// What precedes the tables.
struct alignas(64) Header {
    int64_t parts;  // into which the keys are divided
    int64_t shift;  // s
    int64_t fits;   // whether all sums can be had
};

// Which key `key` of an output channel takes as its `bit`; 0 where it has none.
template <typename FORMAT>
INLINE int32_t weight_of(const Source& s, const Keys<FORMAT>& keys, int64_t output, int64_t key,
                         int64_t bit) {
    const int64_t row = key / keys.each, at = key % keys.each, whole = keys.taps * keys.groups;
    const int64_t rest = (at - whole) * FORMAT::GROUP + bit;  // among those left over
    const int64_t tap = at < whole ? at / keys.groups : rest / keys.left;
    const int64_t c = at < whole ? at % keys.groups * FORMAT::GROUP + bit
                                 : keys.inner - keys.left + rest % keys.left;
    if (tap >= keys.taps || c >= keys.inner) return 0;
    const int64_t taps = s.kernel_height * s.kernel_width;
    return s.weights[(output * keys.inner + c) * taps + row * keys.taps + tap];
}

// Calls visit(key, weights [GROUP]) for every key of an output channel. Keys: sources; in each, rows of
// the kernel; in each, first those of whole groups at each position, then those of what is left over.
template <typename FORMAT, typename Visit>
INLINE void each_key(const Source* sources, int64_t number, int64_t output, const Visit& visit) {
    int64_t before = 0;
    for (int64_t i = 0; i < number; ++i) {
        const Keys<FORMAT> keys(sources[i]);
        for (int64_t key = 0; key < keys.number(); ++key) {
            int32_t weights[FORMAT::GROUP];
            for (int64_t bit = 0; bit < FORMAT::GROUP; ++bit)
                weights[bit] = weight_of(sources[i], keys, output, key, bit);
            visit(before + key, weights);
        }
        before += keys.number();
    }
}

INLINE int64_t part_of(int64_t keys, int64_t part, int64_t parts) { return keys * part / parts; }

// The fewest parts in which the sums of a population can be had. In every part the quotients' sum
// must fit a quotient's bits; each entry (and bias and gain) is rounded by at most half of 2^s, and all
// of them together must be off by less than 2^15.
template <typename FORMAT>
Header divided(const Population& p, const Source* sources, int64_t number) {
    const int64_t keys = keys_of<FORMAT>(sources, number);
    const int64_t most_keys = p.wide ? FORMAT::WIDE_KEYS : FORMAT::KEYS;
    const int64_t limit = int64_t{1} << (8 * sizeof(typename FORMAT::Quotient) - 1);
    Header found{std::max<int64_t>((keys + most_keys - 1) / most_keys, 1), 0, true};
    if (!p.wide) return found;
    Vector<int32_t> most(p.channels * keys), least(p.channels * keys);
    for (int64_t o = 0; o < p.channels; ++o)
        each_key<FORMAT>(sources, number, o, [&](int64_t key, const int32_t* weights) {
            for (int64_t bit = 0; bit < FORMAT::GROUP; ++bit)
                (weights[bit] > 0 ? most : least)[o * keys + key] += weights[bit];
        });
    for (;; ++found.parts) {
        const int64_t longest = (keys + found.parts - 1) / found.parts;
        const auto rough = [&] { return ((longest + 2) << found.shift) / 2 >= 32768; };
        found.shift = 14;
        while (found.shift > 0 && rough()) --found.shift;
        found.fits = !rough();
        for (int64_t o = 0; found.fits && o < p.channels; ++o)
            for (int64_t part = 0; found.fits && part < found.parts; ++part) {
                int64_t high = part ? 0 : rounded(p.bias[o], found.shift), low = high;
                for (int64_t key = part_of(keys, part, found.parts);
                     key < part_of(keys, part + 1, found.parts); ++key) {
                    high += rounded(most[o * keys + key], found.shift);
                    low += rounded(least[o * keys + key], found.shift);
                }
                found.fits = high < limit && low >= -limit;
            }
        if (found.fits || found.parts >= std::min(keys, FORMAT::PARTS)) return found;
    }
}

template <typename FORMAT>
int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    const Units<FORMAT> units(p, sources, number);
    return sizeof(Header) + units.number * keys_of<FORMAT>(sources, number) * units.table;
}

// Writes the header and the tables [part, unit, key of the part], in the order they are read in.
template <typename FORMAT>
void fill_tables(const Population& p, const Source* sources, int64_t number, void* to) {
    char* const tables = (char*)to;
    const int64_t keys = keys_of<FORMAT>(sources, number);
    const Units<FORMAT> units(p, sources, number);
    const Header header = divided<FORMAT>(p, sources, number);
    std::memset(tables, 0, table_bytes<FORMAT>(p, sources, number));
    std::memcpy(tables, &header, sizeof header);
    for (int64_t o = 0; o < p.channels; ++o) {
        const int64_t unit = o / units.channels, column = o % units.channels;
        int64_t part = 0;
        each_key<FORMAT>(sources, number, o, [&](int64_t key, const int32_t* weights) {
            while (key >= part_of(keys, part + 1, header.parts)) ++part;
            const int64_t begin = part_of(keys, part, header.parts);
            const int64_t count = part_of(keys, part + 1, header.parts) - begin;
            char* const own = tables + sizeof header +
                              (begin * units.number + unit * count + key - begin) * units.table;
            int16_t* low = (int16_t*)own + column * FORMAT::ENTRIES;
            auto* high = (typename FORMAT::Quotient*)((int16_t*)own +
                                                      units.channels * FORMAT::ENTRIES) +
                         column * FORMAT::ENTRIES;
            int32_t sums[FORMAT::ENTRIES] = {};
            for (int64_t bit = 0; bit < FORMAT::GROUP; ++bit)
                for (int64_t e = 0; e < 1 << bit; ++e) sums[e + (1 << bit)] = sums[e] + weights[bit];
            for (int64_t e = 0; e < FORMAT::ENTRIES; ++e) {
                low[e] = int16_t(uint16_t(sums[e]));
                if (p.wide) high[e] = (typename FORMAT::Quotient)rounded(sums[e], header.shift);
            }
        });
    }
}

// What a run begins with: sources and identities apart, and what precedes the tables.
template <typename FORMAT>
struct JobBase {
    const Population* p;
    Vector<const Source*> sources, identities;
    Units<FORMAT> units;
    Header header;
    int64_t keys, length;  // length: blocks of an image

    JobBase(const Population& given, const Source* all, int64_t number)
        : p(&given),
          units(given, all, number),
          keys(keys_of<FORMAT>(all, number)),
          length(blocks(given.height * given.width)) {
        std::memcpy(&header, given.tables, sizeof header);
        for (int64_t i = 0; i < number; ++i)
            (all[i].identity ? identities : sources).push_back(all + i);
    }
};

}  // namespace lookup
