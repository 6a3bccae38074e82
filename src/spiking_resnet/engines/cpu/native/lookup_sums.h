// The sums of the lookup kernel for AVX-512: for every key of a unit a look-up and an addition.

#pragma once

#include "lookup_job.h"

#if defined(__x86_64__)

namespace lookup_avx512 {

// The innermost loops of all, for units of two channels: each key is 4 + 8 loads, 16 lookups and 16
// additions, and takes as many cycles as there are lookups. They are in assembler because compilers
// copy and spill accumulators.
#define TWO_CHANNELS(t, offset, i, j)                           \
    "vmovdqa64 " #offset "(%[panel]), %%zmm" #i "\n"            \
    "vmovdqa64 %%zmm" #i ", %%zmm" #j "\n"                      \
    "vpermi2w %%zmm29, %%zmm28, %%zmm" #i "\n"                  \
    "vpermi2w %%zmm31, %%zmm30, %%zmm" #j "\n"                  \
    "vpaddw %%zmm" #i ", %%zmm" #t ", %%zmm" #t "\n"            \
    "vpaddw %%zmm" #j ", %%zmm1" #t ", %%zmm1" #t "\n"
#define QUOTIENTS(offset, i, j)                                 \
    "vmovdqa64 " #offset "(%[panel]), %%zmm8\n"                 \
    "vpermb %%zmm18, %%zmm8, %%zmm9\n"                          \
    "vpaddb %%zmm9, %%zmm" #i ", %%zmm" #i "\n"                 \
    "vpermb %%zmm19, %%zmm8, %%zmm9\n"                          \
    "vpaddb %%zmm9, %%zmm" #j ", %%zmm" #j "\n"
#define LOAD_TABLES                                                             \
    "vmovdqa64 (%[table]), %%zmm28\n vmovdqa64 64(%[table]), %%zmm29\n"         \
    "vmovdqa64 128(%[table]), %%zmm30\n vmovdqa64 192(%[table]), %%zmm31\n"
#define NEXT_SLICE                                                                      \
    "2:\n mov (%[slice]), %[panel]\n mov 8(%[slice]), %[keys]\n add $16, %[slice]\n"    \
    "test %[keys], %[keys]\n jz 4f\n .p2align 5\n 3:\n"
#define STORE(t, offset, far)                                   \
    "vmovdqa64 %%zmm" #t ", " #offset "(%[sums])\n"             \
    "vmovdqa64 %%zmm1" #t ", " #far "(%[sums])\n"
#define START(t, offset, far)                                   \
    "vmovdqa64 %%zmm28, %%zmm" #t "\n vmovdqa64 %%zmm29, %%zmm1" #t "\n"
#define LOAD(t, offset, far)                                    \
    "vmovdqa64 " #offset "(%[sums]), %%zmm" #t "\n"             \
    "vmovdqa64 " #far "(%[sums]), %%zmm1" #t "\n"
#define EACH(WHAT)                                                                         \
    WHAT(0, 0, 512) WHAT(1, 64, 576) WHAT(2, 128, 640) WHAT(3, 192, 704) WHAT(4, 256, 768) \
        WHAT(5, 320, 832) WHAT(6, 384, 896) WHAT(7, 448, 960)
#define ALL_REGISTERS                                                                           \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",     \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19",         \
        "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28",         \
        "xmm29", "xmm30", "xmm31"

// The sums [2, 8, 32] of what the slices' keys bring, from `low` [2] on, or (null) from what they are.
AVX512 static void sum_pair(const Slice* slice, const char* table, const int16_t* low, char* sums) {
    const uint16_t* panel;
    int64_t keys;
    asm volatile(
        "test %[low], %[low]\n jz 1f\n"
        "vpbroadcastw (%[low]), %%zmm28\n vpbroadcastw 2(%[low]), %%zmm29\n"
        EACH(START) "jmp 2f\n 1:\n" EACH(LOAD) NEXT_SLICE LOAD_TABLES
        TWO_CHANNELS(0, 0, 20, 21) TWO_CHANNELS(1, 64, 22, 23)
        TWO_CHANNELS(2, 128, 24, 25) TWO_CHANNELS(3, 192, 26, 27)
        TWO_CHANNELS(4, 256, 18, 19) TWO_CHANNELS(5, 320, 8, 9)
        TWO_CHANNELS(6, 384, 20, 21) TWO_CHANNELS(7, 448, 22, 23)
        "add $256, %[table]\n add $512, %[panel]\n dec %[keys]\n jnz 3b\n jmp 2b\n 4:\n"
        EACH(STORE)
        : [slice] "+r"(slice), [table] "+r"(table), [panel] "=&r"(panel), [keys] "=&r"(keys)
        : [sums] "r"(sums), [low] "r"(low)
        : "memory", "cc", ALL_REGISTERS);
}

// The same with the sums of the quotients, [2, 4, 64]: bytes of two steps in turn.
AVX512 static void sum_wide(const Slice* slice, const char* table, const int16_t* low,
                            const int16_t* high, char* sums) {
#define STORE_QUOTIENT(i, offset) "vmovdqa64 %%zmm" #i ", " #offset "(%[sums])\n"
    const uint16_t* panel;
    int64_t keys;
    asm volatile(
        "vpbroadcastw (%[low]), %%zmm28\n vpbroadcastw 2(%[low]), %%zmm29\n"
        "vpbroadcastw (%[high]), %%zmm20\n vpbroadcastw 2(%[high]), %%zmm24\n"
        "vmovdqa64 %%zmm20, %%zmm21\n vmovdqa64 %%zmm20, %%zmm22\n vmovdqa64 %%zmm20, %%zmm23\n"
        "vmovdqa64 %%zmm24, %%zmm25\n vmovdqa64 %%zmm24, %%zmm26\n vmovdqa64 %%zmm24, %%zmm27\n"
        EACH(START) NEXT_SLICE LOAD_TABLES
        "vmovdqa64 256(%[table]), %%zmm18\n vmovdqa64 320(%[table]), %%zmm19\n"
        QUOTIENTS(0, 20, 24) TWO_CHANNELS(0, 0, 8, 9) TWO_CHANNELS(1, 64, 8, 9)
        QUOTIENTS(128, 21, 25) TWO_CHANNELS(2, 128, 8, 9) TWO_CHANNELS(3, 192, 8, 9)
        QUOTIENTS(256, 22, 26) TWO_CHANNELS(4, 256, 8, 9) TWO_CHANNELS(5, 320, 8, 9)
        QUOTIENTS(384, 23, 27) TWO_CHANNELS(6, 384, 8, 9) TWO_CHANNELS(7, 448, 8, 9)
        "add $384, %[table]\n add $512, %[panel]\n dec %[keys]\n jnz 3b\n jmp 2b\n 4:\n"
        EACH(STORE)
        STORE_QUOTIENT(20, 1024) STORE_QUOTIENT(21, 1088) STORE_QUOTIENT(22, 1152)
        STORE_QUOTIENT(23, 1216) STORE_QUOTIENT(24, 1280) STORE_QUOTIENT(25, 1344)
        STORE_QUOTIENT(26, 1408) STORE_QUOTIENT(27, 1472)
        : [slice] "+r"(slice), [table] "+r"(table), [panel] "=&r"(panel), [keys] "=&r"(keys)
        : [sums] "r"(sums), [low] "r"(low), [high] "r"(high)
        : "memory", "cc", ALL_REGISTERS);
#undef STORE_QUOTIENT
}

#undef TWO_CHANNELS
#undef QUOTIENTS
#undef LOAD_TABLES
#undef NEXT_SLICE
#undef STORE
#undef START
#undef LOAD
#undef EACH
#undef ALL_REGISTERS

// The same for a unit of one channel; `high` where there are quotients.
template <bool WIDE>
AVX512 static void sum_single(const Slice* slice, const char* table, const int16_t* low,
                              const int16_t* high, char* sums) {
    constexpr int64_t PAIRS = WIDE ? CHUNK / 2 : 1;
    __m512i sum[CHUNK], quotient[PAIRS];
    __m512i* const kept = (__m512i*)sums;
    for (int64_t t = 0; t < CHUNK; ++t)
        sum[t] = low ? _mm512_set1_epi16(*low) : _mm512_load_si512(kept + t);
    for (int64_t i = 0; i < PAIRS; ++i) quotient[i] = _mm512_set1_epi16(WIDE ? *high : 0);
    for (; slice->keys; ++slice) {
        const uint16_t* panel = slice->panel;
        for (int64_t key = 0; key < slice->keys; ++key, panel += CHUNK * BLOCK) {
            const __m512i near = _mm512_load_si512(table), far = _mm512_load_si512(table + 64);
            const __m512i eighth = WIDE ? _mm512_load_si512(table + 128) : near;
            for (int64_t t = 0; t < CHUNK; ++t) {
                const __m512i index = _mm512_load_si512(panel + t * BLOCK);
                sum[t] = _mm512_add_epi16(sum[t], _mm512_permutex2var_epi16(near, index, far));
                if (WIDE && t % 2 == 0)
                    quotient[t / 2] = _mm512_add_epi8(quotient[t / 2],
                                                      _mm512_permutexvar_epi8(index, eighth));
            }
            table += ENTRIES * (WIDE ? 3 : 2);
        }
    }
    for (int64_t t = 0; t < CHUNK; ++t) _mm512_store_si512(kept + t, sum[t]);
    if (WIDE)
        for (int64_t i = 0; i < PAIRS; ++i) _mm512_store_si512(kept + CHUNK + i, quotient[i]);
}

}  // namespace lookup_avx512

#endif
