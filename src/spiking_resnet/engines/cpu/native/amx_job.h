// What the threads of the kernel of tiles (amx.h) work by, and with.

#pragma once

#include "amx_products.h"

namespace amx {

constexpr int64_t PART = 1 << 17;        // bytes of a part of an image in a step, about, and
constexpr int64_t AT_ONCE = 1 << 19;     // in the steps that pass by at once

using madd::Neurons;

// Convolutions whose products are summed up together: what their spikes count is the same at every step.
struct Together {
    Vector<size_t> convolutions;
    const int32_t* factors;  // [steps]; null: 1
};

// An identity, with its gains in lanes.
struct Identity {
    const Source* source;
    Vector<int32_t> gains;
};

// Whether neurons fire once or not at all, of nothing but spikes and biases.
INLINE bool fires_once(const Population& p) {
    return !sums_alone(p) && !p.firing_rule && p.levels == 1 && !p.is_signed && !p.reset_to_zero &&
           !p.shift && !p.constant && !p.current && !p.stream;
}

// What all threads work by.
struct Job {
    const Population& p;
    Vector<Outputs> outputs;
    Vector<Spread> spreads;           // of the convolutions
    Vector<const uint8_t*> weights;   // of each: [outputs: tiles of chunks]
    Vector<Together> all;
    Vector<Identity> identities;
    Vector<int32_t> bias, lanes;      // lanes: thresholds or ceilings
    int64_t planes;                   // of weights
    bool quick;                       // whether `fire_quickly` does
    int64_t length, part, parts;      // blocks of an image, and of a part of it; how many parts
    int64_t steps;                    // that pass by at once

    Job(const Population& given, const Source* sources, int64_t number, Vector<Outputs> all_outputs,
        int64_t threads)
        : p(given), outputs(std::move(all_outputs)) {
        bias = madd::in_lanes<Lanes>(outputs, p.bias, 0);
        lanes = differential::needed(p) ? madd::in_lanes<Lanes>(outputs, p.ceiling, 0)
                                        : madd::in_lanes<Lanes>(outputs, p.threshold, 1);
        const uint8_t* tables = (const uint8_t*)p.tables;
        planes = *tables;
        tables += HEADER;
        for (const Source* s = sources; s < sources + number; ++s) {
            if (s->identity) {
                identities.push_back({s, madd::in_lanes<Lanes>(outputs, s->weights, 0)});
                continue;
            }
            join(*s);
            spreads.emplace_back(*s, p);
            weights.push_back(tables);
            tables += tiles_of(p.channels) * chunks_of(*s, p) * planes * TILE;
        }
        quick = fires_once(p) && all.size() == 1 && !all.front().factors && identities.size() <= 1 &&
                (identities.empty() || (!identities.front().source->factors && !multilevel::needed(p)));
        length = blocks(p.height * p.width);
        part = (length - 1) / bands_of(p.images, length, threads) + 1;
        while (part > 1 && bytes(part) > PART) part = (part + 1) / 2;
        parts = (length + part - 1) / part;
        steps = std::max<int64_t>(1, std::min(p.steps, AT_ONCE / std::max<int64_t>(1, bytes(part))));
        for (Spread& spread : spreads) spread.lay_out(p, rows(part));
    }

    // The rows of outputs that so many blocks reach into at most.
    int64_t rows(int64_t number) const {
        return std::min(p.height, (number * BLOCK + p.width - 2) / p.width + 1);
    }
    // The bytes of all sources that they see, in a step.
    int64_t bytes(int64_t number) const {
        int64_t found = 0;
        for (const Spread& spread : spreads) found += spread.size(rows(number));
        return found;
    }
    // What is read beyond all bands: tiles are loaded as a whole.
    static int64_t slack(const Spread& spread) { return filled_up(BLOCK * spread.pitch) + CHUNK; }

private:
    void join(const Source& s) {
        const auto same = [&](const Together& each) { return each.factors == s.factors; };
        auto found = std::find_if(all.begin(), all.end(), same);
        if (found == all.end()) found = all.insert(all.end(), {{}, s.factors});
        found->convolutions.push_back(spreads.size());
    }
};

// What a thread works with, one such desk at a time.
template <typename Tiles>
struct Desk {
    Tiles tiles;
    Vector<Band> bands;    // by convolution
    Vector<View> views;
    int32_t *v, *sent;     // [groups of outputs, blocks, 32, WIDTH]
    int32_t* sums;         // [32, WIDTH]: of several steps where positions are few
    int32_t* products[2];  // of one turn and the next: [summed up together: 2, planes, 32, 16]
    int32_t factors[BLOCK];
    uint8_t* memory;       // to unpack spikes

    explicit Desk(const Job& job) {
        const Population& p = job.p;
        const int64_t all = int64_t(job.outputs.size()) * job.part * BLOCK * WIDTH;
        const int64_t neurons = sums_alone(p) ? 0 : all, remembered = p.is_signed ? neurons : 0;
        const int64_t turn = int64_t(job.all.size()) * job.planes * 4 * SUMS, rows = job.rows(job.part);
        int64_t bytes = 0, unpacked = 0;
        for (const Spread& spread : job.spreads) {
            const int64_t size = spread.size(rows);
            bands.push_back({0, 0, nullptr, size});
            bytes += job.steps * size + job.slack(spread);
            unpacked = std::max(unpacked, desk_bytes(spread, rows, job.steps));
        }
        const int64_t numbers = 2 * turn + BLOCK * WIDTH + neurons + remembered;
        madd::kept.reserve(bytes + numbers * int64_t(sizeof(int32_t)) + unpacked);
        uint8_t* at = (uint8_t*)madd::kept.data();
        std::fill(at, at + bytes, 0);  // also what lies around the spikes
        for (size_t i = 0; i < bands.size(); ++i) {
            bands[i].bytes = at;
            at += job.steps * bands[i].size + job.slack(job.spreads[i]);
        }
        products[0] = (int32_t*)at, products[1] = products[0] + turn;
        sums = products[1] + turn;
        v = sums + BLOCK * WIDTH, sent = v + neurons;
        std::fill(v, sent + remembered, 0);  // lanes beyond the channels
        memory = (uint8_t*)(sent + remembered);
    }
};

}  // namespace amx
