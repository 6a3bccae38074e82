// The kernel of dense products: spikes, whatever their size, and other numbers of 16 bits, times weights
// of 16 bits. Sums of 32 bits stay in registers: a few rows of numbers (what so many outputs see) times
// two vectors of weights. The neurons follow while their sums are in the first cache.
//
// The weights of two vectors of outputs stay in the caches while all positions of a part of an image and
// several time steps pass by; this part is so small that its numbers stay in the second cache.

#pragma once

#include "madd_job.h"

namespace madd {

// The products by vectors V: madd_products.h.
template <typename V>
struct Products;

}  // namespace madd

#define MADD_VECTORS Portable
#define MADD_CODE
#include "madd_products.h"
#undef MADD_VECTORS
#undef MADD_CODE

#if defined(__x86_64__)

#define MADD_VECTORS Avx2
#define MADD_CODE MADD_AVX2
#include "madd_products.h"
#undef MADD_VECTORS
#undef MADD_CODE

#define MADD_VECTORS Avx512
#define MADD_CODE MADD_AVX512
#include "madd_products.h"
#undef MADD_VECTORS
#undef MADD_CODE

#endif

namespace madd {

constexpr int64_t LARGEST = 32767;  // of a weight, without its sign: no two products of numbers of 16
                                    // bits and such weights exceed 32 bits
constexpr int64_t EXACT = 1 << 24;  // integers that float32 holds

// The channel of a source from which on outputs see its numbers.
INLINE int64_t first_channel(const Source& s, const Population& p, const Outputs& outputs) {
    if (channelwise(s, p)) return outputs.channel;
    return outputs.channel / (p.channels / s.groups) * (s.channels / s.groups);
}

// Lists the numbers that a block's neurons see at so many steps of the desk's. start: the first step in
// the window.
template <typename V>
INLINE Rows list_rows(const Job<V>& job, Desk<V>& desk, size_t source, const Neurons& n, int64_t start,
                      int64_t step, int64_t steps, const Before& before) {
    const View& view = job.views[source];
    const Source& s = *view.source;
    const Band& band = desk.bands[source];
    const int64_t* from = view.start.data() + n.block * BLOCK;
    const int64_t first = first_channel(s, job.p, *n.outputs) - band.first * view.row();
    const int16_t** row = desk.rows;
    for (int64_t t = 0; t < steps; ++t, row += n.positions) {
        const int16_t* numbers = band.at(step + t) + first;
        for (int64_t i = 0; i < n.positions; ++i) row[i] = numbers + from[i];
        if (s.factors) std::fill_n(desk.factors + (row - desk.rows), n.positions, s.factors[start + t]);
    }
    return {desk.rows, s.factors ? desk.factors : nullptr, before, desk.sums, row - desk.rows};
}

// Sums up what reaches a block's neurons at so many steps of the desk's. start: the first in the window.
template <typename V>
INLINE void sum_up(const Job<V>& job, Desk<V>& desk, size_t o, const Neurons& n, int64_t start,
                   int64_t step, int64_t steps) {
    const int64_t vectors = n.outputs->vectors;
    Before before{job.bias.data() + o * V::WIDTH, 0};
    if (job.views.empty())
        for (int64_t r = 0; r < steps * n.positions; ++r)
            std::copy_n(before.rows, V::WIDTH, desk.sums + r * V::WIDTH);
    for (size_t k = 0; k < job.views.size(); ++k, before = {desk.sums, V::WIDTH}) {
        const View& view = job.views[k];
        const Source& s = *view.source;
        const int32_t* weights = s.identity
                                     ? job.gains[k].data() + o * V::WIDTH
                                     : job.weights[k] + n.outputs->before * pairs_of(s) * V::LANES;
        const Vector<int16_t>& shorts = job.shorts[k * job.outputs.size() + o];
        const Rows rows = list_rows(job, desk, k, n, start, step, steps, before);
        if (s.identity)
            Products<V>::add_identity(rows, weights, vectors);
        else if (!shorts.empty())
            Products<V>::add_short(rows, view.runs, shorts.data(), vectors);
        else if (channelwise(s, job.p))
            Products<V>::add_channels(rows, view.runs, weights, vectors);
        else
            Products<V>::multiply(rows, view.runs, weights, vectors);
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
            advance_any<V>(job.p, n, job.lanes.data() + o * V::WIDTH, start + step + t,
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
    if (!sums_alone(p)) take<V>(p, job.outputs, image, first, job.part, desk.v, desk.sent);
    for (int64_t start = 0; start < p.steps; start += job.steps) {
        const int64_t steps = std::min(job.steps, p.steps - start);
        for (size_t i = 0; i < job.views.size(); ++i) {
            const View& v = job.views[i];
            desk.bands[i].first = top * v.source->stride_height;
            desk.bands[i].rows = (bottom - top) * v.source->stride_height + v.reach;
            fill_band<V>(v, p, image, start, steps, desk.bands[i], desk.paired);
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
    keep<V>(p, job.outputs, image, first, job.part, desk.v, desk.sent);
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
    amounts[4] += positions * vectors * ((p.constant != nullptr) + (p.current != nullptr));
}

template <typename V>
constexpr Kernel kernel(const char* name, InstructionSet set) {
    return {
        name, set, BY_POSITION, EVERYTHING & ~ANY_SUMS,
        {"vector of products", "vector of numbers", "vector of sums", "vector of bits", "vector of currents"},
        refused, table_bytes<V>, prepare<V>, work<V>, run<V>,
    };
}

#define MADD_COMPILED(V, ...)                                                                       \
    template <>                                                                                     \
    __VA_ARGS__ void advance_any<V>(const Population& p, const Neurons& n, const int32_t* lanes,    \
                                    int64_t t, int32_t* sums) {                                     \
        advance<V>(p, n, lanes, t, sums);                                                           \
    }                                                                                               \
    template <>                                                                                     \
    __VA_ARGS__ void run_any<V>(const Job<V>& job, Desk<V>& desk, int64_t image, int64_t first) {   \
        run_part<V>(job, desk, image, first);                                                       \
    }

MADD_COMPILED(Portable)
constexpr Kernel PORTABLE_KERNEL = kernel<Portable>("madd-portable", PORTABLE);

#if defined(__x86_64__)
MADD_COMPILED(Avx2, MADD_AVX2)
MADD_COMPILED(Avx512, MADD_AVX512)
constexpr Kernel AVX2_KERNEL = kernel<Avx2>("madd-avx2", AVX2_SET);
constexpr Kernel AVX512_KERNEL = kernel<Avx512>("madd-avx512", AVX512_SET);
#endif

#undef MADD_COMPILED

}  // namespace madd
