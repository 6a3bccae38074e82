// The handful of operations on tiles of Intel's AMX that the kernel (amx.h) uses, and a twin that computes
// the same on any machine. There are eight tiles, each of 16 rows of 64 bytes.

#pragma once

#include "madd_vectors.h"

// Compilers that have this header know the instructions.
#if defined(__x86_64__) && defined(__linux__) && defined(__has_include)
#if __has_include(<amxint8intrin.h>)
#define AMX_IS_KNOWN
#endif
#endif

namespace amx {

constexpr int64_t ROWS = 16;           // of a tile, and numbers of 32 bits in one
constexpr int64_t CHUNK = 64;          // bytes of a row: what products sum up at once
constexpr int64_t TILE = ROWS * CHUNK;

// The vectors that neurons are advanced in where no unit is; as many channels at once as two tiles have.
struct Lanes {
    static constexpr int64_t VECTORS = 8;
    MADD_TYPES(16);
};

// A product adds to number n of row m of tile `TO` the sum over k of byte k of row m of tile A, times
// byte 4 n + k % 4 of row k / 4 of tile B: the signed one (of A) with signed or with unsigned ones.
struct Twin {
    using Vectors = Lanes;
    INLINE void begin() {}
    INLINE void end() {}
    template <int TO>
    INLINE void zero(Twin& tiles) {
        std::memset(tiles.bytes[TO], 0, TILE);
    }
    template <int TO>
    INLINE void load(Twin& tiles, const void* from, int64_t stride) {
        for (int64_t m = 0; m < ROWS; ++m)
            std::memcpy(tiles.bytes[TO] + m * CHUNK, (const char*)from + m * stride, CHUNK);
    }
    template <int FROM>
    INLINE void store(const Twin& tiles, int32_t* to) {
        std::memcpy(to, tiles.bytes[FROM], TILE);
    }
    template <int TO, int A, int B>
    INLINE void signed_product(Twin& tiles) {
        tiles.multiply<int8_t>(TO, A, B);
    }
    template <int TO, int A, int B>
    INLINE void unsigned_product(Twin& tiles) {
        tiles.multiply<uint8_t>(TO, A, B);
    }

private:
    template <typename Number>
    void multiply(int to, int a, int b) {
        for (int64_t m = 0; m < ROWS; ++m) {
            uint32_t sums[ROWS];  // they may wrap around, as those of tiles do
            std::memcpy(sums, bytes[to] + m * CHUNK, CHUNK);
            for (int64_t k = 0; k < CHUNK; ++k) {
                const int32_t own = int8_t(bytes[a][m * CHUNK + k]);
                const uint8_t* row = bytes[b] + k / 4 * CHUNK + k % 4;
                for (int64_t n = 0; own && n < ROWS; ++n)
                    sums[n] += uint32_t(own * int32_t(Number(row[4 * n])));
            }
            std::memcpy(bytes[to] + m * CHUNK, sums, CHUNK);
        }
    }

    alignas(64) uint8_t bytes[8][TILE];
};

#if defined(AMX_IS_KNOWN)

struct Unit {
    using Vectors = madd::Avx512;
    // All tiles in their full size. A thread begins before it uses any, and ends.
    INLINE void begin() {
        struct {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {CHUNK, CHUNK, CHUNK, CHUNK, CHUNK, CHUNK, CHUNK, CHUNK};
            uint8_t rows[16] = {ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS};
        } sizes;
        __asm__ volatile("ldtilecfg %0" ::"m"(sizes));
    }
    INLINE void end() { __asm__ volatile("tilerelease"); }
    template <int TO>
    INLINE void zero(Unit&) {
        __asm__ volatile("tilezero %%tmm%c0" ::"i"(TO));
    }
    template <int TO>
    INLINE void load(Unit&, const void* from, int64_t stride) {
        __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(TO) : "memory");
    }
    template <int FROM>
    INLINE void store(const Unit&, int32_t* to) {
        __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(CHUNK), "i"(FROM) : "memory");
    }
    template <int TO, int A, int B>
    INLINE void signed_product(Unit&) {
        __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(TO), "i"(A), "i"(B));
    }
    template <int TO, int A, int B>
    INLINE void unsigned_product(Unit&) {
        __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(TO), "i"(A), "i"(B));
    }
};

#endif

}  // namespace amx
