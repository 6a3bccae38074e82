// Whether this machine has tiles (amx_tiles.h), and whether they are to be used.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "amx_tiles.h"

#if defined(AMX_IS_KNOWN)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace amx {

// Whether what a processor tells of itself includes tiles of bytes, and the operating system saves them.
// features: EDX of CPUID's leaf 7; saved: the register XCR0.
constexpr bool has_tiles(uint32_t features, uint64_t saved) {
    constexpr uint32_t TILES = 1u << 24, BYTES = 1u << 25;
    constexpr uint64_t SETTINGS = 1u << 17, DATA = 1u << 18;
    return !(~features & (TILES | BYTES)) && !(~saved & (SETTINGS | DATA));
}

// Whether they were asked for. The kernel has never run on a processor that has tiles: until it has, it is
// used only where the environment variable SPIKING_RESNET_AMX is 1.
inline bool is_asked_for() {
    const char* const value = std::getenv("SPIKING_RESNET_AMX");
    return value && !std::strcmp(value, "1");
}

#if defined(AMX_IS_KNOWN)

inline bool machine_has_tiles() {
    uint32_t a, b, c, features, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &features)) return false;
    if (!(c & bit_OSXSAVE)) return false;  // no XCR0
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &features)) return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return has_tiles(features, uint64_t{high} << 32 | low);
}

// The operating system's permission to use them, for all threads of this process.
inline bool is_permitted() {
    constexpr long REQUEST = 0x1023, DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, REQUEST, DATA) == 0;
}

// Whether tiles are to be used; found out once.
inline bool is_usable() {
    static const bool found = is_asked_for() && machine_has_tiles() && is_permitted();
    return found;
}

#else

inline bool is_usable() { return false; }

#endif

}  // namespace amx
