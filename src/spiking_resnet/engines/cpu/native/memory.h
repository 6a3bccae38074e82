// Memory of the kernels: where there is none, what was asked for is told.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

struct OutOfMemory : std::bad_alloc {
    int64_t bytes;  // asked for
    explicit OutOfMemory(int64_t asked) : bytes(asked) {}
};

// So many allocations from now on one finds no memory: a test's choice; 0: none does.
static std::atomic<int64_t> allocations_to_failure{0};

// Memory that begins at a multiple of 64 bytes.
static inline void* allocate(int64_t bytes) {
    const bool refused = allocations_to_failure > 0 && --allocations_to_failure == 0;
    void* found = refused ? nullptr : operator new(bytes, std::align_val_t{64}, std::nothrow);
    if (!found) throw OutOfMemory(bytes);
    return found;
}

static inline void release(void* memory) { operator delete(memory, std::align_val_t{64}); }

template <typename T>
struct Allocator {
    using value_type = T;
    Allocator() = default;
    template <typename Other>
    Allocator(const Allocator<Other>&) {}
    T* allocate(size_t number) { return static_cast<T*>(::allocate(int64_t(number * sizeof(T)))); }
    void deallocate(T* memory, size_t) { release(memory); }
    friend bool operator==(const Allocator&, const Allocator&) { return true; }
    friend bool operator!=(const Allocator&, const Allocator&) { return false; }
};

template <typename T>
using Vector = std::vector<T, Allocator<T>>;

// Memory with nothing written to it yet, which grows as it is asked to.
class Room {
public:
    void reserve(int64_t bytes) {
        if (bytes <= size) return;
        memory.reset();
        size = 0;
        memory.reset(static_cast<char*>(allocate(bytes)));
        size = bytes;
    }
    char* data() const { return memory.get(); }

private:
    struct Release {
        void operator()(char* held) const { release(held); }
    };
    std::unique_ptr<char, Release> memory;
    int64_t size = 0;
};
