// The products of the kernel of dense products (madd.h): numbers of 16 bits times weights of 16 bits, added
// up in registers. Included once for each instruction set, with MADD_VECTORS (its vectors) and MADD_CODE
// (the attribute of its functions) defined.

namespace madd {

template <>
struct Products<MADD_VECTORS> {
    using V = MADD_VECTORS;
    using Ints = V::Ints;
    static constexpr int TOGETHER = 4;  // rows that one weight of each channel serves

    template <int ROWS, int WIDE>
    INLINE MADD_CODE void multiply_tile(const Rows& rows, const Vector<Run>& runs,
                                        const int32_t* weights, int64_t first) {
        Ints sums[ROWS][WIDE];
        for (int r = 0; r < ROWS; ++r)
            for (int i = 0; i < WIDE; ++i) sums[r][i] = Ints{};
        for (const Run* run = runs.data(); run < runs.data() + runs.size(); ++run) {
            const Pair* from[ROWS];
            for (int r = 0; r < ROWS; ++r) from[r] = (const Pair*)(rows.numbers[first + r] + run->offset);
            for (int64_t k = 0; k < run->pairs; ++k, weights += WIDE * V::LANES) {
                Ints own[WIDE];
                for (int i = 0; i < WIDE; ++i) own[i] = MADD_AT(V, weights + i * V::LANES);
                for (int r = 0; r < ROWS; ++r) {
                    const Ints numbers = Ints{} + from[r][k];
                    for (int i = 0; i < WIDE; ++i) V::add(sums[r][i], numbers, own[i]);
                }
            }
        }
        for (int r = 0; r < ROWS; ++r)
            for (int i = 0; i < WIDE; ++i) finish<V>(rows, first + r, i * V::LANES, sums[r][i]);
    }

    template <int ROWS>
    INLINE MADD_CODE void multiply_some(const Rows& rows, const Vector<Run>& runs,
                                        const int32_t* weights, int64_t vectors, int64_t first,
                                        int64_t number) {
        if (number == ROWS)
            vectors == 1 ? multiply_tile<ROWS, 1>(rows, runs, weights, first)
                         : multiply_tile<ROWS, VECTORS>(rows, runs, weights, first);
        else if constexpr (ROWS > 1)
            multiply_some<ROWS - 1>(rows, runs, weights, vectors, first, number);
    }

    // Adds numbers times weights [pairs of all runs, vectors, lanes], in tiles of about the same size.
    __attribute__((noinline)) MADD_CODE static void multiply(const Rows& rows, const Vector<Run>& runs,
                                                             const int32_t* weights,
                                                             int64_t vectors) {
        const uint32_t count = uint32_t(rows.count), tiles = (count + V::ROWS - 1) / V::ROWS;
        const uint32_t each = count / tiles, more = count % tiles;
        for (uint32_t tile = 0, first = 0; tile < tiles; ++tile) {
            const uint32_t number = each + (tile < more);
            multiply_some<V::ROWS>(rows, runs, weights, vectors, first, number);
            first += number;
        }
    }

    template <int ROWS>
    INLINE MADD_CODE void add_some(const Rows& rows, const Vector<Run>& runs, const int32_t* weights,
                                   int64_t vectors, int64_t first) {
        for (int64_t lane = 0; lane < vectors * V::LANES; lane += V::LANES) {
            Ints sums[ROWS], numbers;
            for (int r = 0; r < ROWS; ++r) sums[r] = Ints{};
            const int32_t* own = weights + lane;
            for (const Run* run = runs.data(); run < runs.data() + runs.size(); ++run) {
                const Ints weight = MADD_AT(V, own);
                for (int r = 0; r < ROWS; ++r) {
                    V::widen(rows.numbers[first + r] + run->offset + lane, numbers);
                    V::add(sums[r], numbers, weight);
                }
                own += vectors * V::LANES;
            }
            for (int r = 0; r < ROWS; ++r) finish<V>(rows, first + r, lane, sums[r]);
        }
    }

    // The same where outputs see their own channel alone: weights [runs, vectors, lanes], of a pair of
    // which the second one is 0.
    __attribute__((noinline)) MADD_CODE static void add_channels(const Rows& rows,
                                                                 const Vector<Run>& runs,
                                                                 const int32_t* weights,
                                                                 int64_t vectors) {
        int64_t first = 0;
        for (; first + TOGETHER <= rows.count; first += TOGETHER)
            add_some<TOGETHER>(rows, runs, weights, vectors, first);
        for (; first < rows.count; ++first) add_some<1>(rows, runs, weights, vectors, first);
    }

    template <int ROWS>
    INLINE MADD_CODE void add_some_short(const Rows& rows, const Vector<Run>& runs,
                                         const int16_t* weights, int64_t vectors, int64_t first) {
        using Naturals = V::Naturals;  // they may wrap around on the way
        Naturals sums[ROWS];
        for (int r = 0; r < ROWS; ++r) sums[r] = Naturals{};
        for (const Run* run = runs.data(); run < runs.data() + runs.size(); ++run) {
            const Naturals weight = *(const Naturals*)weights;
            for (int r = 0; r < ROWS; ++r)
                sums[r] += *(const Naturals*)(rows.numbers[first + r] + run->offset) * weight;
            weights += V::WIDTH;
        }
        for (int r = 0; r < ROWS; ++r)
            for (int64_t lane = 0; lane < vectors * V::LANES; lane += V::LANES) {
                Ints own;
                V::widen((const int16_t*)&sums[r] + lane, own);
                finish<V>(rows, first + r, lane, own);
            }
    }

    // The same where sums fit 16 bits: weights [runs, WIDTH].
    __attribute__((noinline)) MADD_CODE static void add_short(const Rows& rows, const Vector<Run>& runs,
                                                              const int16_t* weights,
                                                              int64_t vectors) {
        int64_t first = 0;
        for (; first + V::ROWS <= rows.count; first += V::ROWS)
            add_some_short<V::ROWS>(rows, runs, weights, vectors, first);
        for (; first < rows.count; ++first) add_some_short<1>(rows, runs, weights, vectors, first);
    }

    // The same of an identity: weights [vectors, lanes] of 32 bits.
    __attribute__((noinline)) MADD_CODE static void add_identity(const Rows& rows,
                                                                 const int32_t* weights,
                                                                 int64_t vectors) {
        Ints numbers;
        for (int64_t r = 0; r < rows.count; ++r)
            for (int64_t lane = 0; lane < vectors * V::LANES; lane += V::LANES) {
                V::widen(rows.numbers[r] + lane, numbers);
                finish<V>(rows, r, lane, numbers * MADD_AT(V, weights + lane));
            }
    }
};

}  // namespace madd
