// What the threads of the kernel of dense products (madd.h) work by, and with.

#pragma once

#include "madd_advance.h"
#include "madd_unpack.h"
#include "madd_vectors.h"

namespace madd {

constexpr int64_t PART = 1 << 16;   // numbers of a part of an image in a step, about, and
constexpr int64_t CHUNK = 1 << 16;  // in the steps that pass by at once
constexpr int64_t SLACK = 64;       // numbers after the last, read and ignored

// Whether an output sees one channel of a source, its own.
INLINE bool channelwise(const Source& s, const Population& p) {
    return s.identity || (s.groups > 1 && s.groups == s.channels && s.channels == p.channels);
}

// Whether outputs see some channels only, but several.
INLINE bool grouped(const Source& s, const Population& p) {
    return s.groups > 1 && !channelwise(s, p);
}

// The groups of outputs that are computed together; none has outputs of two groups of channels.
template <typename V>
Vector<Outputs> outputs_of(const Population& p, const Source* sources, int64_t number) {
    Vector<Outputs> found;
    for (int64_t c = 0, before = 0; c < p.channels; c += found.back().count) {
        int64_t past = std::min(p.channels, c + V::WIDTH);
        for (int64_t i = 0; i < number; ++i) {
            if (!grouped(sources[i], p)) continue;
            const int64_t own = p.channels / sources[i].groups;
            past = std::min(past, (c / own + 1) * own);
        }
        found.push_back({c, past - c, (past - c + V::LANES - 1) / V::LANES, before});
        before += found.back().vectors;
    }
    return found;
}

// The vectors of all groups of outputs.
template <typename V>
int64_t vectors_of(const Population& p, const Source* sources, int64_t number) {
    const auto divides = [&](const Source& s) { return grouped(s, p); };
    if (std::none_of(sources, sources + number, divides)) return (p.channels + V::LANES - 1) / V::LANES;
    int64_t vectors = 0;
    for (const Outputs& each : outputs_of<V>(p, sources, number)) vectors += each.vectors;
    return vectors;
}

// The pairs of channels in a group, and of numbers that an output sees of a source.
INLINE int64_t inner_pairs(const Source& s) { return (s.channels / s.groups + 1) / 2; }

INLINE int64_t pairs_of(const Source& s) {
    return s.identity ? 0 : s.kernel_height * s.kernel_width * inner_pairs(s);
}

// The largest spike of a population's sources, without its sign.
INLINE int64_t largest_spike(const Population& p) {
    return p.minus ? int64_t{1} << (p.planes - 1) : (int64_t{1} << p.planes) - 1;
}

// Whether 16 bits hold what spikes bring to an output that sees its own channel alone. weights: [taps], in
// the lower 16 bits, `pitch` from one to the next.
INLINE bool fits_short(const Population& p, const int32_t* weights, int64_t taps, int64_t pitch) {
    int64_t high = 0, low = 0;
    for (int64_t k = 0; k < taps; ++k) {
        const int64_t weight = int16_t(weights[k * pitch]);
        (weight > 0 ? high : low) += std::abs(weight);
    }
    return (p.minus ? high + low : std::max(high, low)) * largest_spike(p) <= INT16_MAX;
}

// What all threads work by.
template <typename V>
struct Job {
    const Population& p;
    const Source* const sources;
    Vector<Outputs> outputs;
    Vector<View> views;              // of the sources
    Vector<const int32_t*> weights;  // of each: [outputs: [pairs, vectors, lanes]]; identity: [WIDTH] each
    Vector<Vector<int32_t>> gains;   // of identities, in lanes
    Vector<Vector<int16_t>> shorts;  // of each and all outputs: `short_weights`
    Vector<int32_t> bias, lanes;     // lanes: thresholds or ceilings
    int64_t length, part, parts;     // blocks of an image, and of a part of it; how many parts
    int64_t steps;                   // that pass by at once

    Job(const Population& given, const Source* given_sources, int64_t number, int64_t threads)
        : p(given), sources(given_sources), outputs(outputs_of<V>(given, given_sources, number)) {
        bias = in_lanes<V>(outputs, p.bias, 0);
        lanes = differential::needed(p) ? in_lanes<V>(outputs, p.ceiling, 0)
                                        : in_lanes<V>(outputs, p.threshold, 1);
        const int32_t* at = (const int32_t*)p.tables;
        for (int64_t i = 0; i < number; ++i) {
            const Source& s = sources[i];
            views.emplace_back(s, p);
            gains.push_back(in_lanes<V>(outputs, s.identity ? s.weights : nullptr, 0));
            weights.push_back(at);
            for (const Outputs& each : outputs)
                shorts.push_back(short_weights(s, each, at + each.before * pairs_of(s) * V::LANES));
            at += pairs_of(s) * vectors_of<V>(p, sources, number) * V::LANES;
        }
        length = blocks(p.height * p.width);
        part = (length - 1) / bands_of(p.images, length, threads) + 1;
        while (part > 1 && numbers(part) > PART) part = (part + 1) / 2;
        parts = (length + part - 1) / part;
        steps = std::max<int64_t>(1, std::min(p.steps, CHUNK / std::max<int64_t>(1, numbers(part))));
    }

    // Of some outputs that see their own channel of a source alone: their weights [taps, WIDTH], if 16 bits
    // hold the sums of its spikes; else nothing. tables: [taps, vectors, lanes].
    Vector<int16_t> short_weights(const Source& s, const Outputs& own, const int32_t* tables) const {
        if (s.identity || s.numbers || !channelwise(s, p)) return {};
        const int64_t taps = s.kernel_height * s.kernel_width, lanes = own.vectors * V::LANES;
        for (int64_t lane = 0; lane < lanes; ++lane)
            if (!fits_short(p, tables + lane, taps, lanes)) return {};
        Vector<int16_t> found(taps * V::WIDTH);
        for (int64_t k = 0; k < taps; ++k)
            for (int64_t lane = 0; lane < lanes; ++lane)
                found[k * V::WIDTH + lane] = int16_t(tables[k * lanes + lane]);
        return found;
    }

    // Of a source, the rows that so many blocks see at most.
    int64_t rows(const View& v, int64_t number) const {
        const int64_t own = std::min(p.height, (number * BLOCK + p.width - 2) / p.width + 1);
        return (own - 1) * v.source->stride_height + v.reach;
    }
    // Of all sources, the numbers that so many blocks see at most, in a step.
    int64_t numbers(int64_t number) const {
        int64_t found = 0;
        for (const View& v : views) found += rows(v, number) * v.row();
        return found;
    }
};

// Memory that a thread keeps from call to call: fresh from the system it takes long to write to.
inline thread_local Room kept;

// What a thread works with, one such desk at a time.
template <typename V>
struct Desk {
    Vector<Band> bands;               // by source
    int32_t *v, *sent;                // [groups of outputs, blocks, 32, WIDTH]
    int32_t* sums;                    // [32, WIDTH]: of several steps where positions are few
    uint32_t* paired;                 // a block's words, by pairs of channels
    const int16_t* rows[BLOCK];
    int32_t factors[BLOCK];

    explicit Desk(const Job<V>& job) {
        const Population& p = job.p;
        const int64_t all = job.outputs.size() * job.part * BLOCK * V::WIDTH;
        const int64_t neurons = sums_alone(p) ? 0 : all, remembered = p.is_signed ? neurons : 0;
        int64_t words = 0, numbers = 0;
        for (const View& view : job.views) {
            const int64_t size = job.rows(view, job.part) * view.row();
            bands.push_back({0, 0, nullptr, size});
            numbers += job.steps * size + SLACK;
            words = std::max(words, 2 * MOST_BITS * padded_pairs<V>(view.source->channels));
        }
        kept.reserve((neurons + remembered + BLOCK * V::WIDTH + words) * int64_t(sizeof(int32_t)) +
                     numbers * int64_t(sizeof(int16_t)));
        v = (int32_t*)kept.data(), sent = v + neurons, sums = sent + remembered;
        std::fill(v, sums, 0);  // lanes beyond the channels
        paired = (uint32_t*)sums + BLOCK * V::WIDTH;
        int16_t* at = (int16_t*)(paired + words);
        std::fill(at, at + numbers, 0);  // and what lies around the positions
        for (Band& band : bands) band.numbers = at, at += job.steps * band.size + SLACK;
    }
};

}  // namespace madd
