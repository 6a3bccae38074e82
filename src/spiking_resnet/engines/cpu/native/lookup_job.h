// What the threads of the lookup kernel for AVX-512 work by, and what each of them works with.

#pragma once

#include "lookup_views.h"
#include "madd.h"

#if defined(__x86_64__)

namespace lookup_avx512 {

constexpr int64_t SIDE = 16;        // channels of a stream that are turned together
constexpr int64_t SEATS = 8;        // blocks that are computed together, at most
constexpr int64_t CACHE = 1 << 20;  // bytes that stay near: the second cache,
constexpr int64_t LAST_CACHE = 16 << 20;  // and about what a core has of the third

// Some keys of a part, one after the other. A part's slices end with one of no keys.
struct Slice {
    const uint16_t* panel;  // [keys, CHUNK, 32]
    int64_t keys;
};

// Where a slice is found: keys from `first` on of a row of a source.
struct Cut {
    int64_t view, row, first, keys;
};

// The slices of every part. keys: of all sources.
Vector<Cut> cuts_of(const Vector<const View*>& views, int64_t keys, int64_t parts) {
    Vector<Cut> found;
    for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = part_of(keys, part, parts), past = part_of(keys, part + 1, parts);
        int64_t before = 0;
        for (int64_t view = 0; view < int64_t(views.size()); ++view)
            for (int64_t row = 0; row < views[view]->keys.rows; ++row) {
                const int64_t each = views[view]->keys.each;
                const int64_t from = std::max<int64_t>(begin - before, 0);
                const int64_t to = std::min(past - before, each);
                if (from < to) found.push_back({view, row, from, to - from});
                before += each;
            }
        found.push_back({0, 0, 0, 0});
    }
    return found;
}

// How many time steps are computed in turn, and in how many chunks: as many as fill them.
struct Turn {
    int64_t steps = CHUNK, chunks = 1;
    explicit Turn(const Population& p) {
        if (p.planes == 1) return;
        while (steps % 2 == 0 && p.planes * (steps / 2) % CHUNK == 0) steps /= 2;
        steps = std::min(steps, p.steps);
        chunks = (steps * p.planes + CHUNK - 1) / CHUNK;
    }
};

// How many of an image's blocks are computed together: tables that the second cache does not hold are
// read once for all of them. tables, panel: bytes of them, and of what a block sees.
int64_t seats_of(int64_t length, int64_t tables, int64_t panel) {
    if (tables <= CACHE / 2) return 1;
    const int64_t fitting = CACHE * 3 / 4 / std::max<int64_t>(panel, 1);
    return std::max<int64_t>(1, std::min({SEATS, length, fitting}));
}

// What all threads work by.
struct Job : lookup::JobBase<Format> {
    Vector<const View*> views;  // of the sources
    Turn turn;
    int64_t unit_sums;  // bytes of a unit's sums: [channels, CHUNK, 32] of 16 bits, wide: and of 8
    Vector<Cut> cuts;
    Vector<int64_t> parts;      // where the cuts of each part begin
    int64_t seats;              // blocks that are computed together
    Vector<int16_t> low, high;  // [channels]: what sums start from: the biases; 0 where several
                                     // planes would add them

    Job(const Population& given, const Source* given_sources, int64_t number)
        : JobBase(given, given_sources, number),
          turn(given),
          unit_sums(units.channels * CHUNK * BLOCK * (given.wide ? 3 : 2)),
          low(units.number * units.channels),
          high(low.size()) {
        for (const Source* s : sources) views.push_back(&view_of(*s, given, views.size()));
        cuts = cuts_of(views, keys, header.parts);
        parts.push_back(0);
        for (size_t i = 0; i < cuts.size(); ++i)
            if (!cuts[i].keys) parts.push_back(i + 1);
        int64_t panel = 0;
        bool grouped = false;
        for (const View* view : views) {
            panel += turn.chunks * view->panel() * int64_t(sizeof(uint16_t));
            grouped = grouped || view->source.groups > 1;
        }
        seats = grouped ? 1 : seats_of(length, units.number * keys * units.table, panel);
        for (int64_t o = 0; given.planes == 1 && o < given.channels; ++o) {
            low[o] = int16_t(uint16_t(given.bias[o]));
            high[o] = int16_t((rounded(given.bias[o], int(header.shift)) & 255) * 257);
        }
    }

    // How many units are summed up before their neurons are advanced.
    int64_t units_at_once() const {
        if (header.parts == 1 && turn.chunks == 1) return 4 / units.channels;
        return p->wide ? std::max<int64_t>(UNITS / header.parts, 2) : UNITS;
    }

    // From one part's sums to the next one's (wide), and from one chunk's to the next one's; bytes.
    int64_t part_stride() const { return units_at_once() * unit_sums; }
    int64_t chunk_stride() const { return (p->wide ? header.parts : 1) * part_stride(); }
};

// What a thread works with for one of the blocks that it computes together.
struct Seat {
    Vector<uint16_t*> panels;      // by source: [chunks, slots, keys of a row, CHUNK, 32]: what the
                                   // block sees
    Vector<Vector<int64_t>> held;  // by source [slots]: which stretch is there
    Vector<Slice> slices;          // [chunks] of the job's cuts
    char* sums;                    // [chunks, wide: parts, units at once] of units' sums
    int32_t* stream;               // [SIDE, CHUNK, 32], even positions first: what neurons read of a
                                   // signed stream, or what is written to one
};

// What a thread works with. Its memory stays with the thread: fresh memory takes long to write to.
struct Desk {
    Vector<uint16_t*> numbers;  // by source: [chunks, CHUNK, channel groups, pitch]
    Vector<Seat> seats;
    int32_t* turned;            // [32, WIDTH]: the stream of a step, by positions
    int32_t* potential;         // [blocks, channels, 32], of this thread's blocks
    int32_t* emitted;           // the same, where spikes are taken back

    explicit Desk(const Job& job) : seats(job.seats) {
        static thread_local Room memory;
        for (const bool counting : {true, false}) {
            int64_t taken = 0;
            const auto take = [&](int64_t bytes) {
                const int64_t at = taken;
                taken += (bytes + 63) & ~int64_t{63};
                return counting ? nullptr : memory.data() + at;
            };
            divide(job, take);
            if (counting) memory.reserve(taken);
        }
        for (Seat& seat : seats) {
            for (const View* view : job.views) seat.held.emplace_back(view->slots);
            seat.slices.resize(job.turn.chunks * job.cuts.size());
        }
    }

    // Forgets what the panels hold.
    void clear() {
        for (Seat& seat : seats)
            for (Vector<int64_t>& held : seat.held) std::fill(held.begin(), held.end(), -1);
    }

private:
    template <typename Take>
    void divide(const Job& job, const Take& take) {
        const bool streams = sums_alone(*job.p) || job.p->stream;
        numbers.clear();
        for (const View* view : job.views) {
            const int64_t planes = job.turn.chunks * CHUNK * view->groups * view->source.groups;
            numbers.push_back((uint16_t*)take(planes * view->pitch * sizeof(uint16_t)));
        }
        for (Seat& seat : seats) {
            seat.panels.clear();
            for (const View* view : job.views)
                seat.panels.push_back(
                    (uint16_t*)take(job.turn.chunks * view->panel() * sizeof(uint16_t)));
            seat.sums = take(job.turn.chunks * job.chunk_stride());
            seat.stream = (int32_t*)take(streams ? SIDE * CHUNK * BLOCK * sizeof(int32_t) : 0);
        }
        turned = (int32_t*)take(streams ? BLOCK * madd::Avx512::WIDTH * sizeof(int32_t) : 0);
        const int64_t neurons = sums_alone(*job.p) ? 0 : job.length * job.p->channels * BLOCK;
        potential = (int32_t*)take(neurons * sizeof(int32_t));
        emitted = (int32_t*)take(job.p->is_signed ? neurons * sizeof(int32_t) : 0);
    }
};

}  // namespace lookup_avx512

#endif
