// All kernels, but in the place of the twin one that runs the tile instructions themselves.

#include "amx.h"
#include "tiles_by_signal.h"

namespace amx {

struct Signalled : Unit {
    using Vectors = Lanes;  // neurons are advanced without AVX-512
    INLINE void begin() {
        static const bool real = by_signal::prepare();
        if (!real) by_signal::settings = {};  // the thread's memory is there before a signal asks for it
        Unit::begin();
    }
};

template <>
void run_any<Signalled>(const Job& job, Desk<Signalled>& desk, int64_t image, int64_t first) {
    run_part(job, desk, image, first);
}
constexpr Kernel SIGNALLED_KERNEL = kernel<Signalled>("amx-twin", PORTABLE);

}  // namespace amx

#define TWIN_KERNEL SIGNALLED_KERNEL
#include "kernels.cpp"

extern "C" __attribute__((visibility("default"))) int64_t tile_instructions() { return by_signal::carried_out; }
