// On a processor without tiles every instruction of AMX is an illegal one; here it is carried out as
// Intel's manual says (Software Developer's Manual, volume 2: LDTILECFG, TILELOADD, TILESTORED, TILEZERO,
// TDPB*D, TILERELEASE), for each thread.

#pragma once

#include <atomic>
#include <cassert>
#include <csignal>
#include <ucontext.h>

#include "amx_machine.h"

namespace by_signal {

struct Settings {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
inline thread_local Settings settings = {};
inline thread_local uint8_t tiles[8][16][64] = {};
inline std::atomic<int64_t> carried_out{0};  // by all threads

// A VEX instruction with a prefix of three bytes.
struct Instruction {
    const uint8_t* code;
    int reg, rm, third, mod, prefix;

    explicit Instruction(const uint8_t* at)
        : code(at), reg(at[4] >> 3 & 7), rm(at[4] & 7), third(~at[2] >> 3 & 15), mod(at[4] >> 6),
          prefix(at[2] & 3) {}

    bool is_known() const { return code[0] == 0xC4 && (code[1] & 31) == 2 && !(code[2] & 0x84); }
};

inline uint64_t general(const ucontext_t& context, int number) {
    constexpr int ORDER[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return uint64_t(context.uc_mcontext.gregs[ORDER[number]]);
}

// Where a memory operand lies; length: of the whole instruction; index: of a SIB byte, in bytes.
inline uint64_t address(const ucontext_t& context, const Instruction& i, int64_t& length, uint64_t& index) {
    const uint8_t* at = i.code + 5;
    const bool indexed = i.rm == 4;
    const int more_base = ~i.code[1] >> 5 & 1, more_index = ~i.code[1] >> 6 & 1;
    int base = i.rm;
    index = 0;
    if (indexed) {
        const int number = (*at >> 3 & 7) + 8 * more_index;
        if (number != 4) index = general(context, number) << (*at >> 6);
        base = *at++ & 7;
    }
    assert(!(i.mod == 0 && base == 5 && indexed));  // no base: no compiler needs it here
    int32_t offset = 0;
    if (i.mod == 1) offset = int8_t(*at), at += 1;
    const bool relative = i.mod == 0 && base == 5;
    if (i.mod == 2 || relative) std::memcpy(&offset, at, 4), at += 4;
    length = at - i.code;
    const uint64_t from = relative ? uint64_t(i.code) + length : general(context, base + 8 * more_base);
    return from + int64_t(offset);
}

template <typename Own, typename Other>
void multiply(int to, int a, int b) {
    for (int m = 0; m < settings.rows[to]; ++m)
        for (int k = 0; k < settings.row_bytes[a] / 4; ++k)
            for (int n = 0; n < settings.row_bytes[to] / 4; ++n) {
                int32_t sum;
                std::memcpy(&sum, &tiles[to][m][4 * n], 4);
                for (int i = 0; i < 4; ++i)
                    sum = int32_t(uint32_t(sum) + uint32_t(int32_t(Own(tiles[a][m][4 * k + i])) *
                                                           int32_t(Other(tiles[b][k][4 * n + i]))));
                std::memcpy(&tiles[to][m][4 * n], &sum, 4);
            }
}

inline void carry_out(int, siginfo_t*, void* where) {
    ucontext_t& context = *static_cast<ucontext_t*>(where);
    auto& next = context.uc_mcontext.gregs[REG_RIP];
    const Instruction i(reinterpret_cast<const uint8_t*>(next));
    if (!i.is_known()) std::abort();
    constexpr int NONE = 0, X66 = 1, XF3 = 2, XF2 = 3;
    int64_t length = 5;
    uint64_t stride = 0;
    switch (i.code[3]) {
    case 0x49:
        if (i.mod == 3 && i.prefix == NONE) settings = {};
        else if (i.mod == 3 && i.prefix == XF2) std::memset(tiles[i.reg], 0, sizeof tiles[i.reg]);
        else if (i.prefix == NONE && i.reg == 0) {
            std::memcpy(&settings, reinterpret_cast<void*>(address(context, i, length, stride)), 64);
            assert(settings.palette == 1 && settings.start == 0);
            for (int n = 0; n < 8; ++n) assert(settings.rows[n] <= 16 && settings.row_bytes[n] <= 64);
            std::memset(tiles, 0, sizeof tiles);
        } else std::abort();
        break;
    case 0x4B: {
        const uint64_t base = address(context, i, length, stride);
        assert(settings.palette == 1 && i.rm == 4);
        for (int m = 0; m < settings.rows[i.reg]; ++m) {
            void* row = reinterpret_cast<void*>(base + uint64_t(m) * stride);
            if (i.prefix == XF2) std::memcpy(tiles[i.reg][m], row, settings.row_bytes[i.reg]);
            else if (i.prefix == XF3) std::memcpy(row, tiles[i.reg][m], settings.row_bytes[i.reg]);
            else std::abort();
        }
        break;
    }
    case 0x5E:
        assert(i.mod == 3 && settings.palette == 1);
        if (i.prefix == XF2) multiply<int8_t, int8_t>(i.reg, i.rm, i.third);
        if (i.prefix == XF3) multiply<int8_t, uint8_t>(i.reg, i.rm, i.third);
        if (i.prefix == X66) multiply<uint8_t, int8_t>(i.reg, i.rm, i.third);
        if (i.prefix == NONE) multiply<uint8_t, uint8_t>(i.reg, i.rm, i.third);
        break;
    default: std::abort();
    }
    ++carried_out;
    next += length;
}

// Nothing where the processor has tiles itself. Returns whether it has.
inline bool prepare() {
    if (amx::machine_has_tiles() && amx::is_permitted()) return true;
    struct sigaction action = {};
    action.sa_sigaction = carry_out, action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGILL, &action, nullptr)) std::abort();
    return false;
}

}  // namespace by_signal
