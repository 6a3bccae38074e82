// All kernels, but in the place of the twin one that runs the tile instructions themselves; with
// -DWITH_AVX512 all else too as the real one.

#include "amx.h"
#include "tiles_by_signal.h"

namespace amx {

#if defined(WITH_AVX512)
#define OTHER_VECTORS madd::Avx512
#define FOR_OTHER_VECTORS MADD_AVX512
#else
#define OTHER_VECTORS Lanes
#define FOR_OTHER_VECTORS
#endif

struct Signalled : Unit {
    using Vectors = OTHER_VECTORS;
    INLINE void begin() {
        static const bool real = by_signal::prepare();
        if (!real) by_signal::settings = {};  // the thread's memory is there before a signal asks for it
        Unit::begin();
    }
};

template <>
FOR_OTHER_VECTORS void run_any<Signalled>(const Job& job, Desk<Signalled>& desk, int64_t image, int64_t first) {
    run_part(job, desk, image, first);
}
constexpr Kernel SIGNALLED_KERNEL = kernel<Signalled>("amx-twin", PORTABLE);

}  // namespace amx

#define TWIN_KERNEL SIGNALLED_KERNEL
#include "kernels.cpp"

extern "C" __attribute__((visibility("default"))) int64_t tile_instructions() { return by_signal::carried_out; }
