// The operations on tiles of native/amx_tiles.h beside their twin in C++. On a processor without tiles
// every instruction is an illegal one, and is carried out here as Intel's manual says (Software
// Developer's Manual, volume 2: LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPB*D, TILERELEASE).

#include <cassert>
#include <csignal>
#include <cstdio>
#include <random>
#include <ucontext.h>

#include "memory.h"
#include "amx_machine.h"

namespace {

struct Settings {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} settings = {};
uint8_t tiles[8][16][64];
int64_t carried_out = 0;

// A VEX instruction with a prefix of three bytes.
struct Instruction {
    const uint8_t* code;
    int reg, rm, third, mod, prefix;

    explicit Instruction(const uint8_t* at)
        : code(at), reg(at[4] >> 3 & 7), rm(at[4] & 7), third(~at[2] >> 3 & 15), mod(at[4] >> 6),
          prefix(at[2] & 3) {}

    bool is_known() const { return code[0] == 0xC4 && (code[1] & 31) == 2 && !(code[2] & 0x84); }
};

uint64_t general(const ucontext_t& context, int number) {
    constexpr int ORDER[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return uint64_t(context.uc_mcontext.gregs[ORDER[number]]);
}

// Where a memory operand lies; length: of the whole instruction; index: of a SIB byte, in bytes.
uint64_t address(const ucontext_t& context, const Instruction& i, int64_t& length, uint64_t& index) {
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

void carry_out(int, siginfo_t*, void* where) {
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
        const uint64_t base = address(context, i, length, stride) ;
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

std::mt19937 draw(1);

void fill(Vector<uint8_t>& bytes) {
    for (uint8_t& byte : bytes) byte = uint8_t(draw() >> 7);
}

template <int TILE>
void same(amx::Unit& unit, amx::Twin& twin) {
    int32_t found[2][256];
    std::memset(found, 1, sizeof found);
    unit.store<TILE>(unit, found[0]), twin.store<TILE>(twin, found[1]);
    assert(!std::memcmp(found[0], found[1], sizeof found[0]));
}

void all_same(amx::Unit& unit, amx::Twin& twin) {
    same<0>(unit, twin), same<1>(unit, twin), same<2>(unit, twin), same<3>(unit, twin);
    same<4>(unit, twin), same<5>(unit, twin), same<6>(unit, twin), same<7>(unit, twin);
}

}  // namespace

int main() {
    const bool real = amx::machine_has_tiles() && amx::is_permitted();
    if (!real) {
        struct sigaction action = {};
        action.sa_sigaction = carry_out, action.sa_flags = SA_SIGINFO | SA_NODEFER;
        assert(!sigaction(SIGILL, &action, nullptr));
    }
    static amx::Twin twin;
    amx::Unit unit;
    unit.begin(), twin.begin();
    Vector<uint8_t> bytes(16 * 4096);
    for (const int64_t stride : {64, 0, 1, 48, 80, 4096 - 7}) {
        fill(bytes);
        unit.load<0>(unit, bytes.data(), stride), twin.load<0>(twin, bytes.data(), stride);
        unit.load<4>(unit, bytes.data() + 3, stride), twin.load<4>(twin, bytes.data() + 3, stride);
        unit.load<5>(unit, bytes.data() + 5, stride), twin.load<5>(twin, bytes.data() + 5, stride);
        unit.load<6>(unit, bytes.data() + 6, stride), twin.load<6>(twin, bytes.data() + 6, stride);
        unit.load<7>(unit, bytes.data() + 7, stride), twin.load<7>(twin, bytes.data() + 7, stride);
        unit.zero<1>(unit), twin.zero<1>(twin);
        unit.zero<2>(unit), twin.zero<2>(twin), unit.zero<3>(unit), twin.zero<3>(twin);
        all_same(unit, twin);
        for (int repeat = 0; repeat < 3; ++repeat) {
            unit.signed_product<0, 4, 6>(unit), twin.signed_product<0, 4, 6>(twin);
            unit.unsigned_product<1, 4, 7>(unit), twin.unsigned_product<1, 4, 7>(twin);
            unit.signed_product<2, 5, 6>(unit), twin.signed_product<2, 5, 6>(twin);
            unit.unsigned_product<3, 5, 7>(unit), twin.unsigned_product<3, 5, 7>(twin);
            unit.signed_product<1, 4, 7>(unit), twin.signed_product<1, 4, 7>(twin);
            all_same(unit, twin);
        }
    }
    unit.end(), twin.end();
    assert(real || (carried_out > 300 && settings.palette == 0));
    std::printf("%s\n", real ? "the processor's tiles" : "carried out here");
}
