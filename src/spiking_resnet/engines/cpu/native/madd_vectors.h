// Vectors of the kernel of dense products (madd.h), one kind for each instruction set. All but the
// products themselves is written once, for any of them, in the arithmetic of the compiler's vectors.

#pragma once

#include "planes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define MADD_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define MADD_AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,bmi,bmi2,popcnt")))

namespace madd {

constexpr int64_t VECTORS = 2;  // of outputs, computed together at most

typedef int32_t Pair __attribute__((may_alias, aligned(2)));  // two numbers of 16 bits

// The types that vectors of so many bytes have; they may lie anywhere.
#define MADD_TYPES(BYTES)                                                                          \
    static constexpr int64_t LANES = BYTES / 4, WIDTH = VECTORS * LANES;                           \
    typedef int32_t Ints __attribute__((vector_size(BYTES), aligned(4), may_alias));               \
    typedef uint32_t Words __attribute__((vector_size(BYTES), aligned(4), may_alias));             \
    typedef float Floats __attribute__((vector_size(BYTES), aligned(4), may_alias));               \
    typedef int16_t Numbers __attribute__((vector_size(BYTES), aligned(2), may_alias));            \
    typedef uint16_t Naturals __attribute__((vector_size(BYTES), aligned(2), may_alias));          \
    typedef int16_t Shorts __attribute__((vector_size(BYTES / 2), aligned(2), may_alias));         \
    typedef int8_t Bytes __attribute__((vector_size(BYTES / 4), aligned(1), may_alias))

// ROWS: of numbers, that are multiplied by the same weights at once. Narrow: vectors that few channels
// fill. add: to each lane of `sums` the sum of two products, of the lane's two numbers of 16 bits with
// those of the other vector. widen: numbers of 16 bits to 32.
struct Portable {
    MADD_TYPES(16);
    using Narrow = Portable;
    static constexpr int64_t ROWS = 6;
    INLINE void add(Ints& sums, const Ints& numbers, const Ints& weights) {
#if defined(__x86_64__)
        sums += (Ints)_mm_madd_epi16((__m128i)numbers, (__m128i)weights);
#else
        sums += (numbers << 16 >> 16) * (weights << 16 >> 16) + (numbers >> 16) * (weights >> 16);
#endif
    }
    INLINE void widen(const int16_t* from, Ints& to) {
        to = __builtin_convertvector(*(const Shorts*)from, Ints);
    }
};

#if defined(__x86_64__)

struct Avx2 {
    MADD_TYPES(32);
    using Narrow = Portable;
    static constexpr int64_t ROWS = 6;
    INLINE MADD_AVX2 void add(Ints& sums, const Ints& numbers, const Ints& weights) {
        sums += (Ints)_mm256_madd_epi16((__m256i)numbers, (__m256i)weights);
    }
    INLINE MADD_AVX2 void widen(const int16_t* from, Ints& to) {
        to = (Ints)_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)from));
    }
};

struct Avx512 {
    MADD_TYPES(64);
    using Narrow = Avx2;
    static constexpr int64_t ROWS = 8;
    INLINE MADD_AVX512 void add(Ints& sums, const Ints& numbers, const Ints& weights) {
        sums = (Ints)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)numbers, (__m512i)weights);
    }
    INLINE MADD_AVX512 void widen(const int16_t* from, Ints& to) {
        to = (Ints)_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i*)from));
    }
};

#endif

// The vector that begins at a number: no function, since clang does not know how the vectors lie to
// which a function's references refer.
#define MADD_AT(V, number) (*(typename V::Ints*)(number))

// Copies numbers that lie in vectors, or will.
template <typename V>
INLINE void copy_lanes(const int32_t* from, int64_t count, int32_t* to) {
    int64_t i = 0;
    for (; i + V::LANES <= count; i += V::LANES) MADD_AT(V, to + i) = MADD_AT(V, from + i);
    for (; i < count; ++i) to[i] = from[i];
}

// Each lane the smaller, or the larger. Vector types are never template arguments: these lose what a type
// says of its alignment.
template <typename V>
INLINE void at_most(typename V::Ints& numbers, const typename V::Ints& others) {
    numbers = numbers < others ? numbers : others;
}

template <typename V>
INLINE void at_least(typename V::Ints& numbers, const typename V::Ints& others) {
    numbers = numbers > others ? numbers : others;
}

}  // namespace madd
