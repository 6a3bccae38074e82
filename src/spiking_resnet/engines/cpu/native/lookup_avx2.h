// The lookup kernel for AVX2: 16 positions at a time.
//
// Two tables are read at once, those of two output channels, for four time steps, whose sums stay in
// registers. What a block of keys brings is summed up for all vectors of outputs in a tile and many channels
// before the next block: its indices stay in the first cache, its tables in the second.

#pragma once

#include "lookup_avx2_advance.h"

#if defined(__x86_64__)

namespace lookup_avx2 {

constexpr int64_t UNITS = 32;           // summed up before what they lead to
constexpr int64_t COLUMNS = 8;          // vectors of outputs in a tile
constexpr int64_t FEW_TABLES = 1 << 16; // bytes that stay in the caches, so that a tile is one block

// Memory of 32 bytes each.
struct alignas(32) Numbers {
    int32_t lanes[8];
};

// What a thread works with. A tile: some blocks of 32 positions at some chunks of steps.
struct Desk {
    int64_t chunks, blocks;           // of a tile
    Vector<Vector<uint16_t>> planes;  // by source: [chunks, groups, CHUNK, plane]
    Vector<uint16_t> flat;            // of one source: [groups, CHUNK, blocks * 32]
    Vector<Index> panel;              // [columns, keys, CHUNK]: what vectors of outputs see
    Vector<Numbers> numbers;          // [columns, channels of so many units, SUMS]
    Vector<int32_t> potential;        // [blocks, channels, 32], of this thread's blocks
    Vector<int32_t> turned;           // [32, WIDTH]

    Desk(const Job& job, int64_t band) : turned(BLOCK * madd::Avx2::WIDTH) {
        const Population& p = job.p;
        const bool few = bytes_of(p, 0, job.header.lookups) <= FEW_TABLES;
        blocks = few ? 1 : std::min(band, COLUMNS / 2);
        chunks = few ? 1 : std::min((p.steps - 1) / CHUNK + 1, COLUMNS / 2 / blocks);
        panel.resize(columns() * job.keys * CHUNK);
        numbers.resize(columns() * UNITS * UNIT * SUMS / 8);
        if (!sums_alone(p)) potential.resize(job.length * p.channels * BLOCK);
        int64_t most = 0;
        for (const View& v : job.views) {
            planes.emplace_back(chunks * v.groups * CHUNK * v.plane, NONE);
            most = std::max(most, v.groups * ::blocks(v.source->height * v.source->width));
        }
        flat.resize(most * CHUNK * BLOCK);
    }

    int64_t columns() const { return chunks * blocks * 2; }
    int32_t* sums(int64_t column) { return numbers[column * UNITS * UNIT * SUMS / 8].lanes; }
};

// Adds 16 numbers times 2^shift to sums of 32 bits.
AVX2_INLINE void add_lanes(__m256i numbers, int64_t shift, int32_t* sums) {
    const __m128i by = _mm_cvtsi64_si128(shift);
    const __m256i near = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(numbers));
    const __m256i far = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(numbers, 1));
    __m256i* to = (__m256i*)sums;
    to[0] = _mm256_add_epi32(to[0], _mm256_sll_epi32(near, by));
    to[1] = _mm256_add_epi32(to[1], _mm256_sll_epi32(far, by));
}

// Adds what a part brings to the sums [UNIT, SUMS] of a unit. A function of its own, or the compiler has no
// registers left.
AVX2 __attribute__((noinline)) static void add_part(const Index* panel, const __m128i* tables,
                                                    int64_t keys, int64_t shift, int32_t* sums) {
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;  // of the steps in turn
    __m256i e = a, f = a, g = a, h = a;
#define ADD(t, one, other)                                                                  \
    "vmovdqa " #t "*32(%[panel]), %%ymm10\n"                                                \
    "vpshufb %%ymm10, %%ymm8, %%ymm11\n"                                                    \
    "vpshufb %%ymm10, %%ymm9, %%ymm12\n"                                                    \
    "vpaddw %%ymm11, %[" #one "], %[" #one "]\n"                                            \
    "vpaddw %%ymm12, %[" #other "], %[" #other "]\n"
    __asm__("1:\n"
            "vbroadcasti128 (%[tables]), %%ymm8\n"
            "vbroadcasti128 16(%[tables]), %%ymm9\n"
            ADD(0, a, e) ADD(1, b, f) ADD(2, c, g) ADD(3, d, h)
            "sub $-128, %[panel]\n"
            "add $32, %[tables]\n"
            "dec %[keys]\n"
            "jnz 1b\n"
            : [a] "+x"(a), [b] "+x"(b), [c] "+x"(c), [d] "+x"(d), [e] "+x"(e), [f] "+x"(f),
              [g] "+x"(g), [h] "+x"(h), [panel] "+r"(panel), [tables] "+r"(tables),
              [keys] "+r"(keys)
            :
            : "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "cc", "memory");
#undef ADD
    const __m256i all[UNIT * CHUNK] = {a, b, c, d, e, f, g, h};
    for (int64_t i = 0; i < UNIT * CHUNK; ++i) add_lanes(all[i], shift, sums + i * LANES);
}

// Sums up what reaches so many units from one on, in all columns that are asked for.
AVX2 static void sum_up(const Job& job, Desk& desk, int64_t unit, int64_t units, uint32_t columns) {
    const Population& p = job.p;
    for (int64_t column = 0; column < desk.columns(); ++column)
        for (int64_t c = 0; c < units * UNIT && columns >> column & 1; ++c)
            std::fill_n(desk.sums(column) + c * SUMS, SUMS,
                        unit * UNIT + c < p.channels ? p.bias[unit * UNIT + c] : 0);
    for (const Block& block : job.blocks)
        for (int64_t column = 0; column < desk.columns(); ++column) {
            if (!(columns >> column & 1)) continue;
            const Index* panel = desk.panel.data() + column * job.keys * CHUNK;
            const __m128i* tables =
                job.tables + (block.before * job.units + unit * block.keys) * UNIT;
            int32_t* sums = desk.sums(column);
            for (int64_t i = 0; i < units; ++i, sums += UNIT * SUMS)
                for (const Part* part = block.parts; part < block.past; ++part) {
                    add_part(panel + part->key * CHUNK, tables, part->keys, part->shift, sums);
                    tables += part->keys * UNIT;
                }
        }
}

// Where a tile is, and its columns.
struct Tile {
    int64_t image, start, first, blocks;  // start: its first step; first: block
    int32_t* potential;                   // of its first block

    // The place of a column of a desk; `steps` is 0 where there is none.
    Place place(const Job& job, const Desk& desk, int64_t column) const {
        const Population& p = job.p;
        const int64_t chunk = column / (2 * desk.blocks), block = column / 2 % desk.blocks;
        Place at{image, start + chunk * CHUNK, 0, 2 * first + column % (2 * desk.blocks), nullptr, 0};
        if (block >= blocks || at.start >= p.steps) return at;
        at.steps = std::min(p.steps - at.start, CHUNK);
        at.valid = valid_bits(p.height * p.width, at.block()) >> at.half() * LANES & 0xffff;
        at.potential = potential + block * p.channels * BLOCK + at.half() * LANES;
        return at;
    }
};

// Advances, or writes, so many channels from c on, of a column. Returns the number of spikes.
AVX2 static int64_t conclude(const Job& job, Desk& desk, const Place& at, int64_t column, int64_t c,
                             int64_t channels) {
    int64_t count = 0;
    if (!sums_alone(job.p)) {
        int32_t* const sums = desk.sums(column);
        for (int64_t i = 0; job.p.stream && i < channels; i += SIDE)
            add_stream(job, at, c + i, channels - i, sums + i * SUMS);
        for (int64_t i = 0; i < channels; ++i) count += advance(job, at, c + i, sums + i * SUMS);
        return count;
    }
    constexpr int64_t WIDTH = madd::Avx2::WIDTH;
    for (int64_t i = 0; at.half() == 0 && i < channels; i += WIDTH) {
        const int64_t own = std::min(channels - i, WIDTH);
        const madd::Outputs outputs{c + i, own, (own + madd::Avx2::LANES - 1) / madd::Avx2::LANES, 0};
        const int32_t* const sums[2] = {desk.sums(column) + i * SUMS, desk.sums(column + 1) + i * SUMS};
        for (int64_t t = 0; t < at.steps; ++t) write(job, outputs, at, t, sums, desk.turned.data());
    }
    return 0;
}

// Copies what a column sees to the panel.
AVX2 static void look(const Job& job, Desk& desk, const Place& at, int64_t column) {
    Index* panel = desk.panel.data() + column * job.keys * CHUNK;
    const int64_t chunk = column / (2 * desk.blocks);
    for (size_t i = 0; i < job.views.size(); ++i) {
        const View& v = job.views[i];
        const uint16_t* planes = desk.planes[i].data() + chunk * v.groups * CHUNK * v.plane;
        panel = v.step == 1 ? fill_panel<1>(v, at.vector, planes, panel)
                            : fill_panel<2>(v, at.vector, planes, panel);
    }
}

// Returns the number of spikes.
AVX2 static int64_t run_tile(const Job& job, Desk& desk, const Tile& tile) {
    const Population& p = job.p;
    uint32_t asked = 0;  // columns
    for (int64_t column = 0; column < desk.columns(); ++column) {
        const Place at = tile.place(job, desk, column);
        if (at.valid) asked |= 1u << column, look(job, desk, at, column);
        if (at.steps && !at.valid && !sums_alone(p)) stay_silent(job, at);
    }
    int64_t count = 0;
    for (int64_t unit = 0; unit < job.units; unit += UNITS) {
        const int64_t units = std::min(job.units - unit, UNITS), c = unit * UNIT;
        sum_up(job, desk, unit, units, asked);
        for (int64_t column = 0; column < desk.columns(); ++column)
            if (asked >> column & 1)
                count += conclude(job, desk, tile.place(job, desk, column), column, c,
                                  std::min(units * UNIT, p.channels - c));
    }
    return count;
}

// The window of some blocks of an image, from block `begin` to `past` - 1. Returns the number of spikes.
AVX2 static int64_t run_band(const Job& job, Desk& desk, int64_t image, int64_t begin, int64_t past) {
    const Population& p = job.p;
    const int64_t row = p.channels * BLOCK, neurons = job.length * row;  // of a block, of an image
    int32_t* const potential = desk.potential.data();
    if (!sums_alone(p)) take_potentials(p, image, neurons, begin * row, past * row, potential);
    int64_t count = 0;
    for (int64_t start = 0; start < p.steps; start += desk.chunks * CHUNK) {
        for (size_t i = 0; i < job.views.size(); ++i)
            for (int64_t from = start, chunk = 0; chunk < desk.chunks && from < p.steps;
                 from += CHUNK, ++chunk) {
                const View& v = job.views[i];
                uint16_t* planes = desk.planes[i].data() + chunk * v.groups * CHUNK * v.plane;
                index_source(v, p, image, from, std::min(p.steps - from, CHUNK), desk.flat.data(), planes);
            }
        for (int64_t first = begin; first < past; first += desk.blocks)
            count += run_tile(job, desk, {image, start, first, std::min(past - first, desk.blocks),
                                          potential + (first - begin) * row});
    }
    if (!sums_alone(p)) keep_potentials(p, image, neurons, begin * row, past * row, potential);
    return count;
}

// The whole window. Threads share images, and bands of blocks where images are few.
void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    const Job job(p, sources, number);
    const int64_t bands = bands_of(p.images, job.length, threads);
    const auto desk_for = [&] { return Desk(job, (job.length - 1) / bands + 1); };
    share(threads, p.images * bands, desk_for, [&](int64_t task, Desk& desk) {
        const int64_t image = task / bands, band = task % bands;
        const int64_t begin = job.length * band / bands, past = job.length * (band + 1) / bands;
        const int64_t count = run_band(job, desk, image, begin, past);
        if (!sums_alone(p)) __atomic_fetch_add(p.counts + image, count, __ATOMIC_RELAXED);
    });
}

void work(const Population& p, const Source* sources, int64_t number, const double*, double* amounts) {
    const Vector<Part> parts = parts_of(p, sources, number);
    const double vectors = double((p.height * p.width + LANES - 1) / LANES);
    amounts[0] = vectors * double(lookups_of(parts) * p.channels);
    amounts[1] = vectors * double(keys_of(sources, number));
    amounts[2] = vectors * double(p.channels);
    amounts[3] = vectors * double(int64_t(parts.size()) * p.channels);
}

constexpr Kernel KERNEL{
    "lookup-avx2", AVX2_SET, BY_BLOCK,
    (EVERYTHING & ~(PRODUCTS | LEVELS | SIGNED | GROUPS)) | SUMS_ALONE | STREAMS,
    {"lookup", "index", "vector of neurons", "vector of sums"},
    refused, table_bytes, fill_tables, work, run,
};

}  // namespace lookup_avx2

#endif
