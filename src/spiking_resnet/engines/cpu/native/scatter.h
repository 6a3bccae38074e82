// The kernel for every machine and every geometry: step by step, each spike adds its rows of weights
// to the potentials it reaches, then every neuron is advanced.

#pragma once

#include "differential.h"
#include "kernel.h"
#include "multilevel.h"

namespace scatter {

constexpr int64_t LANES = 16;
typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// Which outputs each row (or column) of a source reaches, and through which row of its kernel.
struct Axis {
    Vector<int64_t> first;           // [inputs + 1]: where each input's entries begin
    Vector<int64_t> kernel, output;  // the entries, outputs ascending
    Axis(int64_t inputs, int64_t outputs, int64_t size, int64_t stride, int64_t padding,
         int64_t dilation) {
        for (int64_t at = 0; at < inputs; ++at) {
            first.push_back(kernel.size());
            for (int64_t k = size - 1; k >= 0; --k) {
                const int64_t reached = at + padding - k * dilation;
                if (reached < 0 || reached % stride || reached / stride >= outputs) continue;
                kernel.push_back(k);
                output.push_back(reached / stride);
            }
        }
        first.push_back(kernel.size());
    }
};

// Potentials that a spike reaches, side by side, and where their weights begin.
struct Reach {
    int64_t to, weights, count;
};

// Whether the columns of a source's kernel are stored last first, and the weights it has.
INLINE bool reversed(const Source& s) {
    return s.groups == 1 && s.stride_width == 1 && s.dilation_width == 1;
}

INLINE int64_t weights_of(const Source& s, const Population& p) {
    return s.identity ? 0 : p.channels * (s.channels / s.groups) * s.kernel_height * s.kernel_width;
}

// A source, and what the spikes of each position reach. Columns that a spike reaches are neighbours,
// in the order of the weights (kernel columns are stored reversed), where nothing lies between them:
// then they are one run of additions.
struct Synapses {
    const Source* source;
    const int32_t* weights;  // [kernel height, channels, kernel width, outputs / groups]
    Vector<int64_t> first;  // [positions + 1]
    Vector<Reach> reaches;

    Synapses(const Source& s, const Population& p, const int32_t* rows_of_weights)
        : source(&s), weights(rows_of_weights) {
        if (s.identity) return;
        const Axis rows(s.height, p.height, s.kernel_height, s.stride_height, s.padding_height,
                        s.dilation_height);
        const Axis columns(s.width, p.width, s.kernel_width, s.stride_width, s.padding_width,
                           s.dilation_width);
        const bool joined = reversed(s);
        const int64_t out = p.channels / s.groups, row = s.kernel_width * out;
        for (int64_t h = 0; h < s.height; ++h)
            for (int64_t w = 0; w < s.width; ++w) {
                first.push_back(reaches.size());
                const int64_t begin = columns.first[w], end = columns.first[w + 1];
                for (int64_t i = rows.first[h]; i < rows.first[h + 1]; ++i) {
                    const int64_t line = rows.output[i] * p.width;
                    const int64_t weights = rows.kernel[i] * s.channels * row;
                    for (int64_t k = begin; k < end; k += joined ? end - begin : 1) {
                        const int64_t column = columns.kernel[k];
                        const int64_t skipped = joined ? s.kernel_width - 1 - column : column;
                        reaches.push_back({(line + columns.output[k]) * p.channels,
                                           weights + skipped * out,
                                           joined ? (end - begin) * out : out});
                    }
                }
            }
        first.push_back(reaches.size());
    }
};

// Adds a row of weights, times `factor` if there are MULTILEVEL.
template <bool MULTILEVEL>
INLINE void add_row(int32_t* __restrict to, const int32_t* __restrict row, int64_t count,
                    int32_t factor) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        *(Ints*)(to + i) += MULTILEVEL ? *(const Ints*)(row + i) * factor : *(const Ints*)(row + i);
    for (; i < count; ++i) to[i] += MULTILEVEL ? row[i] * factor : row[i];
}

// The spikes of a channel at position `lane` of a block. words: of the channel's first plane.
INLINE int32_t number_at(const Population& p, const Source& s, const uint32_t* words, int lane) {
    int32_t number = 0;
    for (int64_t k = 0; k < p.planes; ++k)
        number += int32_t(words[k * s.channels] >> lane & 1) * multilevel::weight(p, k);
    return number;
}

// Adds what `factor` spikes of channel c at a position bring.
template <bool MULTILEVEL>
INLINE void bring(const Synapses& synapses, const Population& p, int64_t place, int64_t c,
                  int32_t factor, int32_t* to) {
    const Source& s = *synapses.source;
    if (s.identity) {
        to[place * p.channels + c] += s.weights[c] * factor;
        return;
    }
    const int64_t out = p.channels / s.groups;
    const int64_t shift = s.groups == 1 ? 0 : c / (s.channels / s.groups) * out;
    const int32_t* const weights = synapses.weights + c * s.kernel_width * out;
    const Reach* const end = synapses.reaches.data() + synapses.first[place + 1];
    for (const Reach* r = synapses.reaches.data() + synapses.first[place]; r < end; ++r)
        add_row<MULTILEVEL>(to + r->to + shift, weights + r->weights, r->count, factor);
}

// Adds to `to`, the potentials or sums of one image, what the spikes of one step bring, each `times` so
// much. spikes: the image's words [blocks, steps, planes, channels] from that step on.
template <bool MULTILEVEL>
INLINE void deliver(const Synapses& synapses, const Population& p, const uint32_t* spikes,
                    int32_t times, int32_t* to) {
    const Source& s = *synapses.source;
    const int64_t length = blocks(s.height * s.width);
    for (int64_t b = 0; b < length; ++b, spikes += p.steps * (MULTILEVEL ? p.planes : 1) * s.channels)
        for (int64_t c = 0; c < s.channels; ++c) {
            uint32_t bits = spikes[c];
            for (int64_t k = 1; MULTILEVEL && k < p.planes; ++k) bits |= spikes[k * s.channels + c];
            for (; bits; bits &= bits - 1) {
                const int lane = __builtin_ctz(bits);
                const int32_t factor = MULTILEVEL ? number_at(p, s, spikes + c, lane) * times : 1;
                bring<MULTILEVEL>(synapses, p, b * BLOCK + lane, c, factor, to);
            }
        }
}

// The same for numbers [positions, channels].
INLINE void deliver_numbers(const Synapses& synapses, const Population& p, const int16_t* numbers,
                            int32_t times, int32_t* to) {
    const Source& s = *synapses.source;
    for (int64_t place = 0; place < s.height * s.width; ++place)
        for (int64_t c = 0; c < s.channels; ++c, ++numbers)
            if (*numbers) bring<true>(synapses, p, place, c, *numbers * times, to);
}

// Advances the neurons of one image by one step, to `spikes`: its words from that step on. Returns
// the number of spikes.
INLINE int64_t fire(const Population& p, int32_t* __restrict v, const int32_t* __restrict constant,
                    const int32_t* __restrict current, uint32_t* __restrict spikes, int64_t* most) {
    const int64_t positions = p.height * p.width;
    int64_t count = 0;
    int32_t largest = 0;
    for (int64_t place = 0; place < positions; ++place) {
        uint32_t* words = spikes + place / BLOCK * p.steps * p.channels;
        if (place % BLOCK == 0) std::memset(words, 0, p.channels * sizeof(uint32_t));
        for (int64_t c = 0; c < p.channels; ++c, ++v) {
            int32_t charged = *v + p.bias[c];
            if (constant) charged += constant[c * positions + place];
            if (current) charged += current[c * positions + place];
            if (charged >= p.threshold[c]) {
                charged = p.reset_to_zero ? 0 : charged - p.threshold[c];
                words[c] |= uint32_t{1} << place % BLOCK;
                ++count;
            }
            *v = charged;
            const int32_t size = charged < 0 ? -charged : charged;
            largest = size > largest ? size : largest;
        }
    }
    if (most) raise_peak(most, largest);
    return count;
}

// What reaches a neuron beside its spikes; null: nothing.
struct Currents {
    int64_t positions, channels;
    const int32_t *constant, *current;  // [channels, positions]
    const int32_t* stream;              // [positions, channels]

    Currents(const Population& p, int64_t image, int64_t t)
        : positions(p.height * p.width), channels(p.channels) {
        const int64_t neurons = positions * channels, step = (image * p.steps + t) * neurons;
        constant = p.constant ? p.constant + image * neurons : nullptr;
        current = p.current ? p.current + step : nullptr;
        stream = p.stream ? p.stream + step : nullptr;
    }
    int32_t at(int64_t place, int64_t c) const {
        const int64_t neuron = c * positions + place;
        return (constant ? constant[neuron] : 0) + (current ? current[neuron] : 0) +
               (stream ? stream[place * channels + c] : 0);
    }
};

// Biases as sums [positions, channels] of an image.
INLINE void begin_sums(const Population& p, int32_t* sums) {
    for (int64_t place = 0; place < p.height * p.width; ++place, sums += p.channels)
        std::memcpy(sums, p.bias, p.channels * sizeof(int32_t));
}

// Rounds sums, and adds the currents.
INLINE void end_sums(const Population& p, const Currents& currents, int32_t* sums) {
    const int64_t positions = p.height * p.width;
    for (int64_t place = 0; place < positions; ++place)
        for (int64_t c = 0; c < p.channels; ++c, ++sums)
            *sums = rounded_to_even(*sums, p.shift) + currents.at(place, c);
}

// The same for neurons of any kind. emitted: their spikes so far, or what they sent, if they may take it
// back. sums: what they receive; null: bias and currents, and potentials have the rest already.
INLINE void fire_any(const Population& p, int64_t t, int32_t* __restrict v,
                     int32_t* __restrict emitted, const int32_t* __restrict sums,
                     const Currents& currents, uint32_t* __restrict spikes, int64_t* most) {
    const int64_t positions = p.height * p.width, planes = multilevel::own_planes(p);
    const differential::Rule rule(p, t);
    int32_t largest = 0;
    for (int64_t place = 0; place < positions; ++place) {
        uint32_t* words = spikes + place / BLOCK * p.steps * planes * p.channels;
        if (place % BLOCK == 0) std::memset(words, 0, planes * p.channels * sizeof(uint32_t));
        for (int64_t c = 0; c < p.channels; ++c, ++v) {
            const int32_t charged = *v + (sums ? *sums++ : p.bias[c] + currents.at(place, c));
            int32_t fired, unit;
            if (differential::needed(p)) {
                fired = differential::spike(p, rule, c, charged, *emitted);
                unit = rule.amplitude;
                *emitted++ += fired * unit;
            } else {
                const int32_t least = p.is_signed ? multilevel::least(p, *emitted) : 0;
                fired = multilevel::spikes(charged, p.threshold[c], least, int32_t(p.levels));
                unit = p.threshold[c];
                if (p.is_signed) *emitted++ += fired;
            }
            for (int64_t k = 0; k < planes; ++k)
                words[k * p.channels + c] |= (uint32_t(fired) >> k & 1) << place % BLOCK;
            *v = fired && p.reset_to_zero ? 0 : charged - fired * unit;
            largest = std::max(largest, *v < 0 ? -*v : *v);
        }
    }
    if (most) raise_peak(most, largest);
}

// Whether only the general form of what follows will do.
INLINE bool general(const Population& p, const Source* sources, int64_t number) {
    if (multilevel::needed(p) || differential::needed(p) || p.shift || sums_alone(p) || p.stream)
        return true;
    return std::any_of(sources, sources + number,
                       [](const Source& s) { return s.numbers || s.factors; });
}

template <bool GENERAL>
INLINE void deliver_all(const Population& p, const Vector<Synapses>& synapses, int64_t image, int64_t t,
                        int32_t* to) {
    for (const Synapses& each : synapses) {
        const Source& s = *each.source;
        const int64_t positions = s.height * s.width;
        const int32_t times = GENERAL && s.factors ? s.factors[t] : 1;
        if (GENERAL && s.numbers) {
            const int64_t first = (image * p.steps + t) * positions * s.channels;
            deliver_numbers(each, p, s.numbers + first, times, to);
        } else {
            const int64_t first = (image * blocks(positions) * p.steps + t) * (GENERAL ? p.planes : 1);
            deliver<GENERAL>(each, p, s.spikes + first * s.channels, times, to);
        }
    }
}

// The sums of a window of one image, and no neurons.
INLINE void sum_image(const Population& p, const Vector<Synapses>& synapses, int64_t image) {
    const int64_t neurons = p.height * p.width * p.channels;
    Vector<int32_t> memory(p.sums ? 0 : neurons);
    for (int64_t t = 0; t < p.steps; ++t) {
        const int64_t first = (image * p.steps + t) * neurons;
        int32_t* sums = p.sums ? p.sums + first : memory.data();
        begin_sums(p, sums);
        deliver_all<true>(p, synapses, image, t, sums);
        end_sums(p, Currents(p, image, t), sums);
        for (int64_t i = 0; p.numbers && i < neurons; ++i)
            p.numbers[first + i] = int16_t(rounded_to_even(sums[i], p.numbers_shift));
    }
}

template <bool GENERAL>
INLINE void run_image(const Population& p, const Vector<Synapses>& synapses, int64_t image) {
    if (GENERAL && sums_alone(p)) return sum_image(p, synapses, image);
    const int64_t neurons = p.height * p.width * p.channels, length = blocks(p.height * p.width);
    const int64_t own = GENERAL ? multilevel::own_planes(p) : 1;
    Vector<int32_t> memory(neurons), emitted(GENERAL && p.is_signed ? neurons : 0);
    Vector<int32_t> sums(GENERAL && p.shift ? neurons : 0);
    int32_t* v = memory.data();
    take_potentials(p, image, neurons, 0, neurons, v);
    take_emitted(p, image, neurons, 0, neurons, emitted.data());
    int64_t count = 0;
    for (int64_t t = 0; t < p.steps; ++t) {
        const Currents currents(p, image, t);
        uint32_t* spikes = p.spikes + (image * length * p.steps + t) * own * p.channels;
        int64_t* most = p.peaks ? p.peaks + image : nullptr;
        if (GENERAL && p.shift) begin_sums(p, sums.data());
        deliver_all<GENERAL>(p, synapses, image, t, GENERAL && p.shift ? sums.data() : v);
        if (GENERAL && p.shift) end_sums(p, currents, sums.data());
        if constexpr (GENERAL)
            fire_any(p, t, v, emitted.data(), p.shift ? sums.data() : nullptr, currents, spikes, most);
        else
            count += fire(p, v, currents.constant, currents.current, spikes, most);
    }
    keep_potentials(p, image, neurons, 0, neurons, v);
    keep_emitted(p, image, neurons, 0, neurons, emitted.data());
    if constexpr (GENERAL)
        multilevel::count(p, image, p.spikes + image * length * p.steps * own * p.channels,
                          length * p.steps);
    else
        p.counts[image] += count;
}

template <bool GENERAL>
void run_portable(const Population& p, const Vector<Synapses>& synapses, int64_t image) {
    run_image<GENERAL>(p, synapses, image);
}

#if defined(__x86_64__)
template <bool GENERAL>
__attribute__((target("avx2,bmi,bmi2,popcnt"))) void run_avx2(
    const Population& p, const Vector<Synapses>& synapses, int64_t image) {
    run_image<GENERAL>(p, synapses, image);
}
#endif

template <auto PLAIN, auto ANY>
void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    Vector<Synapses> synapses;
    const int32_t* weights = (const int32_t*)p.tables;
    for (int64_t i = 0; i < number; ++i) {
        synapses.emplace_back(sources[i], p, weights);
        weights += weights_of(sources[i], p);
    }
    const auto run_one = general(p, sources, number) ? ANY : PLAIN;
    share(threads, p.images, [&](int64_t image) { run_one(p, synapses, image); });
}

int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    int64_t weights = 0;
    for (int64_t i = 0; i < number; ++i) weights += weights_of(sources[i], p);
    return weights * int64_t(sizeof(int32_t));
}

// Writes the weights of every source as rows of the outputs that one spike reaches.
void prepare(const Population& p, const Source* sources, int64_t number, void* tables) {
    int32_t* to = (int32_t*)tables;
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        if (s.identity) continue;
        const int64_t inner = s.channels / s.groups, out = p.channels / s.groups;
        const int64_t taps = s.kernel_height * s.kernel_width;
        for (int64_t ky = 0; ky < s.kernel_height; ++ky)
            for (int64_t c = 0; c < s.channels; ++c)
                for (int64_t k = 0; k < s.kernel_width; ++k) {
                    const int64_t kx = reversed(s) ? s.kernel_width - 1 - k : k;
                    const int32_t* from =
                        s.weights + (c / inner * out * inner + c % inner) * taps +
                        ky * s.kernel_width + kx;
                    for (int64_t o = 0; o < out; ++o) *to++ = from[o * inner * taps];
                }
    }
}

void work(const Population& p, const Source* sources, int64_t number, const double* rates,
          double* amounts) {
    const double neurons = double(p.height * p.width * p.channels);
    const bool any = general(p, sources, number);
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        const double each = s.identity ? 1.0 : double(weights_of(s, p)) / p.channels;
        const double runs = s.identity ? 1 : s.kernel_height * (reversed(s) ? 1 : s.kernel_width);
        const double spikes = double(s.height * s.width * s.channels) * p.planes * rates[i];
        amounts[0] += neurons * p.planes * each * rates[i];
        amounts[1] += spikes * runs;
    }
    amounts[any ? 3 : 2] = neurons * (any && !sums_alone(p) ? multilevel::own_planes(p) : 1);
}

constexpr Kernel kernel(const char* name, InstructionSet set, decltype(Kernel::run) run) {
    return {
        name, set, BY_POSITION, EVERYTHING,
        {"synapse of a spike", "run of a spike", "neuron", "bit of a neuron of any kind"},
        nullptr, table_bytes, prepare, work, run,
    };
}

constexpr Kernel PORTABLE_KERNEL =
    kernel("scatter-portable", PORTABLE, run<run_portable<false>, run_portable<true>>);

#if defined(__x86_64__)
constexpr Kernel AVX2_KERNEL =
    kernel("scatter-avx2", AVX2_SET, run<run_avx2<false>, run_avx2<true>>);
#endif

}  // namespace scatter
