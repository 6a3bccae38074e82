// The kernel of dense products: spikes, whatever their size, and other numbers of 16 bits, times weights
// of 16 bits. Sums of 32 bits stay in registers: a few rows of numbers (what so many outputs see) times
// two vectors of weights. The neurons follow while their sums are in the first cache.
//
// The weights of two vectors of outputs stay in the caches while all positions of a part of an image and
// several time steps pass by; this part is so small that its numbers stay in the second cache.

#pragma once

#include "madd_advance.h"
#include "madd_unpack.h"
#include "madd_vectors.h"

namespace madd {

constexpr int64_t LARGEST = 32767;             // of a weight, without its sign: no two products of
                                               // numbers of 16 bits and such weights exceed 32 bits
constexpr int64_t PART = 1 << 16;              // numbers of a part of an image in a step, about, and
constexpr int64_t CHUNK = 1 << 16;             // in the steps that pass by at once
constexpr int TOGETHER = 4;                    // rows that one weight of each channel serves
constexpr int64_t SLACK = 64;                   // numbers after the last, read and ignored
constexpr int64_t EXACT = 1 << 24;             // integers that float32 holds

// Numbers times weights: rows of numbers, each times its factor, are added to rows of sums.
struct Tile {
    const int16_t* const* rows;
    const int32_t* factors;
    const Run* runs;
    int64_t number;  // of runs
    const int32_t* weights;  // [pairs of all runs, vectors, lanes]
    int32_t* sums;           // [rows, WIDTH]
};

template <typename V, int ROWS, int WIDE>
INLINE void multiply(const Tile& tile) {
    using Ints = typename V::Ints;
    Ints sums[ROWS][WIDE];
    for (int r = 0; r < ROWS; ++r)
        for (int i = 0; i < WIDE; ++i) sums[r][i] = Ints{};
    const int32_t* weights = tile.weights;
    for (const Run* run = tile.runs; run < tile.runs + tile.number; ++run) {
        const Pair* from[ROWS];
        for (int r = 0; r < ROWS; ++r) from[r] = (const Pair*)(tile.rows[r] + run->offset);
        for (int64_t k = 0; k < run->pairs; ++k, weights += WIDE * V::LANES) {
            Ints own[WIDE];
            for (int i = 0; i < WIDE; ++i) own[i] = at<V>(weights + i * V::LANES);
            for (int r = 0; r < ROWS; ++r) {
                const Ints numbers = Ints{} + from[r][k];
                for (int i = 0; i < WIDE; ++i) V::add(sums[r][i], numbers, own[i]);
            }
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int i = 0; i < WIDE; ++i)
            at<V>(tile.sums + r * V::WIDTH + i * V::LANES) += sums[r][i] * tile.factors[r];
}

template <typename V, int ROWS>
INLINE void multiply_tile(const Tile& tile, int64_t rows, int64_t vectors) {
    if (rows == ROWS)
        vectors == 1 ? multiply<V, ROWS, 1>(tile) : multiply<V, ROWS, VECTORS>(tile);
    else if constexpr (ROWS > 1)
        multiply_tile<V, ROWS - 1>(tile, rows, vectors);
}

// Compiled for the instruction set of V.
template <typename V>
void multiply_any(const Tile& tile, int64_t rows, int64_t vectors);

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

// What all threads work by.
template <typename V>
struct Job {
    const Population& p;
    const Source* const sources;
    Vector<Outputs> outputs;
    Vector<View> views;              // of the sources
    Vector<const int32_t*> weights;  // of each: [outputs: [pairs, vectors, lanes]]; identity: [WIDTH] each
    Vector<Vector<int32_t>> gains;   // of identities, in lanes
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
            at += pairs_of(s) * vectors_of<V>(p, sources, number) * V::LANES;
        }
        length = blocks(p.height * p.width);
        part = (length - 1) / bands_of(p.images, length, threads) + 1;
        while (part > 1 && numbers(part) > PART) part = (part + 1) / 2;
        parts = (length + part - 1) / part;
        steps = std::max<int64_t>(1, std::min(p.steps, CHUNK / std::max<int64_t>(1, numbers(part))));
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
    uint32_t* halves;
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
        halves = (uint32_t*)sums + BLOCK * V::WIDTH;
        int16_t* at = (int16_t*)(halves + words);
        std::fill(at, at + numbers, 0);  // and what lies around the positions
        for (Band& band : bands) band.numbers = at, at += job.steps * band.size + SLACK;
    }
};

// Calls visit(neurons in the image's order, those in the desk's order, how many lie together) for all
// of a part of an image, from block `first` on.
template <typename V, typename Visit>
INLINE void each_neuron(const Job<V>& job, int64_t first, const Visit& visit) {
    const Population& p = job.p;
    const int64_t positions = p.height * p.width, past = std::min(positions, (first + job.part) * BLOCK);
    for (size_t o = 0; o < job.outputs.size(); ++o)
        for (int64_t at = first * BLOCK; at < past; ++at)
            visit(at * p.channels + job.outputs[o].channel,
                  (int64_t(o) * job.part * BLOCK + at - first * BLOCK) * V::WIDTH, job.outputs[o].count);
}

// Copies potentials and what was sent to the desk.
template <typename V>
void take(const Job<V>& job, Desk<V>& desk, int64_t image, int64_t first) {
    const Population& p = job.p;
    const int64_t neurons = p.height * p.width * p.channels;
    each_neuron(job, first, [&](int64_t from, int64_t to, int64_t count) {
        take_potentials(p, image, neurons, from, from + count, desk.v + to);
        take_emitted(p, image, neurons, from, from + count, desk.sent + to);
    });
}

template <typename V>
void keep(const Job<V>& job, const Desk<V>& desk, int64_t image, int64_t first) {
    const Population& p = job.p;
    const int64_t neurons = p.height * p.width * p.channels;
    each_neuron(job, first, [&](int64_t to, int64_t from, int64_t count) {
        keep_potentials(p, image, neurons, to, to + count, desk.v + from);
        keep_emitted(p, image, neurons, to, to + count, desk.sent + from);
    });
}

// The channel of a source from which on outputs see its numbers.
INLINE int64_t first_channel(const Source& s, const Population& p, const Outputs& outputs) {
    if (channelwise(s, p)) return outputs.channel;
    return outputs.channel / (p.channels / s.groups) * (s.channels / s.groups);
}

// Lists the numbers that a block's neurons see at so many steps of the desk's, and their factors. start:
// the first step in the window.
template <typename V>
INLINE void list_rows(const Job<V>& job, Desk<V>& desk, size_t source, const Neurons& n,
                      int64_t start, int64_t step, int64_t steps) {
    const View& view = job.views[source];
    const Source& s = *view.source;
    const Band& band = desk.bands[source];
    const int64_t* from = view.start.data() + n.block * BLOCK;
    const int64_t first = first_channel(s, job.p, *n.outputs) - band.first * view.row();
    for (int64_t t = 0, r = 0; t < steps; ++t) {
        const int16_t* numbers = band.at(step + t) + first;
        const int32_t factor = s.factors ? s.factors[start + t] : 1;
        for (int64_t i = 0; i < n.positions; ++i, ++r)
            desk.rows[r] = numbers + from[i], desk.factors[r] = factor;
    }
}

// Adds what some rows of numbers bring, through one weight for each position of the kernel. weights:
// [runs, vectors, lanes], as others with nothing for the second number of a pair.
template <typename V, int ROWS>
INLINE void add_channels(const View& v, const int16_t* const* rows, const int32_t* weights,
                         const int32_t* factors, int64_t vectors, int32_t* sums) {
    using Ints = typename V::Ints;
    for (int64_t lane = 0; lane < vectors * V::LANES; lane += V::LANES) {
        Ints found[ROWS], wide;
        for (int r = 0; r < ROWS; ++r) found[r] = Ints{};
        const int32_t* own = weights + lane;
        for (const Run* run = v.runs.data(); run < v.runs.data() + v.runs.size(); ++run) {
            const Ints weight = at<V>(own);
            for (int r = 0; r < ROWS; ++r) {
                V::widen(rows[r] + run->offset + lane, wide);
                V::add(found[r], wide, weight);
            }
            own += vectors * V::LANES;
        }
        for (int r = 0; r < ROWS; ++r) at<V>(sums + r * V::WIDTH + lane) += found[r] * factors[r];
    }
}

// The same of an identity, whose weights may have 32 bits.
template <typename V>
INLINE void add_identity(const int16_t* numbers, const int32_t* weights, int32_t factor,
                         int64_t vectors, int32_t* sums) {
    using Ints = typename V::Ints;
    for (int64_t lane = 0; lane < vectors * V::LANES; lane += V::LANES) {
        Ints own;
        V::widen(numbers + lane, own);
        at<V>(sums + lane) += own * at<V>(weights + lane) * factor;
    }
}

// Adds the products of the listed rows, in tiles of about the same size.
template <typename V>
INLINE void multiply_rows(Desk<V>& desk, const View& v, const int32_t* weights, int64_t rows,
                          int64_t vectors) {
    const int64_t tiles = (rows + V::ROWS - 1) / V::ROWS;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t first = rows * tile / tiles, past = rows * (tile + 1) / tiles;
        multiply_any<V>({desk.rows + first, desk.factors + first, v.runs.data(),
                         int64_t(v.runs.size()), weights, desk.sums + first * V::WIDTH},
                        past - first, vectors);
    }
}

// Sums up what reaches a block's neurons at so many steps of the desk's. start: the first in the window.
template <typename V>
INLINE void sum_up(const Job<V>& job, Desk<V>& desk, size_t o, const Neurons& n, int64_t start,
                   int64_t step, int64_t steps) {
    const int64_t rows = steps * n.positions, vectors = n.outputs->vectors;
    for (int64_t lane = 0; lane < vectors * V::LANES; lane += V::LANES) {
        const typename V::Ints bias = at<V>(job.bias.data() + o * V::WIDTH + lane);
        for (int64_t r = 0; r < rows; ++r) at<V>(desk.sums + r * V::WIDTH + lane) = bias;
    }
    for (size_t k = 0; k < job.views.size(); ++k) {
        const View& view = job.views[k];
        const Source& s = *view.source;
        const int32_t* weights = s.identity
                                     ? job.gains[k].data() + o * V::WIDTH
                                     : job.weights[k] + n.outputs->before * pairs_of(s) * V::LANES;
        list_rows(job, desk, k, n, start, step, steps);
        if (!channelwise(s, job.p)) {
            multiply_rows(desk, view, weights, rows, vectors);
            continue;
        }
        for (int64_t r = 0; r < rows;) {
            int32_t* const to = desk.sums + r * V::WIDTH;
            if (s.identity)
                add_identity<V>(desk.rows[r], weights, desk.factors[r], vectors, to), ++r;
            else if (rows - r < TOGETHER)
                add_channels<V, 1>(view, desk.rows + r, weights, desk.factors + r, vectors, to), ++r;
            else
                add_channels<V, TOGETHER>(view, desk.rows + r, weights, desk.factors + r, vectors, to),
                    r += TOGETHER;
        }
    }
}

// All steps of a block's neurons that are at the desk, of which the first is step `start` of the window.
template <typename V>
INLINE void run_block(const Job<V>& job, Desk<V>& desk, size_t o, const Neurons& n, int64_t start,
                      int64_t steps) {
    const int64_t turn = BLOCK / n.positions;  // steps summed up at once
    for (int64_t step = 0; step < steps; step += turn) {
        const int64_t number = std::min(turn, steps - step);
        sum_up(job, desk, o, n, start + step, step, number);
        for (int64_t t = 0; t < number; ++t)
            advance<V>(job.p, n, job.lanes.data() + o * V::WIDTH, start + step + t,
                       desk.sums + t * n.positions * V::WIDTH);
    }
}

// The whole window of a part of an image.
template <typename V>
INLINE void run_part(const Job<V>& job, Desk<V>& desk, int64_t image, int64_t first) {
    const Population& p = job.p;
    const int64_t positions = p.height * p.width, past = std::min(job.length, first + job.part);
    const int64_t top = first * BLOCK / p.width;
    const int64_t bottom = (std::min(past * BLOCK, positions) - 1) / p.width;
    if (!sums_alone(p)) take(job, desk, image, first);
    for (int64_t start = 0; start < p.steps; start += job.steps) {
        const int64_t steps = std::min(job.steps, p.steps - start);
        for (size_t i = 0; i < job.views.size(); ++i) {
            const View& v = job.views[i];
            desk.bands[i].first = top * v.source->stride_height;
            desk.bands[i].rows = (bottom - top) * v.source->stride_height + v.reach;
            fill_band<V>(v, p, image, start, steps, desk.bands[i], desk.halves);
        }
        for (size_t o = 0; o < job.outputs.size(); ++o)
            for (int64_t b = first; b < past; ++b) {
                const int64_t own = (int64_t(o) * job.part + b - first) * BLOCK * V::WIDTH;
                const Neurons n{&job.outputs[o], image, b, std::min(positions - b * BLOCK, BLOCK),
                                desk.v + own, desk.sent + own};
                run_block(job, desk, o, n, start, steps);
            }
    }
    if (sums_alone(p)) return;
    keep(job, desk, image, first);
    const int64_t words = (image * job.length + first) * p.steps * multilevel::own_planes(p);
    multilevel::count(p, image, p.spikes + words * p.channels, (past - first) * p.steps);
}

// Compiled for the instruction set of V.
template <typename V>
void run_any(const Job<V>& job, Desk<V>& desk, int64_t image, int64_t first);

// The whole window. Threads share parts of images.
template <typename V>
void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    const Job<V> job(p, sources, number, threads);
    share(threads, p.images * job.parts, [&] { return Desk<V>(job); },
          [&](int64_t task, Desk<V>& desk) {
              run_any<V>(job, desk, task / job.parts, task % job.parts * job.part);
          });
}

int64_t refused(const Population& p, const Source* sources, int64_t number) {
    int64_t found = 0;
    if (bits_of(p) > MOST_BITS || multilevel::own_planes(p) > MOST_BITS) found |= LEVELS;
    if (!differential::needed(p) && (p.levels > 1 || p.is_signed) && p.threshold)
        for (int64_t c = 0; c < p.channels; ++c)
            if ((p.levels + 1) * p.threshold[c] > EXACT) found |= LEVELS;
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        if (s.identity) continue;
        if (grouped(s, p) && s.channels / s.groups % 2) found |= GROUPS;
        const int64_t weights =
            p.channels * (s.channels / s.groups) * s.kernel_height * s.kernel_width;
        for (int64_t k = 0; k < weights; ++k)
            if (s.weights[k] > LARGEST || s.weights[k] < -LARGEST) {
                found |= ANY_SUMS;
                break;
            }
    }
    return found;
}

template <typename V>
int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    const int64_t vectors = vectors_of<V>(p, sources, number);
    int64_t pairs = 0;
    for (int64_t i = 0; i < number; ++i) pairs += pairs_of(sources[i]);
    return vectors * pairs * V::LANES * int64_t(sizeof(int32_t));
}

// Writes, for every source and group of outputs, the pairs of weights [kernel, pairs of channels,
// vectors, lanes].
template <typename V>
void prepare(const Population& p, const Source* sources, int64_t number, void* tables) {
    int16_t* to = (int16_t*)tables;
    const Vector<Outputs> all_outputs = outputs_of<V>(p, sources, number);
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        if (s.identity) continue;
        const int64_t inner = s.channels / s.groups, taps = s.kernel_height * s.kernel_width;
        for (const Outputs& outputs : all_outputs)
            for (int64_t tap = 0; tap < taps; ++tap)
                for (int64_t c = 0; c < 2 * inner_pairs(s); c += 2)
                    for (int64_t lane = 0; lane < outputs.vectors * V::LANES; ++lane)
                        for (int64_t k = c; k < c + 2; ++k, ++to) {
                            const int64_t own = (outputs.channel + lane) * inner + k;
                            const bool some = lane < outputs.count && k < inner;
                            *to = some ? int16_t(s.weights[own * taps + tap]) : int16_t{0};
                        }
    }
}

template <typename V>
void work(const Population& p, const Source* sources, int64_t number, const double*, double* amounts) {
    const double vectors = double(vectors_of<V>(p, sources, number));
    const double positions = double(p.height * p.width);
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        const double planes = s.numbers ? 1.0 : double(p.planes);
        const double each = channelwise(s, p) ? 2 : 1;  // of these several make one vector's sums
        amounts[0] += positions * vectors * double(pairs_of(s)) * each;
        amounts[1] += double(s.height * s.width * ((s.channels + 1) / 2)) / V::LANES * planes;
        if (s.identity) amounts[2] += positions * vectors;
    }
    amounts[2] += positions * vectors;
    amounts[3] += positions * vectors * (sums_alone(p) ? 0.0 : double(multilevel::own_planes(p)));
}

template <typename V>
constexpr Kernel kernel(const char* name, InstructionSet set) {
    return {
        name, set, BY_POSITION, EVERYTHING & ~ANY_SUMS,
        {"vector of products", "vector of numbers", "vector of sums", "vector of bits"},
        refused, table_bytes<V>, prepare<V>, work<V>, run<V>,
    };
}

#define MADD_COMPILED(V, ...)                                                                       \
    template <>                                                                                     \
    __VA_ARGS__ void multiply_any<V>(const Tile& tile, int64_t rows, int64_t vectors) {             \
        multiply_tile<V, V::ROWS>(tile, rows, vectors);                                             \
    }                                                                                               \
    template <>                                                                                     \
    __VA_ARGS__ void run_any<V>(const Job<V>& job, Desk<V>& desk, int64_t image, int64_t first) {   \
        run_part<V>(job, desk, image, first);                                                       \
    }

MADD_COMPILED(Portable)
constexpr Kernel PORTABLE_KERNEL = kernel<Portable>("madd-portable", PORTABLE);

#if defined(__x86_64__)
MADD_COMPILED(Avx2, __attribute__((target("avx2,bmi,bmi2,popcnt"))))
MADD_COMPILED(Avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi,bmi2,"
                                            "popcnt"))))
constexpr Kernel AVX2_KERNEL = kernel<Avx2>("madd-avx2", AVX2_SET);
constexpr Kernel AVX512_KERNEL = kernel<Avx512>("madd-avx512", AVX512_SET);
#endif

#undef MADD_COMPILED

}  // namespace madd
