// What becomes of the sums of dense products (madd.h): they are rounded, currents are added, and neurons
// of any kind are advanced by them, or they are written as they are. Lanes of vectors are channels.

#pragma once

#include <cstdlib>

#include "differential.h"
#include "madd_unpack.h"
#include "madd_vectors.h"
#include "multilevel.h"

namespace madd {

constexpr int MOST_SIZES = MOST_BITS - 1;  // of a differential neuron's spike, and
constexpr int USUAL_SIZES = 4;             // what is quick

// Outputs computed together: `count` channels from `channel` on, in so many vectors after `before` others.
struct Outputs {
    int64_t channel, count, vectors, before;
};

// The numbers of a population's channels in the lanes of their vectors; in lanes beyond, `other`.
template <typename V>
Vector<int32_t> in_lanes(const Vector<Outputs>& outputs, const int32_t* numbers, int32_t other) {
    Vector<int32_t> found(outputs.size() * V::WIDTH, other);
    for (size_t i = 0; numbers && i < outputs.size(); ++i)
        std::copy_n(numbers + outputs[i].channel, outputs[i].count, found.begin() + i * V::WIDTH);
    return found;
}

// A window of some neurons: the positions of one block, of one group of outputs.
struct Neurons {
    const Outputs* outputs;
    int64_t image, block, positions;  // positions: that exist
    int32_t *v, *sent;                // [32, WIDTH]
};

// What integrate-and-fire neurons do, one vector of them; the equation is that of multilevel.h.
template <typename V>
struct IntegrateAndFire {
    using Ints = typename V::Ints;
    using Floats = typename V::Floats;
    static constexpr int64_t PLANES = MOST_BITS;
    static constexpr bool REMEMBERS = true;
    Ints threshold, top, levels;  // top: the largest potential to be told from larger ones
    Floats divisor;
    bool is_signed, to_zero;

    INLINE void set(IntegrateAndFire& to, const Population& p, const int32_t* thresholds, int64_t) {
        to.threshold = MADD_AT(V, thresholds);
        to.top = to.threshold * int32_t(p.levels + 1) - 1;
        to.levels = Ints{} + int32_t(p.levels);
        to.divisor = __builtin_convertvector(to.threshold, Floats);
        to.is_signed = p.is_signed, to.to_zero = p.reset_to_zero;
    }
    // The caller promises (levels + 1) * threshold <= 2^24: such integers, and whether the quotient of
    // two of them is below a whole number, are exact in float32.
    INLINE void fire(const IntegrateAndFire& n, Ints& v, Ints& sent, Ints& fired) {
        Ints within = v, back = n.is_signed ? sent : Ints{};  // spikes that may be taken back
        at_most<V>(within, n.top);
        at_most<V>(back, n.levels);
        at_least<V>(within, -back * n.threshold);
        const Floats quotient = __builtin_convertvector(within, Floats) / n.divisor;
        fired = __builtin_convertvector(quotient, Ints);  // towards 0
        fired += (Ints)(__builtin_convertvector(fired, Floats) > quotient);
        v -= fired * n.threshold;
        if (n.to_zero) v &= (Ints)(fired == 0);
        sent += fired;
    }
};

// The same where a neuron fires once or not at all: `fired` has all bits set, or none.
template <typename V, bool TO_ZERO>
struct Binary {
    using Ints = typename V::Ints;
    static constexpr int64_t PLANES = 1;
    static constexpr bool REMEMBERS = false;
    Ints threshold, below;

    INLINE void set(Binary& to, const Population&, const int32_t* thresholds, int64_t) {
        to.threshold = MADD_AT(V, thresholds), to.below = to.threshold - 1;
    }
    INLINE void fire(const Binary& n, Ints& v, Ints&, Ints& fired) {
        fired = (Ints)(v > n.below);
        v -= fired & (TO_ZERO ? v : n.threshold);
    }
};

// What differential neurons do at a step, one vector of them; the equations are those of differential.h.
// SIZES: of a spike, or more than there are; BOUNDED: whether those of negative ones are (DCGS).
template <typename V, int SIZES, bool BOUNDED>
struct Differential {
    using Ints = typename V::Ints;
    static constexpr int64_t PLANES = SIZES + 1;  // or more than there are, too
    static constexpr bool REMEMBERS = true;
    Ints ceiling;
    int32_t below[SIZES], less[SIZES];  // what is too small for a size; too little to be taken back
    int32_t amplitude;
    bool clipped;

    INLINE void set(Differential& to, const Population& p, const int32_t* ceilings, int64_t t) {
        const differential::Rule rule(p, t);
        for (int j = 0; j < SIZES; ++j) {  // nothing is fired where ahead is 0
            to.below[j] = j < rule.sizes ? std::max(rule.edges[j], 1) - 1 : INT32_MAX;
            to.less[j] = j < rule.sizes ? (rule.amplitude << j) - 1 : INT32_MAX;
        }
        to.ceiling = MADD_AT(V, ceilings), to.clipped = p.ceiling, to.amplitude = rule.amplitude;
    }
    INLINE void fire(const Differential& n, Ints& v, Ints& sent, Ints& fired) {
        Ints ahead = v;
        if (n.clipped) at_most<V>(ahead, n.ceiling - sent);
        if (!BOUNDED) at_least<V>(ahead, -sent);
        const Ints sign = ahead >> 31, size = (ahead ^ sign) - sign;
        fired = Ints{};
        for (int j = 0; j < SIZES; ++j) {
            const Ints own = Ints{} + (1 << j);  // the largest size is the last
            if (BOUNDED) {
                const Ints some = (Ints)(size > n.below[j]) & (~sign | (Ints)(sent > n.less[j]));
                fired = some < 0 ? own : fired;
            } else {
                fired = size > n.below[j] ? own : fired;
            }
        }
        fired = (fired ^ sign) - sign;
        const Ints change = fired * n.amplitude;
        v -= change, sent += change;
    }
};

// Divides numbers by 2^shift, to the nearest (ties to even).
template <typename V>
INLINE void round_to_even(typename V::Ints& numbers, int shift) {
    using Ints = typename V::Ints;
    const Ints floor = numbers >> shift, rest = numbers & ((1 << shift) - 1);
    numbers = floor - (Ints)(rest + (floor & 1) > 1 << (shift - 1));
}

// One vector of a block's neurons, that begins at `lane`, at a step: what they receive, their potentials and
// what was sent, each [32, WIDTH]. If ROUNDS, what is received is divided by 2^shift before.
template <typename V, typename Rule, bool ROUNDS>
struct Step {
    using Ints = typename V::Ints;
    using Words = typename V::Words;
    const int32_t* received;
    int32_t *v, *sent;
    int shift;
    bool remembers;
    Rule rule;

    // Advances those at a position.
    INLINE void advance(const Step& s, int64_t position, Ints& fired) {
        const int64_t own = position * V::WIDTH;
        Ints received = MADD_AT(V, s.received + own), v = MADD_AT(V, s.v + own), sent{};
        if (ROUNDS) round_to_even<V>(received, s.shift);
        if (Rule::REMEMBERS && s.remembers) sent = MADD_AT(V, s.sent + own);
        v += received;
        Rule::fire(s.rule, v, sent, fired);
        MADD_AT(V, s.v + own) = v;
        if (Rule::REMEMBERS && s.remembers) MADD_AT(V, s.sent + own) = sent;
    }

    // Advances all, and writes the words of their spikes, [planes, WIDTH].
    INLINE void run(const Step& given, int64_t positions, uint32_t* words) {
        const Step s = given;  // no address of it is known: it stays in registers
        Words found[Rule::PLANES] = {};
        Ints fired;
        if constexpr (Rule::PLANES == 1) {
            Words bit = Words{} + 1u;
            for (int64_t i = 0; i < positions; ++i, bit += bit)
                advance(s, i, fired), found[0] |= (Words)fired & bit;
        } else {
            for (int64_t j = std::min<int64_t>(positions, 8) - 1; j >= 0; --j) {
                Words bytes{};  // the spikes at positions j, j + 8, j + 16, j + 24
                for (int i = 0; i < BLOCK && j + i < positions; i += 8)
                    advance(s, j + i, fired), bytes |= ((Words)fired & 255u) << i;
                for (int k = 0; k < Rule::PLANES; ++k)
                    found[k] = found[k] << 1 | (bytes >> k & 0x01010101u);
            }
        }
        for (int64_t k = 0; k < Rule::PLANES; ++k) *(Words*)(words + k * V::WIDTH) = found[k];
    }
};

// The largest |potential| of a block's neurons.
template <typename V>
INLINE int32_t largest(const Neurons& n) {
    int32_t found = 0;
    for (int64_t i = 0; i < n.positions; ++i)
        for (int64_t c = 0; c < n.outputs->count; ++c)
            found = std::max(found, std::abs(n.v[i * V::WIDTH + c]));
    return found;
}

// Advances all vectors of a block's neurons by step t. lanes: thresholds or ceilings [WIDTH]. Writes their
// words.
template <typename V, typename Rule, bool ROUNDS>
INLINE void fire_all(const Population& p, const Neurons& n, const int32_t* lanes, int64_t t,
                     const int32_t* sums) {
    const int64_t planes = multilevel::own_planes(p);
    uint32_t words[MOST_BITS * V::WIDTH];
    for (int64_t lane = 0; lane < n.outputs->vectors * V::LANES; lane += V::LANES) {
        using Own = Step<V, Rule, ROUNDS>;
        Own step{sums + lane, n.v + lane, n.sent + lane, int(p.shift), bool(p.is_signed), {}};
        Rule::set(step.rule, p, lanes + lane, t);
        Own::run(step, n.positions, words + lane);
    }
    const int64_t block = n.image * blocks(p.height * p.width) + n.block;
    uint32_t* to = p.spikes + (block * p.steps + t) * planes * p.channels + n.outputs->channel;
    for (int64_t k = 0; k < planes; ++k)
        copy_lanes<V>((int32_t*)words + k * V::WIDTH, n.outputs->count, (int32_t*)to + k * p.channels);
    if (p.peaks) raise_peak(p.peaks + n.image, largest<V>(n));
}

template <typename V, typename Rule>
INLINE void fire(const Population& p, const Neurons& n, const int32_t* lanes, int64_t t, bool rounds,
                 const int32_t* sums) {
    if (rounds)
        fire_all<V, Rule, true>(p, n, lanes, t, sums);
    else
        fire_all<V, Rule, false>(p, n, lanes, t, sums);
}

// The same for differential neurons of any number of sizes.
template <typename V, bool BOUNDED>
INLINE void fire_sizes(const Population& p, const Neurons& n, const int32_t* lanes, int64_t t,
                       bool rounds, const int32_t* sums) {
    if (p.sizes <= USUAL_SIZES)
        fire<V, Differential<V, USUAL_SIZES, BOUNDED>>(p, n, lanes, t, rounds, sums);
    else
        fire<V, Differential<V, MOST_SIZES, BOUNDED>>(p, n, lanes, t, rounds, sums);
}

// Adds currents [channels, positions] of an image.
template <typename V>
INLINE void add_currents(const Population& p, const Neurons& n, const int32_t* from, int32_t* sums) {
    const int64_t positions = p.height * p.width;
    from += n.outputs->channel * positions + n.block * BLOCK;
    for (int64_t c = 0; c < n.outputs->count; ++c, from += positions)
        for (int64_t i = 0; i < n.positions; ++i) sums[i * V::WIDTH + c] += from[i];
}

template <typename V>
INLINE void round_sums(const Neurons& n, int64_t shift, int32_t* sums) {
    for (int64_t i = 0; i < n.positions * V::WIDTH; i += V::LANES)
        round_to_even<V>(MADD_AT(V, sums + i), int(shift));
}

// Adds a stream [positions, channels] of an image.
template <typename V>
INLINE void add_stream(const Population& p, const Neurons& n, const int32_t* from, int32_t* sums) {
    const int64_t count = n.outputs->count;
    from += n.block * BLOCK * p.channels + n.outputs->channel;
    for (int64_t i = 0; i < n.positions; ++i, from += p.channels, sums += V::WIDTH) {
        int64_t c = 0;
        for (; c + V::LANES <= count; c += V::LANES) MADD_AT(V, sums + c) += MADD_AT(V, from + c);
        for (; c < count; ++c) sums[c] += from[c];
    }
}

// Writes sums divided by 2^shift as numbers of 16 bits.
template <typename V>
INLINE void write_numbers(const Neurons& n, int shift, int64_t channels, const int32_t* sums,
                          int16_t* to) {
    const int64_t count = n.outputs->count;
    for (int64_t i = 0; i < n.positions; ++i, sums += V::WIDTH, to += channels)
        for (int64_t c = 0; c < count; c += V::LANES) {
            typename V::Ints own = MADD_AT(V, sums + c);
            if (shift) round_to_even<V>(own, shift);
            const auto numbers = __builtin_convertvector(own, typename V::Shorts);
            if (c + V::LANES <= count)
                *(typename V::Shorts*)(to + c) = numbers;
            else
                std::memcpy(to + c, &numbers, (count - c) * sizeof(int16_t));
        }
}

// Writes sums as they are asked for; first: the place of the block's first position.
template <typename V>
INLINE void write_sums(const Population& p, const Neurons& n, int64_t first, const int32_t* sums) {
    const int64_t to = first * p.channels + n.outputs->channel, count = n.outputs->count;
    for (int64_t i = 0; p.sums && i < n.positions; ++i)
        copy_lanes<V>(sums + i * V::WIDTH, count, p.sums + to + i * p.channels);
    if (p.numbers) write_numbers<V>(n, int(p.numbers_shift), p.channels, sums, p.numbers + to);
}

// What a step's sums of synapses and biases lead to. lanes: thresholds or ceilings [WIDTH].
template <typename V>
INLINE void advance(const Population& p, const Neurons& n, const int32_t* lanes, int64_t t,
                    int32_t* sums) {
    const int64_t positions = p.height * p.width, neurons = positions * p.channels;
    const int64_t step = n.image * p.steps + t;
    const bool more = p.constant || p.current || p.stream || sums_alone(p);  // follows the rounding
    const bool rounds = p.shift && !more;
    if (p.shift && more) round_sums<V>(n, p.shift, sums);
    if (p.constant) add_currents<V>(p, n, p.constant + n.image * neurons, sums);
    if (p.current) add_currents<V>(p, n, p.current + step * neurons, sums);
    if (p.stream) add_stream<V>(p, n, p.stream + step * neurons, sums);
    if (sums_alone(p))
        write_sums<V>(p, n, step * positions + n.block * BLOCK, sums);
    else if (p.firing_rule == DIFFERENTIAL)
        fire_sizes<V, false>(p, n, lanes, t, rounds, sums);
    else if (p.firing_rule == DCGS)
        fire_sizes<V, true>(p, n, lanes, t, rounds, sums);
    else if (p.levels > 1 || p.is_signed)
        fire<V, IntegrateAndFire<V>>(p, n, lanes, t, rounds, sums);
    else if (p.reset_to_zero)
        fire<V, Binary<V, true>>(p, n, lanes, t, rounds, sums);
    else
        fire<V, Binary<V, false>>(p, n, lanes, t, rounds, sums);
}

// The same, compiled for the instruction set of V.
template <typename V>
void advance_any(const Population& p, const Neurons& n, const int32_t* lanes, int64_t t,
                 int32_t* sums);

// Calls visit(neurons in the image's order, those in [groups of outputs, blocks, 32, WIDTH], how many lie
// together) for all neurons of `part` blocks of an image, from block `first` on.
template <typename V, typename Visit>
INLINE void each_neuron(const Population& p, const Vector<Outputs>& outputs, int64_t first, int64_t part,
                        const Visit& visit) {
    const int64_t positions = p.height * p.width, past = std::min(positions, (first + part) * BLOCK);
    for (size_t o = 0; o < outputs.size(); ++o)
        for (int64_t at = first * BLOCK; at < past; ++at)
            visit(at * p.channels + outputs[o].channel,
                  (int64_t(o) * part * BLOCK + at - first * BLOCK) * V::WIDTH, outputs[o].count);
}

// Copies their potentials and what was sent to where they are advanced.
template <typename V>
INLINE void take(const Population& p, const Vector<Outputs>& outputs, int64_t image, int64_t first,
          int64_t part, int32_t* v, int32_t* sent) {
    const int64_t neurons = p.height * p.width * p.channels;
    each_neuron<V>(p, outputs, first, part, [&](int64_t from, int64_t to, int64_t count) {
        take_potentials<copy_lanes<V>>(p, image, neurons, from, from + count, v + to);
        take_emitted<copy_lanes<V>>(p, image, neurons, from, from + count, sent + to);
    });
}

template <typename V>
INLINE void keep(const Population& p, const Vector<Outputs>& outputs, int64_t image, int64_t first,
          int64_t part, const int32_t* v, const int32_t* sent) {
    const int64_t neurons = p.height * p.width * p.channels;
    each_neuron<V>(p, outputs, first, part, [&](int64_t to, int64_t from, int64_t count) {
        keep_potentials<copy_lanes<V>>(p, image, neurons, to, to + count, v + from);
        keep_emitted<copy_lanes<V>>(p, image, neurons, to, to + count, sent + from);
    });
}

}  // namespace madd
