// What reaches the neurons of the kernel of tiles (amx.h): products of bytes, and what identities bring.

#pragma once

#include "amx_weights.h"

namespace amx {

using madd::Before;

constexpr int64_t WIDTH = 2 * ROWS;      // channels that are computed together
constexpr int64_t SUMS = TILE / int64_t(sizeof(int32_t));  // of a tile

// What a block's outputs see of a convolution. spikes: of the first 16 outputs at the first step, and so
// many bytes from each output, or step, to the next; beyond: where those of the other 16 are. weights:
// [chunks, tiles of weights].
struct View {
    const Vector<Chunk>& chunks;
    int64_t pitch, step, beyond;
    const uint8_t *spikes, *weights;
};

struct Views {
    const View *begin, *end;
};

// A tile of spikes times the second tile of weights: the low bytes, which have no sign, or more channels.
template <typename Tiles, int SUM, int SPIKES, bool TWO_PLANES>
INLINE void second_product(Tiles& tiles) {
    if (TWO_PLANES)
        Tiles::template unsigned_product<SUM, SPIKES, 7>(tiles);
    else
        Tiles::template signed_product<SUM, SPIKES, 7>(tiles);
}

// Spikes from some step on times weights, summed up over some convolutions. The products of TALL tiles of
// spikes with WIDE tiles of weights, which are of two planes or of as many channels, behind so many other
// tiles of channels: [tiles of weights, 32, 16].
template <typename Tiles, int TALL, int WIDE, bool TWO_PLANES>
INLINE void multiply(Tiles& tiles, const Views& views, int64_t step, int64_t channels, int32_t* products) {
    Tiles::template zero<0>(tiles), Tiles::template zero<1>(tiles);
    Tiles::template zero<2>(tiles), Tiles::template zero<3>(tiles);
    for (const View* view = views.begin; view != views.end; ++view) {
        const uint8_t* weights = view->weights + channels * int64_t(view->chunks.size()) * WIDE * TILE;
        const uint8_t* const spikes = view->spikes + step * view->step;
        const int64_t pitch = view->pitch;
        for (const Chunk& chunk : view->chunks) {
            Tiles::template load<6>(tiles, weights, CHUNK);
            if (WIDE > 1) Tiles::template load<7>(tiles, weights + TILE, CHUNK);
            weights += WIDE * TILE;
            const uint8_t* const from = spikes + chunk.offset;
            Tiles::template load<4>(tiles, from, pitch);
            Tiles::template signed_product<0, 4, 6>(tiles);
            if (WIDE > 1) second_product<Tiles, 1, 4, TWO_PLANES>(tiles);
            if (TALL == 1) continue;
            Tiles::template load<5>(tiles, from + view->beyond, pitch);
            Tiles::template signed_product<2, 5, 6>(tiles);
            if (WIDE > 1) second_product<Tiles, 3, 5, TWO_PLANES>(tiles);
        }
    }
    Tiles::template store<0>(tiles, products);
    if (TALL > 1) Tiles::template store<2>(tiles, products + SUMS);
    if (WIDE > 1) Tiles::template store<1>(tiles, products + 2 * SUMS);
    if (WIDE > 1 && TALL > 1) Tiles::template store<3>(tiles, products + 3 * SUMS);
}

template <typename Tiles, int WIDE, bool TWO_PLANES>
INLINE void multiply_rows(Tiles& tiles, const Views& views, int64_t step, int64_t rows, int64_t channels,
                          int32_t* products) {
    if (rows > ROWS)
        multiply<Tiles, 2, WIDE, TWO_PLANES>(tiles, views, step, channels, products);
    else
        multiply<Tiles, 1, WIDE, TWO_PLANES>(tiles, views, step, channels, products);
}

// The products of so many tiles of channels, of both planes or of the only one: [tiles of channels, planes,
// 32, 16].
template <typename Tiles>
INLINE void multiply_all(Tiles& tiles, const Views& views, int64_t step, int64_t rows, int64_t planes,
                         int64_t wide, int32_t* products) {
    if (planes == 1 && wide == 2)
        return multiply_rows<Tiles, 2, false>(tiles, views, step, rows, 0, products);
    if (planes == 1) return multiply_rows<Tiles, 1, false>(tiles, views, step, rows, 0, products);
    for (int64_t i = 0; i < wide; ++i, products += 4 * SUMS)
        multiply_rows<Tiles, 2, true>(tiles, views, step, rows, i, products);
}

// Sums of a tile of channels, [rows, WIDTH]: what was before, and the products of both planes or of the
// only one. factors: of the rows; null: 1.
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

// The same of so many tiles of channels.
template <typename V>
INLINE void add_all(const int32_t* products, const int32_t* factors, int64_t planes, int64_t rows,
                    int64_t wide, const Before& before, int32_t* sums) {
    for (int64_t i = 0; i < wide; ++i, products += planes * 2 * SUMS, sums += ROWS) {
        const Before own{before.rows + i * ROWS, before.stride};
        if (planes == 2)
            add_products<V, true>(products, factors, rows, own, sums);
        else
            add_products<V, false>(products, factors, rows, own, sums);
    }
}

// Adds what an identity brings at a step, by the words of its spikes [planes, channels of the source], of
// which `count` are wanted. gains: in lanes. PLANES: or more than there are.
template <typename V, int PLANES>
INLINE void add_planes(const Population& p, const uint32_t* words, int64_t channels, int64_t count,
                         const int32_t* gains, int32_t factor, int64_t positions, int32_t* sums) {
    using Ints = typename V::Ints;
    using Words = typename V::Words;
    for (int64_t lane = 0; lane < count; lane += V::LANES) {
        Words own[PLANES] = {}, bit = Words{} + 1u;
        Ints gain[PLANES] = {};
        for (int64_t k = 0; k < std::min<int64_t>(PLANES, p.planes); ++k) {
            const int32_t* from = (const int32_t*)words + k * channels + lane;
            gain[k] = MADD_AT(V, gains + lane) * (factor * multilevel::weight(p, k));
            madd::copy_lanes<V>(from, std::min(count - lane, V::LANES), (int32_t*)&own[k]);
        }
        for (int64_t i = 0; i < positions; ++i, bit += bit) {
            Ints sum = MADD_AT(V, sums + i * WIDTH + lane);
            for (int k = 0; k < PLANES; ++k) sum = (own[k] & bit) != 0 ? sum + gain[k] : sum;
            MADD_AT(V, sums + i * WIDTH + lane) = sum;
        }
    }
}

// The same, for spikes of any size.
template <typename V>
INLINE void add_identity(const Population& p, const uint32_t* words, int64_t channels, int64_t count,
                         const int32_t* gains, int32_t factor, int64_t positions, int32_t* sums) {
    if (p.planes == 1)
        add_planes<V, 1>(p, words, channels, count, gains, factor, positions, sums);
    else if (p.planes <= USUAL_PLANES)
        add_planes<V, USUAL_PLANES>(p, words, channels, count, gains, factor, positions, sums);
    else
        add_planes<V, madd::MOST_BITS>(p, words, channels, count, gains, factor, positions, sums);
}

}  // namespace amx
