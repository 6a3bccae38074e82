// All kernels, but in the place of the twin of the kernel of tiles one whose tile operations do nothing but
// count themselves, and write zeros where sums would be stored: what is left is the work of the vectors.
// Compiled by tile_costs.py.

#include <atomic>

#include "amx.h"

namespace amx {

std::atomic<int64_t> counted[3];  // products, loads, stores

struct Counted {
    using Vectors = madd::Avx512;
    int64_t products = 0, loads = 0, stores = 0;

    INLINE void begin() {}
    void end() {
        counted[0] += products, counted[1] += loads, counted[2] += stores;
        products = loads = stores = 0;
    }
    template <int TO>
    INLINE void zero(Counted&) {}
    template <int TO>
    INLINE void load(Counted& tiles, const void*, int64_t) {
        ++tiles.loads;
    }
    template <int FROM>
    INLINE void store(Counted& tiles, int32_t* to) {
        ++tiles.stores;
        for (int64_t i = 0; i < SUMS; i += Vectors::LANES) MADD_AT(Vectors, to + i) = Vectors::Ints{};
    }
    template <int TO, int A, int B>
    INLINE void signed_product(Counted& tiles) {
        ++tiles.products;
    }
    template <int TO, int A, int B>
    INLINE void unsigned_product(Counted& tiles) {
        ++tiles.products;
    }
};

template <>
MADD_AVX512 void run_any<Counted>(const Job& job, Desk<Counted>& desk, int64_t image, int64_t first) {
    run_part(job, desk, image, first);
}
constexpr Kernel COUNTED_KERNEL = kernel<Counted>("amx-twin", PORTABLE);

}  // namespace amx

#define TWIN_KERNEL COUNTED_KERNEL
#include "kernels.cpp"

// Writes how many products, loads and stores of tiles there were since this was asked last.
extern "C" __attribute__((visibility("default"))) void tiles_counted(int64_t* to) {
    for (int i = 0; i < 3; ++i) to[i] = amx::counted[i].exchange(0);
}
