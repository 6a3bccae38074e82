// The tables of the lookup kernel for AVX2 (lookup_avx2.h): of the 8 sums that three channels' spikes at a
// position can bring to a neuron. An entry has 16 bits, and so have the sums of a part of the keys; what
// all parts bring is added up in 32 bits.
//
// Where one number for each sum would make too many parts, or has no room in 16 bits, sums are
// divided: high * 2^s + low, each with a table and parts of its own.

#pragma once

#include "lookup_avx2_views.h"

#if defined(__x86_64__)

namespace lookup_avx2 {

constexpr int64_t ENTRIES = 8;      // sums in a table
constexpr int64_t UNIT = 2;         // output channels that are summed up together
constexpr int64_t BLOCK_KEYS = 128; // at most, whose indices stay in the first cache
constexpr int64_t PART_COST = 3;    // lookups that take as long as adding up a part

// Some keys that follow each other, whose sums fit 16 bits, and count 2^shift times.
struct Part {
    int64_t key, keys, shift;
};

// What precedes the tables [blocks of parts, units, keys, UNIT, ENTRIES]: it, and the parts.
struct alignas(64) Header {
    int64_t parts;
    int64_t lookups;  // the keys of all parts
    int64_t wraps;    // whether only all sums together fit 16 bits
};

INLINE int64_t keys_of(const Source* sources, int64_t number) {
    int64_t keys = 0;
    for (int64_t i = 0; i < number; ++i)
        if (!sources[i].identity)
            keys += sources[i].kernel_height * sources[i].kernel_width * groups_of(sources[i]);
    return keys;
}

// Writes the weights [keys, GROUP] of an output. Keys: sources; in each, positions of the kernel; in each,
// channels by threes.
INLINE void weights_of(const Source* sources, int64_t number, int64_t output, int32_t* to) {
    for (const Source* s = sources; s < sources + number; ++s) {
        if (s->identity) continue;
        const int64_t taps = s->kernel_height * s->kernel_width;
        const int32_t* from = s->weights + output * s->channels * taps;
        for (int64_t tap = 0; tap < taps; ++tap, ++from)
            for (int64_t c = 0; c < groups_of(*s) * GROUP; ++c)
                *to++ = c < s->channels ? from[c * taps] : 0;
    }
}

// The sums of three weights by which of them are added.
INLINE void sums_of(const int32_t* weights, int32_t* sums) {
    sums[0] = 0;
    for (int64_t bit = 0; bit < GROUP; ++bit)
        for (int64_t e = 0; e < 1 << bit; ++e) sums[e + (1 << bit)] = sums[e] + weights[bit];
}

// A sum's quotient by 2^s, or what is left of it.
INLINE int32_t digit(int32_t sum, int64_t s, bool high) {
    const int32_t quotient = rounded(sum, s);
    return high ? quotient : sum - quotient * (1 << s);
}

// The largest and the smallest digits of every key, by output.
struct Ranges {
    int64_t keys;
    Vector<int32_t> most, least;  // [channels, keys]

    Ranges(const Population& p, const Source* sources, int64_t number, int64_t s, bool high)
        : keys(keys_of(sources, number)), most(p.channels * keys), least(most.size()) {
        Vector<int32_t> weights(keys * GROUP);
        for (int64_t o = 0; o < p.channels; ++o) {
            weights_of(sources, number, o, weights.data());
            for (int64_t key = 0; key < keys; ++key) {
                int32_t sums[ENTRIES];
                sums_of(weights.data() + key * GROUP, sums);
                for (const int32_t sum : sums) {
                    const int32_t own = digit(sum, s, high);
                    most[o * keys + key] = std::max(most[o * keys + key], own);
                    least[o * keys + key] = std::min(least[o * keys + key], own);
                }
            }
        }
    }

    // The most keys from `first` on whose sums fit 16 bits.
    int64_t fitting(int64_t first) const {
        int64_t past = std::min(keys, first + BLOCK_KEYS);
        const int64_t channels = keys ? int64_t(most.size()) / keys : 0;
        for (int64_t o = 0; o < channels; ++o) {
            int64_t high = 0, low = 0;
            for (int64_t key = first; key < past; ++key) {
                high += most[o * keys + key], low += least[o * keys + key];
                if (high > INT16_MAX || low < INT16_MIN) past = key;
            }
        }
        return past - first;
    }

    // Adds parts of all keys. Returns whether there are any.
    bool divide(int64_t shift, Vector<Part>& parts) const {
        for (int64_t key = 0, own; key < keys; key += own) {
            own = fitting(key);
            if (own == 0) return false;
            parts.push_back({key, own, shift});
        }
        return true;
    }
};

INLINE int64_t lookups_of(const Vector<Part>& parts) {
    int64_t lookups = 0;
    for (const Part& part : parts) lookups += part.keys;
    return lookups;
}

// The parts that take the least time; none where sums do not fit.
Vector<Part> parts_of(const Population& p, const Source* sources, int64_t number) {
    Vector<Part> best;
    const int64_t keys = keys_of(sources, number), even = (keys + BLOCK_KEYS - 1) / BLOCK_KEYS;
    if (!p.wide) {
        for (int64_t i = 0; i < even; ++i)
            best.push_back({keys * i / even, keys * (i + 1) / even - keys * i / even, 0});
        return best;
    }
    int64_t least = INT64_MAX;
    for (const int64_t s : {0, 8, 12, 15}) {
        Vector<Part> parts;
        bool fits = Ranges(p, sources, number, s, true).divide(s, parts);
        if (fits && s) fits = Ranges(p, sources, number, s, false).divide(0, parts);
        const int64_t cost = lookups_of(parts) + PART_COST * int64_t(parts.size());
        if (fits && cost < least) least = cost, best = std::move(parts);
        if (least <= keys + keys) break;  // as much as lookups of quotients would take alone
    }
    return best;
}

// Parts that are summed up one after the other for some outputs: `keys` lookups after `before` others.
struct Block {
    const Part *parts, *past;
    int64_t keys, before;
};

Vector<Block> blocks_of(const Part* parts, int64_t number) {
    Vector<Block> found;
    int64_t before = 0;
    for (const Part* part = parts; part < parts + number; ++part) {
        if (found.empty() || found.back().keys + part->keys > BLOCK_KEYS)
            found.push_back({part, part, 0, before});
        found.back().past = part + 1;
        found.back().keys += part->keys, before += part->keys;
    }
    return found;
}

INLINE int64_t header_bytes(int64_t parts) {
    return int64_t(sizeof(Header)) + (parts * int64_t(sizeof(Part)) + 63) / 64 * 64;
}

INLINE int64_t units_of(const Population& p) { return (p.channels + UNIT - 1) / UNIT; }

INLINE int64_t bytes_of(const Population& p, int64_t parts, int64_t lookups) {
    return header_bytes(parts) + units_of(p) * lookups * UNIT * ENTRIES * int64_t(sizeof(int16_t));
}

int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    const Vector<Part> parts = parts_of(p, sources, number);
    return bytes_of(p, parts.size(), lookups_of(parts));
}

// Writes the tables of an output.
void fill_output(const Vector<Block>& blocks, const int32_t* weights, int64_t s, int64_t units,
                 int64_t output, int16_t* tables) {
    for (const Block& block : blocks) {
        int16_t* to = tables + (block.before * units + output / UNIT * block.keys) * UNIT * ENTRIES +
                      output % UNIT * ENTRIES;
        for (const Part* part = block.parts; part < block.past; ++part)
            for (int64_t key = part->key; key < part->key + part->keys; ++key, to += UNIT * ENTRIES) {
                int32_t sums[ENTRIES];
                sums_of(weights + key * GROUP, sums);
                for (int64_t e = 0; e < ENTRIES; ++e)
                    to[e] = int16_t(uint16_t(digit(sums[e], s, part->shift == s)));
            }
    }
}

void fill_tables(const Population& p, const Source* sources, int64_t number, void* to) {
    const Vector<Part> parts = parts_of(p, sources, number);
    const int64_t lookups = lookups_of(parts), count = parts.size();
    const Header header{count, lookups, !p.wide && count > 1};
    std::memset(to, 0, bytes_of(p, count, lookups));
    std::memcpy(to, &header, sizeof header);
    std::copy(parts.begin(), parts.end(), (Part*)((char*)to + sizeof header));
    int64_t s = 0;
    for (const Part& part : parts) s = std::max(s, part.shift);
    const Vector<Block> blocks = blocks_of(parts.data(), count);
    Vector<int32_t> weights(keys_of(sources, number) * GROUP);
    for (int64_t o = 0; o < p.channels; ++o) {
        weights_of(sources, number, o, weights.data());
        fill_output(blocks, weights.data(), s, units_of(p), o, (int16_t*)((char*)to + header_bytes(count)));
    }
}

// Whether the sums of a population can be had.
int64_t refused(const Population& p, const Source* sources, int64_t number) {
    return keys_of(sources, number) && parts_of(p, sources, number).empty() ? ANY_SUMS : 0;
}

}  // namespace lookup_avx2

#endif
