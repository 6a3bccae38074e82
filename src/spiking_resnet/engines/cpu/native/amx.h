// The kernel of tiles: spikes as bytes, whatever their size, times weights of 16 bits, in two planes of
// bytes (of 8 bits: in one). Two tiles of spikes, at 32 outputs' places, times two tiles of weights, of
// both planes or of 32 channels, are four tiles of sums: every tile that is loaded serves two products,
// each of which takes as long as two loads, so that the unit need not wait.
//
// The neurons are those of dense products (madd.h): they are advanced while the unit sums up what reaches
// them at the next step. The weights of 32 channels stay in the caches while all positions of a part of an
// image and several time steps pass by; this part is so small that its bytes stay in the second cache.

#pragma once

#include "amx_machine.h"
#include "amx_job.h"

namespace amx {

// Finds what a block's neurons see at the desk, in the order of `all`.
template <typename Tiles>
INLINE void look(const Job& job, Desk<Tiles>& desk, const Neurons& n) {
    const int64_t before = tiles_of(n.outputs->channel) * job.planes * TILE;
    desk.views.clear();
    for (const Together& together : job.all)
        for (const size_t i : together.convolutions) {
            const Spread& spread = job.spreads[i];
            const Band& band = desk.bands[i];
            const int64_t place = spread.place(band, n.block * BLOCK, job.p.width);
            const int64_t next = spread.place(band, n.block * BLOCK + ROWS, job.p.width);
            desk.views.push_back({spread.chunks, spread.pitch, band.size, next - place, band.bytes + place,
                                  job.weights[i] + before * int64_t(spread.chunks.size())});
        }
}

// The products of what they see at so many of the desk's steps, from `step` on.
template <typename Tiles>
INLINE void multiply_turn(const Job& job, Desk<Tiles>& desk, const Neurons& n, int64_t step, int64_t steps,
                          int32_t* products) {
    const View* view = desk.views.data();
    for (const Together& together : job.all) {
        const Views views{view, view + together.convolutions.size()};
        multiply_all(desk.tiles, views, step, steps * n.positions, job.planes, tiles_of(n.outputs->count),
                     products);
        products += job.planes * 4 * SUMS, view = views.end;
    }
}

// The factors of the rows that are summed up at once; null: all 1.
INLINE const int32_t* list_factors(const int32_t* factors, int64_t start, int64_t steps, int64_t positions,
                                   int32_t* to) {
    if (!factors) return nullptr;
    for (int64_t t = 0; t < steps; ++t) std::fill_n(to + t * positions, positions, factors[start + t]);
    return to;
}

// Sums up all that reaches a block's neurons at so many steps, of which the first is step `start` of the
// window. products: theirs.
template <typename Tiles>
INLINE void sum_up(const Job& job, Desk<Tiles>& desk, size_t o, const Neurons& n, int64_t start,
                   int64_t steps, const int32_t* products) {
    using V = typename Tiles::Vectors;
    const Population& p = job.p;
    const int64_t rows = steps * n.positions;
    Before before{job.bias.data() + o * WIDTH, 0};
    for (const Together& together : job.all) {
        const int32_t* factors = list_factors(together.factors, start, steps, n.positions, desk.factors);
        add_all<V>(products, factors, job.planes, rows, tiles_of(n.outputs->count), before, desk.sums);
        products += job.planes * 4 * SUMS, before = {desk.sums, WIDTH};
    }
    if (!before.stride)
        for (int64_t r = 0; r < rows; ++r) std::copy_n(before.rows, WIDTH, desk.sums + r * WIDTH);
    for (const Identity& identity : job.identities)
        for (int64_t t = 0; t < steps; ++t) {
            const Source& s = *identity.source;
            const int64_t step = (n.image * job.length + n.block) * p.steps + start + t;
            add_identity<V>(p, s.spikes + step * p.planes * s.channels + n.outputs->channel, s.channels,
                            n.outputs->count, identity.gains.data() + o * WIDTH,
                            s.factors ? s.factors[start + t] : 1, n.positions,
                            desk.sums + t * n.positions * WIDTH);
        }
}

// One vector of neurons that fire once or not at all, and that nothing but these reaches: products [32, 16]
// of one convolution or several, or two planes of them, and the spikes of an identity.
template <typename V, bool TWO_PLANES, bool IDENTITY>
struct Quick {
    using Ints = typename V::Ints;
    using Words = typename V::Words;
    const int32_t* products;
    int32_t* v;
    Ints bias, threshold, gain;
    Words sent;  // by the source of the identity

    // Advances them, and writes their words.
    INLINE void fire(const Quick& given, int64_t positions, uint32_t* words) {
        const Quick q = given;  // no address of it is known: it stays in registers
        const Ints below = q.threshold - 1;
        Words fired{}, bit = Words{} + 1u;
        for (int64_t i = 0; i < positions; ++i, bit += bit) {
            Ints received = MADD_AT(V, q.products + i * ROWS);
            if (TWO_PLANES) received = (received << 8) + MADD_AT(V, q.products + (BLOCK + i) * ROWS);
            if (IDENTITY) received = (q.sent & bit) != 0 ? received + q.gain : received;
            const Ints v = MADD_AT(V, q.v + i * WIDTH) + received + q.bias;
            MADD_AT(V, q.v + i * WIDTH) = v > below ? v - q.threshold : v;
            fired = v > below ? fired | bit : fired;
        }
        *(Words*)words = fired;
    }
};

// All of a block's neurons at a step.
template <typename V, bool TWO_PLANES, bool IDENTITY>
INLINE void fire_all(const Job& job, size_t o, const Neurons& n, int64_t t, const int32_t* products) {
    const Population& p = job.p;
    const int64_t step = (n.image * job.length + n.block) * p.steps + t, channel = n.outputs->channel;
    uint32_t words[WIDTH];
    for (int64_t lane = 0; lane < n.outputs->count; lane += V::LANES) {
        const int64_t own = o * WIDTH + lane, half = lane / ROWS * (TWO_PLANES ? 4 : 2) * SUMS;
        Quick<V, TWO_PLANES, IDENTITY> quick{products + half + lane % ROWS,
                                             n.v + lane,
                                             MADD_AT(V, job.bias.data() + own),
                                             MADD_AT(V, job.lanes.data() + own),
                                             {},
                                             {}};
        if (IDENTITY) {
            const Identity& identity = job.identities.front();
            const uint32_t* sent = identity.source->spikes + step * p.channels + channel + lane;
            quick.gain = MADD_AT(V, identity.gains.data() + own);
            madd::copy_lanes<V>((const int32_t*)sent, std::min(n.outputs->count - lane, V::LANES),
                                (int32_t*)&quick.sent);
        }
        quick.fire(quick, n.positions, words + lane);
    }
    int32_t* const to = (int32_t*)p.spikes + step * p.channels + channel;
    madd::copy_lanes<V>((const int32_t*)words, n.outputs->count, to);
    if (p.peaks) raise_peak(p.peaks + n.image, madd::largest<Lanes>(n));
}

// What `sum_up` and `advance` lead to, at once.
template <typename V>
INLINE void fire_quickly(const Job& job, size_t o, const Neurons& n, int64_t t, const int32_t* products) {
    const bool identity = !job.identities.empty();
    if (job.planes == 2 && identity)
        fire_all<V, true, true>(job, o, n, t, products);
    else if (job.planes == 2)
        fire_all<V, true, false>(job, o, n, t, products);
    else if (identity)
        fire_all<V, false, true>(job, o, n, t, products);
    else
        fire_all<V, false, false>(job, o, n, t, products);
}

// All steps of a block's neurons that are at the desk, of which the first is step `start` of the window.
template <typename Tiles>
INLINE void run_block(const Job& job, Desk<Tiles>& desk, size_t o, const Neurons& n, int64_t start,
                      int64_t steps) {
    using V = typename Tiles::Vectors;
    const int64_t turn = is_small(job.p) ? BLOCK / n.positions : 1;  // steps summed up at once
    const int32_t* lanes = job.lanes.data() + o * WIDTH;
    look(job, desk, n);
    for (int64_t step = -turn; step < steps; step += turn) {  // those of the turn before are advanced
        const int64_t next = step + turn, past = std::min(next, steps);
        int32_t** const turns = desk.products;
        if (next < steps)
            multiply_turn(job, desk, n, next, std::min(turn, steps - next), turns[next / turn % 2]);
        if (step < 0) continue;
        const int32_t* const products = turns[step / turn % 2];
        if (job.quick) {
            for (int64_t t = step; t < past; ++t)
                fire_quickly<V>(job, o, n, start + t, products + (t - step) * n.positions * ROWS);
            continue;
        }
        sum_up(job, desk, o, n, start + step, past - step, products);
        for (int64_t t = step; t < past; ++t)
            madd::advance_any<V>(job.p, n, lanes, start + t, desk.sums + (t - step) * n.positions * WIDTH);
    }
}

// The whole window of a part of an image.
template <typename Tiles>
INLINE void run_part(const Job& job, Desk<Tiles>& desk, int64_t image, int64_t first) {
    const Population& p = job.p;
    const int64_t positions = p.height * p.width, past = std::min(job.length, first + job.part);
    const int64_t top = first * BLOCK / p.width;
    const int64_t bottom = (std::min(past * BLOCK, positions) - 1) / p.width;
    if (!sums_alone(p)) madd::take<Lanes>(p, job.outputs, image, first, job.part, desk.v, desk.sent);
    desk.tiles.begin();
    for (int64_t start = 0; start < p.steps; start += job.steps) {
        const int64_t steps = std::min(job.steps, p.steps - start);
        for (size_t i = 0; i < job.spreads.size(); ++i) {
            Band& band = desk.bands[i];
            band.first = top, band.rows = bottom - top + 1;
            fill<typename Tiles::Vectors>(job.spreads[i], p, image, start, steps, band, desk.memory);
        }
        for (size_t o = 0; o < job.outputs.size(); ++o)
            for (int64_t b = first; b < past; ++b) {
                const int64_t own = (int64_t(o) * job.part + b - first) * BLOCK * WIDTH;
                const Neurons n{&job.outputs[o], image, b, std::min(positions - b * BLOCK, BLOCK),
                                desk.v + own, desk.sent + own};
                run_block(job, desk, o, n, start, steps);
            }
    }
    desk.tiles.end();
    if (sums_alone(p)) return;
    madd::keep<Lanes>(p, job.outputs, image, first, job.part, desk.v, desk.sent);
    const int64_t words = (image * job.length + first) * p.steps * multilevel::own_planes(p);
    multilevel::count(p, image, p.spikes + words * p.channels, (past - first) * p.steps);
}

// Compiled for the instruction set of the tiles.
template <typename Tiles>
void run_any(const Job& job, Desk<Tiles>& desk, int64_t image, int64_t first);

// The whole window. Threads share parts of images.
template <typename Tiles>
void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    const auto outputs = madd::outputs_of<typename Tiles::Vectors>(p, nullptr, 0);
    const Job job(p, sources, number, outputs, threads);
    share(threads, p.images * job.parts, [&] { return Desk<Tiles>(job); },
          [&](int64_t task, Desk<Tiles>& desk) {
              run_any<Tiles>(job, desk, task / job.parts, task % job.parts * job.part);
          });
}

void work(const Population& p, const Source* sources, int64_t number, const double*, double* amounts) {
    const double positions = double(p.height * p.width), vectors = double(tiles_of(p.channels));
    const double tall = is_small(p) ? positions / ROWS : double((p.height * p.width + ROWS - 1) / ROWS);
    for (const Source* s = sources; s < sources + number; ++s) {
        amounts[2] += positions * vectors;
        if (s->identity) continue;
        const Spread spread(*s, p);
        amounts[0] += tall * vectors * double(chunks_of(*s, p)) * MOST_PLANES;
        const double read = double(s->height * s->width * s->channels * (p.planes + 1));
        amounts[1] += (read + (spread.flat ? 0.0 : double(spread.size(p.height)))) / CHUNK;
    }
    amounts[2] += positions * vectors;
    amounts[3] += positions * vectors * (sums_alone(p) ? 0.0 : double(multilevel::own_planes(p)));
}

template <typename Tiles>
constexpr Kernel kernel(const char* name, InstructionSet set) {
    return {
        name, set, BY_POSITION, EVERYTHING & ~(ANY_SUMS | GROUPS | NUMBERS),
        {"tile of products", "chunk of spikes", "vector of sums", "vector of bits"},
        refused, table_bytes, prepare, work, run<Tiles>,
    };
}

#define AMX_COMPILED(Tiles, ...)                                                                       \
    template <>                                                                                        \
    __VA_ARGS__ void run_any<Tiles>(const Job& job, Desk<Tiles>& desk, int64_t image, int64_t first) { \
        run_part(job, desk, image, first);                                                             \
    }

}  // namespace amx

template <>
void madd::advance_any<amx::Lanes>(const Population& p, const Neurons& n, const int32_t* lanes, int64_t t,
                                   int32_t* sums) {
    advance<amx::Lanes>(p, n, lanes, t, sums);
}

namespace amx {

AMX_COMPILED(Twin)
constexpr Kernel TWIN_KERNEL = kernel<Twin>("amx-twin", PORTABLE);

#if defined(AMX_IS_KNOWN)
AMX_COMPILED(Unit, __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,"
                                         "avx512vnni,bmi,bmi2,popcnt"))))
constexpr Kernel KERNEL = kernel<Unit>("amx", AMX_SET);
#endif

#undef AMX_COMPILED

}  // namespace amx
