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
#include "amx_spread.h"
#include "madd.h"

namespace amx {

constexpr int64_t PART = 1 << 17;        // bytes of a part of an image in a step, about, and
constexpr int64_t AT_ONCE = 1 << 19;     // in the steps that pass by at once
constexpr int64_t HEADER = CHUNK;        // bytes before the weights
constexpr int64_t MOST_PLANES = 2;       // of weights

using madd::Before;
using madd::Neurons;
using madd::Outputs;

constexpr int64_t WIDTH = 2 * ROWS;      // channels that are computed together
constexpr int64_t SUMS = TILE / int64_t(sizeof(int32_t));  // of a tile

// The planes of a population's weights.
INLINE int64_t planes_of(const Population& p, const Source* sources, int64_t number) {
    for (const Source* s = sources; s < sources + number; ++s) {
        if (s->identity) continue;
        const int64_t weights = p.channels * s->channels * s->kernel_height * s->kernel_width;
        for (int64_t k = 0; k < weights; ++k)
            if (s->weights[k] != int8_t(s->weights[k])) return 2;
    }
    return 1;
}

// The chunks of what an output sees of a source.
INLINE int64_t chunks_of(const Source& s, const Population& p) {
    if (s.identity) return 0;
    const int64_t row = s.kernel_width * s.channels;
    return is_small(p) ? filled_up(s.kernel_height * row) / CHUNK
                       : s.kernel_height * (filled_up(row) / CHUNK);
}

// The tiles of so many channels.
INLINE int64_t tiles_of(int64_t channels) { return (channels + ROWS - 1) / ROWS; }

// What all threads work by.
struct Job {
    const Population& p;
    Vector<Outputs> outputs;
    Vector<Spread> spreads;           // of the sources
    Vector<const uint8_t*> weights;   // of each: [outputs: tiles of chunks]
    Vector<Vector<int32_t>> gains;    // of identities, in lanes
    Vector<int32_t> bias, lanes;      // lanes: thresholds or ceilings
    int64_t planes;                   // of weights
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
            spreads.emplace_back(*s, p);
            gains.push_back(madd::in_lanes<Lanes>(outputs, s->identity ? s->weights : nullptr, 0));
            weights.push_back(tables);
            tables += tiles_of(p.channels) * chunks_of(*s, p) * planes * TILE;
        }
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
};

// What a thread works with, one such desk at a time.
template <typename Tiles>
struct Desk {
    Tiles tiles;
    Vector<Band> bands;    // by source
    int32_t *v, *sent;     // [groups of outputs, blocks, 32, WIDTH]
    int32_t* sums[2];      // [32, WIDTH]: of several steps where positions are few; of one turn and the next
    int32_t* products;     // four tiles of them: [tiles of weights, 32, 16]
    int32_t factors[BLOCK];
    uint8_t* words;

    explicit Desk(const Job& job) {
        const Population& p = job.p;
        const int64_t all = int64_t(job.outputs.size()) * job.part * BLOCK * WIDTH;
        const int64_t neurons = sums_alone(p) ? 0 : all, remembered = p.is_signed ? neurons : 0;
        int64_t bytes = 0, unpacked = 0;
        for (const Spread& spread : job.spreads) {
            const int64_t size = spread.size(job.rows(job.part));
            bands.push_back({0, 0, nullptr, size});
            bytes += job.steps * size + BLOCK * spread.pitch;  // tiles are read as a whole
            unpacked = std::max(unpacked, desk_bytes(*spread.source));
        }
        const int64_t numbers = 4 * SUMS + 2 * BLOCK * WIDTH + neurons + remembered;
        madd::kept.reserve(bytes + numbers * int64_t(sizeof(int32_t)) + unpacked);
        uint8_t* at = (uint8_t*)madd::kept.data();
        std::fill(at, at + bytes, 0);  // also what lies around the spikes
        for (size_t i = 0; i < bands.size(); ++i) {
            bands[i].bytes = at;
            at += job.steps * bands[i].size + BLOCK * job.spreads[i].pitch;
        }
        products = (int32_t*)at;
        sums[0] = products + 4 * SUMS, sums[1] = sums[0] + BLOCK * WIDTH;
        v = sums[1] + BLOCK * WIDTH, sent = v + neurons;
        std::fill(v, sent + remembered, 0);  // lanes beyond the channels
        words = (uint8_t*)(sent + remembered);
    }
};

// A tile of spikes times the second tile of weights: the low bytes, which have no sign, or more channels.
template <typename Tiles, int SUM, int SPIKES, bool TWO_PLANES>
INLINE void second_product(Tiles& tiles) {
    if (TWO_PLANES)
        Tiles::template unsigned_product<SUM, SPIKES, 7>(tiles);
    else
        Tiles::template signed_product<SUM, SPIKES, 7>(tiles);
}

// Spikes times weights, from the chunks of one source. weights: [chunks, tiles of weights]. The products
// of TALL tiles of spikes with WIDE tiles of weights, which are of two planes or of as many channels.
template <typename Tiles, int TALL, int WIDE, bool TWO_PLANES>
INLINE void multiply(Tiles& tiles, const Vector<Chunk>& chunks, const uint8_t* spikes, int64_t pitch,
                     const uint8_t* weights, int32_t* products) {
    Tiles::template zero<0>(tiles), Tiles::template zero<1>(tiles);
    Tiles::template zero<2>(tiles), Tiles::template zero<3>(tiles);
    for (const Chunk& chunk : chunks) {
        Tiles::template load<6>(tiles, weights, CHUNK);
        if (WIDE > 1) Tiles::template load<7>(tiles, weights + TILE, CHUNK);
        weights += WIDE * TILE;
        const uint8_t* const from = spikes + chunk.offset;
        Tiles::template load<4>(tiles, from, pitch);
        Tiles::template signed_product<0, 4, 6>(tiles);
        if (WIDE > 1) second_product<Tiles, 1, 4, TWO_PLANES>(tiles);
        if (TALL == 1) continue;
        Tiles::template load<5>(tiles, from + ROWS * pitch, pitch);
        Tiles::template signed_product<2, 5, 6>(tiles);
        if (WIDE > 1) second_product<Tiles, 3, 5, TWO_PLANES>(tiles);
    }
    Tiles::template store<0>(tiles, products);
    if (TALL > 1) Tiles::template store<2>(tiles, products + SUMS);
    if (WIDE > 1) Tiles::template store<1>(tiles, products + 2 * SUMS);
    if (WIDE > 1 && TALL > 1) Tiles::template store<3>(tiles, products + 3 * SUMS);
}

template <typename Tiles, int WIDE, bool TWO_PLANES>
INLINE void multiply_rows(Tiles& tiles, const Vector<Chunk>& chunks, const uint8_t* spikes,
                          int64_t pitch, int64_t rows, const uint8_t* weights, int32_t* products) {
    if (rows > ROWS)
        multiply<Tiles, 2, WIDE, TWO_PLANES>(tiles, chunks, spikes, pitch, weights, products);
    else
        multiply<Tiles, 1, WIDE, TWO_PLANES>(tiles, chunks, spikes, pitch, weights, products);
}

// Sums of one tile: what was before, and the products of both planes or of the only one. factors: of the
// rows; null: 1.
template <typename V, bool TWO_PLANES>
INLINE void add_products(const int32_t* products, const int32_t* factors, int64_t rows,
                         const Before& before, int32_t* sums) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t lane = 0; lane < ROWS; lane += V::LANES) {
            typename V::Ints own = MADD_AT(V, products + r * ROWS + lane);
            if (TWO_PLANES) own = (own << 8) + MADD_AT(V, products + (BLOCK + r) * ROWS + lane);
            if (factors) own *= factors[r];
            MADD_AT(V, sums + r * WIDTH + lane) = MADD_AT(V, before.rows + r * before.stride + lane) + own;
        }
}

// Adds what an identity brings.
template <typename V>
INLINE void add_identity(const uint8_t* spikes, int64_t pitch, const int32_t* gains,
                         const int32_t* factors, int64_t rows, int64_t channels, int32_t* sums) {
    using Ints = typename V::Ints;
    for (int64_t lane = 0; lane < channels; lane += V::LANES) {
        const Ints gain = MADD_AT(V, gains + lane);
        for (int64_t r = 0; r < rows; ++r) {
            const auto& bytes = *(const typename V::Bytes*)(spikes + r * pitch + lane);
            Ints own = __builtin_convertvector(bytes, Ints) * gain;
            if (factors) own *= factors[r];
            MADD_AT(V, sums + r * WIDTH + lane) += own;
        }
    }
}

// The factors of the rows that are summed up at once; null: all 1.
INLINE const int32_t* list_factors(const Source& s, int64_t start, int64_t steps, int64_t positions,
                                   int32_t* to) {
    if (!s.factors) return nullptr;
    for (int64_t t = 0; t < steps; ++t) std::fill_n(to + t * positions, positions, s.factors[start + t]);
    return to;
}

// Adds what a convolution brings to the sums of all channels.
template <typename Tiles>
INLINE void add_convolution(const Job& job, Desk<Tiles>& desk, size_t source, const Neurons& n,
                            const uint8_t* spikes, const int32_t* factors, int64_t rows,
                            const Before& before, int32_t* sums) {
    const Spread& spread = job.spreads[source];
    const int64_t chunks = int64_t(spread.chunks.size()), pitch = spread.pitch;
    const int64_t wide = tiles_of(n.outputs->count);
    const uint8_t* weights =
        job.weights[source] + tiles_of(n.outputs->channel) * chunks * job.planes * TILE;
    int32_t* const products = desk.products;
    using V = typename Tiles::Vectors;
    if (job.planes == 2) {
        for (int64_t lane = 0; lane < wide * ROWS; lane += ROWS, weights += chunks * 2 * TILE) {
            multiply_rows<Tiles, 2, true>(desk.tiles, spread.chunks, spikes, pitch, rows, weights, products);
            add_products<V, true>(products, factors, rows, {before.rows + lane, before.stride}, sums + lane);
        }
        return;
    }
    if (wide == 2)
        multiply_rows<Tiles, 2, false>(desk.tiles, spread.chunks, spikes, pitch, rows, weights, products);
    else
        multiply_rows<Tiles, 1, false>(desk.tiles, spread.chunks, spikes, pitch, rows, weights, products);
    for (int64_t lane = 0; lane < wide * ROWS; lane += ROWS)
        add_products<V, false>(products + lane * BLOCK, factors, rows,
                               {before.rows + lane, before.stride}, sums + lane);
}

// Sums up what reaches a block's neurons at so many steps of the desk's. start: the first in the window.
template <typename Tiles>
INLINE void sum_up(const Job& job, Desk<Tiles>& desk, size_t o, const Neurons& n, int64_t start,
                   int64_t step, int64_t steps, int32_t* sums) {
    const Population& p = job.p;
    const int64_t rows = steps * n.positions;
    Before before{job.bias.data() + o * WIDTH, 0};
    for (const bool identities : {false, true}) {
        if (identities && !before.stride)
            for (int64_t r = 0; r < rows; ++r) std::copy_n(before.rows, WIDTH, sums + r * WIDTH);
        for (size_t i = 0; i < job.spreads.size(); ++i) {
            const Spread& spread = job.spreads[i];
            if (bool(spread.source->identity) != identities) continue;
            const Band& band = desk.bands[i];
            const int64_t first = n.block * BLOCK - band.first * p.width;
            const uint8_t* spikes = band.at(step) + first * spread.pitch;
            const int32_t* factors =
                list_factors(*spread.source, start, steps, n.positions, desk.factors);
            if (identities)
                add_identity<typename Tiles::Vectors>(
                    spikes + n.outputs->channel, spread.pitch, job.gains[i].data() + o * WIDTH,
                    factors, rows, n.outputs->count, sums);
            else
                add_convolution(job, desk, i, n, spikes, factors, rows, before, sums);
            before = {sums, WIDTH};
        }
    }
}

// All steps of a block's neurons that are at the desk, of which the first is step `start` of the window.
template <typename Tiles>
INLINE void run_block(const Job& job, Desk<Tiles>& desk, size_t o, const Neurons& n, int64_t start,
                      int64_t steps) {
    using V = typename Tiles::Vectors;
    const int64_t turn = is_small(job.p) ? BLOCK / n.positions : 1;  // steps summed up at once
    const int32_t* lanes = job.lanes.data() + o * WIDTH;
    for (int64_t step = -turn; step < steps; step += turn) {  // those of the turn before are advanced
        const int64_t next = step + turn, number = std::min(turn, steps - next);
        int32_t *const sums = desk.sums[next / turn % 2], *const own = desk.sums[(next / turn + 1) % 2];
        if (number > 0) sum_up(job, desk, o, n, start + next, next, number, sums);
        for (int64_t t = std::max<int64_t>(step, 0); t < std::min(next, steps); ++t)
            madd::advance_any<V>(job.p, n, lanes, start + t, own + (t - step) * n.positions * WIDTH);
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
            desk.bands[i].first = top, desk.bands[i].rows = bottom - top + 1;
            fill<typename Tiles::Vectors>(job.spreads[i], p, image, start, steps, desk.bands[i], desk.words);
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

int64_t refused(const Population& p, const Source* sources, int64_t number) {
    int64_t found = madd::refused(p, nullptr, 0);  // neurons that are not advanced
    for (const Source* s = sources; s < sources + number; ++s) {
        if (s->identity) continue;
        const int64_t weights = p.channels * (s->channels / s->groups) * s->kernel_height * s->kernel_width;
        for (int64_t k = 0; k < weights; ++k)
            if (s->weights[k] != int16_t(s->weights[k])) return found | ANY_SUMS;
    }
    return found;
}

int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    int64_t chunks = 0;
    for (const Source* s = sources; s < sources + number; ++s) chunks += chunks_of(*s, p);
    return HEADER + tiles_of(p.channels) * chunks * MOST_PLANES * TILE;
}

// Writes the tile of one chunk and plane of the weights of 16 outputs from `channel` on: a weight is
// 256 times its signed high byte and its unsigned low one, or what its only byte holds.
INLINE void write_tile(const Population& p, const Spread& spread, const Chunk& chunk, int64_t channel,
                       int64_t shift, uint8_t* to) {
    const Source& s = *spread.source;
    const int64_t taps = s.kernel_height * s.kernel_width;
    const int64_t together = spread.joined ? taps : s.kernel_width;
    for (int64_t k = 0; k < CHUNK; ++k)
        for (int64_t n = 0; n < ROWS; ++n) {
            const int64_t tap = (chunk.first + k) / s.channels, inner = (chunk.first + k) % s.channels;
            const bool some = channel + n < p.channels && tap < together;
            const int64_t own = ((channel + n) * s.channels + inner) * taps + chunk.tap + tap;
            to[k / 4 * CHUNK + 4 * n + k % 4] = some ? uint8_t(s.weights[own] >> shift) : uint8_t{0};
        }
}

// Those of 32 outputs, in two planes or in one. Returns where they end.
INLINE uint8_t* write_planes(const Population& p, const Spread& spread, const Outputs& outputs, uint8_t* to) {
    for (int64_t c = outputs.channel; c < outputs.channel + outputs.count; c += ROWS)
        for (const Chunk& chunk : spread.chunks)
            for (const int64_t shift : {8, 0}) write_tile(p, spread, chunk, c, shift, to), to += TILE;
    return to;
}

INLINE uint8_t* write_plane(const Population& p, const Spread& spread, const Outputs& outputs, uint8_t* to) {
    for (const Chunk& chunk : spread.chunks)
        for (int64_t c = outputs.channel; c < outputs.channel + outputs.count; c += ROWS, to += TILE)
            write_tile(p, spread, chunk, c, 0, to);
    return to;
}

// Writes the number of planes, and for every source the tiles of weights as `multiply` reads them.
void prepare(const Population& p, const Source* sources, int64_t number, void* tables) {
    const int64_t planes = planes_of(p, sources, number);
    uint8_t* to = (uint8_t*)tables;
    std::memset(to, 0, table_bytes(p, sources, number));
    *to = uint8_t(planes);
    to += HEADER;
    const Vector<Outputs> all_outputs = madd::outputs_of<Lanes>(p, nullptr, 0);
    for (const Source* s = sources; s < sources + number; ++s) {
        if (s->identity) continue;
        Spread spread(*s, p);
        spread.lay_out(p, p.height);
        for (const Outputs& outputs : all_outputs)
            to = planes == 2 ? write_planes(p, spread, outputs, to) : write_plane(p, spread, outputs, to);
    }
}

void work(const Population& p, const Source* sources, int64_t number, const double*, double* amounts) {
    const double positions = double(p.height * p.width), vectors = double(tiles_of(p.channels));
    const double tall = is_small(p) ? positions / ROWS : double((p.height * p.width + ROWS - 1) / ROWS);
    for (const Source* s = sources; s < sources + number; ++s) {
        amounts[0] += tall * vectors * double(chunks_of(*s, p)) * MOST_PLANES;
        const double seen = s->identity ? 1.0 : double(s->kernel_width * (is_small(p) ? s->kernel_height : 1));
        const double bytes = double(s->channels) * (double(s->height * s->width * p.planes) + seen * positions);
        amounts[1] += bytes / CHUNK;
        amounts[2] += positions * vectors;
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
