// What differential neurons fire, in units of the population's grid: the rules of neurons/differential.py
// and neurons/dcgs.py. With v what a neuron is ahead of what it sent, and e what that is,
//
//     ahead = min(v, ceiling - e)
//     DIFFERENTIAL: ahead <- max(ahead, -e)
//     s = sign(ahead) * the largest size 2^j with |ahead| >= edges[j];  0 if there is none
//     DCGS: of a negative spike only such as have 2^j * amplitude <= e
//     v <- v - s * amplitude;  e <- e + s * amplitude
//
// Spikes are written as those of multilevel.h.

#pragma once

#include "planes.h"

namespace differential {

INLINE bool needed(const Population& p) { return p.firing_rule != INTEGRATE_AND_FIRE; }

// The rule at one time step; nothing where neurons have another one.
struct Rule {
    const int32_t* edges = nullptr;  // [sizes]
    int64_t sizes = 0;
    int32_t amplitude = 0;
    bool bounded = false;  // DCGS: the size of a negative spike, by what was sent

    Rule() = default;
    Rule(const Population& p, int64_t time) {
        if (!needed(p)) return;
        edges = p.edges + time * p.sizes, sizes = p.sizes, amplitude = p.amplitudes[time];
        bounded = p.firing_rule == DCGS;
    }
};

// The size of the spike, with its sign, of a neuron of channel c.
INLINE int32_t spike(const Population& p, const Rule& rule, int64_t c, int32_t v, int32_t sent) {
    int32_t ahead = p.ceiling ? std::min(v, p.ceiling[c] - sent) : v;
    if (!rule.bounded) ahead = std::max(ahead, -sent);
    const int32_t size = ahead < 0 ? -ahead : ahead;
    int32_t found = 0;
    for (int64_t j = 0; j < rule.sizes; ++j) {
        const bool allowed = !rule.bounded || ahead > 0 || sent >= rule.amplitude << j;
        if (size >= rule.edges[j] && allowed) found = 1 << j;
    }
    return ahead < 0 ? -found : ahead > 0 ? found : 0;
}

}  // namespace differential
