// The operations on tiles of native/amx_tiles.h beside their twin in C++.

#include <cstdio>
#include <random>

#include "tiles_by_signal.h"

namespace {

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
    const bool real = by_signal::prepare();
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
    assert(real || (by_signal::carried_out > 300 && by_signal::settings.palette == 0));
    std::printf("%s\n", real ? "the processor's tiles" : "carried out here");
}
