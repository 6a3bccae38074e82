// The lookup kernel for AVX-512: a window of time, block by block.

#pragma once

#include "lookup_streams.h"
#include "lookup_sums.h"

#if defined(__x86_64__)

namespace lookup_avx512 {

// The slot of a panel that holds what a block sees through one row of a source's kernel.
INLINE int64_t slot_of(const View& view, int64_t row, int64_t stretch) {
    return view.advance ? stretch % view.slots : row;
}

// Fills a source's panel with what a block sees of a group of its channels, as far as it does not
// hold that already.
template <bool WIDE>
AVX512 static void fill_panels(const Place& at, size_t source, int64_t group, const Desk& desk) {
    const View& view = *at.job->views[source];
    Vector<int64_t>& held = at.seat->held[source];
    for (int64_t row = 0; row < view.keys.rows; ++row) {
        const int64_t stretch = at.block * view.advance + row * view.descent;
        const int64_t slot = slot_of(view, row, stretch);
        if (view.advance && held[slot] == stretch) continue;
        held[slot] = stretch;
        const int64_t planes = CHUNK * view.groups * view.source.groups * view.pitch;
        for (int64_t chunk = 0; chunk < at.job->turn.chunks; ++chunk)
            fill_panel<WIDE>(view, desk.numbers[source] + chunk * planes, group, row, at.block,
                             at.job->length,
                             at.seat->panels[source] + chunk * view.panel() +
                                 slot * view.keys.each * CHUNK * BLOCK);
    }
}

// Finds the slices of all parts in the panels.
AVX512 static void find_slices(const Place& at) {
    const size_t number = at.job->cuts.size();
    for (size_t i = 0; i < at.seat->slices.size(); ++i) {
        const Cut& cut = at.job->cuts[i % number];
        Slice& slice = at.seat->slices[i];
        slice = {nullptr, cut.keys};
        if (!cut.keys) continue;
        const View& view = *at.job->views[cut.view];
        const int64_t stretch = at.block * view.advance + cut.row * view.descent;
        const int64_t key = slot_of(view, cut.row, stretch) * view.keys.each + cut.first;
        slice.panel = at.seat->panels[cut.view] + i / number * view.panel() + key * CHUNK * BLOCK;
    }
}

// Sums up what the keys of a part bring to the units `begin` … `past` - 1 in a chunk. tables: the part's.
template <bool WIDE>
AVX512 static void sum_units(const Place& at, int64_t begin, int64_t past, int64_t part,
                             int64_t chunk, const char* tables) {
    static const int16_t nothing[2] = {0, 0};
    const Job& job = *at.job;
    const int64_t keys = part_of(job.keys, part + 1, job.header.parts) -
                         part_of(job.keys, part, job.header.parts);
    const Slice* slice = at.seat->slices.data() + chunk * job.cuts.size() + job.parts[part];
    char* const all =
        at.seat->sums + chunk * job.chunk_stride() + (WIDE ? part * job.part_stride() : 0);
    for (int64_t unit = begin; unit < past; ++unit) {
        const char* table = tables + unit * keys * job.units.table;
        char* sums = all + (unit - begin) * job.unit_sums;
        const int16_t* low = job.low.data() + unit * job.units.channels;
        const int16_t* high = job.high.data() + unit * job.units.channels;
        if (part) low = WIDE ? nothing : nullptr, high = nothing;
        if (job.units.channels == 1)
            sum_single<WIDE>(slice, table, low, high, sums);
        else if (WIDE)
            sum_wide(slice, table, low, high, sums);
        else
            sum_pair(slice, table, low, sums);
    }
}

// Some blocks: sums up what all sources bring to each unit, and advances its neurons.
template <bool WIDE, auto ADVANCE>
AVX512 static void run_blocks(const Place* places, int64_t number, const Desk& desk) {
    const Job& job = *places->job;
    const Place* const end = places + number;
    for (const Place* at = places; at < end; ++at) find_slices(*at);
    for (int64_t begin = 0, past; begin < job.units.number; begin = past) {
        past = std::min(begin + job.units_at_once(), job.units.number);
        for (size_t i = 0; i < job.views.size(); ++i) {
            const int64_t groups = job.views[i]->source.groups;
            const int64_t outputs = groups == 1 ? job.units.number  // units of a group
                                                : job.p->channels / groups / job.units.channels;
            past = std::min(past, (begin / outputs + 1) * outputs);
            for (const Place* at = places; begin % outputs == 0 && at < end; ++at)
                fill_panels<WIDE>(*at, i, begin / outputs, desk);
        }
        const char* tables = (const char*)job.p->tables + sizeof(Header);
        for (int64_t part = 0; part < job.header.parts; ++part) {
            for (const Place* at = places; at < end; ++at)
                for (int64_t chunk = 0; chunk < job.turn.chunks; ++chunk)
                    sum_units<WIDE>(*at, begin, past, part, chunk, tables);
            tables += job.units.number * job.units.table *
                      (part_of(job.keys, part + 1, job.header.parts) -
                       part_of(job.keys, part, job.header.parts));
        }
        for (const Place* at = places; at < end; ++at)
            ADVANCE(*at, begin * job.units.channels,
                    std::min(past * job.units.channels, job.p->channels), at->seat->sums,
                    job.part_stride());
    }
}

// What runs blocks of this job.
template <bool WIDE>
auto runner(const Job& job) {
    const Population& p = *job.p;
    if (sums_alone(p)) return run_blocks<WIDE, write_all<WIDE>>;
    if (p.stream && multilevel::needed(p))
        return run_blocks<WIDE, advance_by_stream<advance_all_multilevel<WIDE>>>;
    if (p.stream && job.identities.empty())
        return run_blocks<WIDE, advance_by_stream<advance_all<WIDE, false, false>>>;
    if (p.stream) return run_blocks<WIDE, advance_by_stream<advance_all<WIDE, true, false>>>;
    if (multilevel::needed(p)) return run_blocks<WIDE, advance_all_multilevel<WIDE>>;
    const bool plain = !p.constant && !p.current && !p.peaks && !p.reset_to_zero;
    if (job.identities.empty())
        return plain ? run_blocks<WIDE, advance_all<WIDE, false, true>>
                     : run_blocks<WIDE, advance_all<WIDE, false, false>>;
    return plain && job.identities.size() == 1 ? run_blocks<WIDE, advance_all<WIDE, true, true>>
                                               : run_blocks<WIDE, advance_all<WIDE, true, false>>;
}

// The spikes in so many words.
AVX512 static int64_t count_words(const uint32_t* words, int64_t number) {
    return multilevel::bits_set(words, number);
}

AVX512 static void count_multilevel(const Population& p, int64_t image, const uint32_t* words,
                                 int64_t steps) {
    multilevel::count(p, image, words, steps);
}

// The whole window. Threads share images, and bands of blocks where images are few.
void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    const Job job(p, sources, number);
    const auto run_some = p.wide ? runner<true>(job) : runner<false>(job);
    const int64_t bands = bands_of(p.images, job.length, threads);
    const int64_t row = p.channels * BLOCK, neurons = job.length * row;  // of a block, of an image
    const auto desk_for = [&] { return Desk(job); };
    share(threads, p.images * bands, desk_for, [&](int64_t task, Desk& desk) {
        const int64_t image = task / bands, band = task % bands;
        const int64_t begin = job.length * band / bands, past = job.length * (band + 1) / bands;
        if (!sums_alone(p)) {
            take_potentials(p, image, neurons, begin * row, past * row, desk.potential);
            take_emitted(p, image, neurons, begin * row, past * row, desk.emitted);
        }
        // Some blocks from `first` on, at some steps from `start` on.
        const auto run_at = [&](int64_t first, int64_t start) {
            const int64_t steps = std::min(p.steps - start, job.turn.steps);
            const int64_t next = std::min(first + job.seats, past);
            Place places[SEATS];
            for (int64_t block = first; block < next; ++block)
                places[block - first] = {&job, image, start, steps, block,
                                         desk.potential + (block - begin) * row,
                                         desk.emitted + (block - begin) * row,
                                         valid_bits(p.height * p.width, block),
                                         &desk.seats[block - first], desk.turned};
            run_some(places, next - first, desk);
        };
        if (job.views.empty())  // all steps of a block in turn: its potentials stay in the caches
            for (int64_t first = begin; first < past; first += job.seats)
                for (int64_t start = 0; start < p.steps; start += job.turn.steps) run_at(first, start);
        for (int64_t start = 0; !job.views.empty() && start < p.steps; start += job.turn.steps) {
            const int64_t steps = std::min(p.steps - start, job.turn.steps);
            for (size_t i = 0; i < job.views.size(); ++i)
                number_source(*job.views[i], *job.sources[i], p, image, start * p.planes,
                              steps * p.planes, desk.numbers[i]);
            desk.clear();
            for (int64_t first = begin; first < past; first += job.seats) run_at(first, start);
        }
        if (sums_alone(p)) return;
        keep_potentials(p, image, neurons, begin * row, past * row, desk.potential);
        keep_emitted(p, image, neurons, begin * row, past * row, desk.emitted);
        const int64_t words = p.steps * multilevel::own_planes(p) * p.channels;
        const uint32_t* spikes = p.spikes + (image * job.length + begin) * words;
        if (multilevel::needed(p))
            count_multilevel(p, image, spikes, (past - begin) * p.steps);
        else
            __atomic_fetch_add(p.counts + image, count_words(spikes, (past - begin) * words),
                               __ATOMIC_RELAXED);
    });
}

int64_t refused(const Population& p, const Source* sources, int64_t number) {
    return lookup::divided<Format>(p, sources, number).fits ? 0 : ANY_SUMS;
}

// Tables that the second cache does not hold are read anew for every chunk of some blocks.
void work(const Population& p, const Source* sources, int64_t number, const double*, double* amounts) {
    const int64_t length = blocks(p.height * p.width), keys = lookup::keys_of<Format>(sources, number);
    const int64_t bytes = lookup::table_bytes<Format>(p, sources, number);
    const int64_t seats = seats_of(length, bytes, keys * CHUNK * BLOCK * int64_t(sizeof(uint16_t)));
    const double planes = double(p.planes), turns = double((length + seats - 1) / seats) / CHUNK;
    amounts[p.wide ? 1 : 0] = double(length * p.channels * keys) * planes;
    amounts[2] = double(length * p.channels);
    for (int64_t i = 0; i < number; ++i)
        amounts[3] += double(length * Keys(sources[i]).number() * sources[i].groups) * planes;
    const int64_t beyond = std::max<int64_t>(0, bytes - CACHE);
    const int64_t far = std::max<int64_t>(0, bytes - LAST_CACHE);  // memory is so much slower
    amounts[4] = turns * planes * double(beyond + 3 * far) / 1024;
}

constexpr Kernel KERNEL{
    "lookup-avx512", AVX512_SET, EVEN_FIRST,
    (EVERYTHING & ~(PRODUCTS | ANY_SUMS)) | SUMS_ALONE | STREAMS,
    {"lookup", "wide lookup", "vector of neurons", "vector of keys", "kilobyte of tables beyond the caches"},
    refused, lookup::table_bytes<Format>, lookup::fill_tables<Format>, work, run,
};

}  // namespace lookup_avx512

#endif
