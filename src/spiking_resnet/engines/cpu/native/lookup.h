// The kernel for AVX-512: nothing is multiplied and no spike is looked for; sums of weights are looked
// up, 32 positions at a time.
//
// Six channels' spikes at one position are a number below 64, and what they add to a neuron's
// potential is an entry of a table of 64 sums. Such a table of 16-bit integers fills two registers,
// and one instruction (vpermi2w) looks up 32 positions in it: 192 synapses of work, whatever fires.
// For two neurons' channels and eight time steps at once, sums and tables stay in registers; what a
// few dozen groups of channels and kernel positions ("keys") bring stays in the first cache.
//
// 16-bit sums wrap around without harm as long as the total of a step fits 16 bits ("narrow", the
// caller's promise). Where it does not ("wide") a second table holds the entries' quotients by 2^s in
// 8 bits, in one register, in which one instruction (vpermb) looks up 32 positions at two time steps:
// together they give the exact sum (see `advance`), for half as much work again.
//
// Planes of spikes of several bits (several.h) are summed up as steps of their own, with the same
// tables; a plane's sum counts twice that of the plane below it when neurons are advanced.

#pragma once

#include <array>
#include <map>

#include "planes.h"
#include "several.h"

namespace lookup {

constexpr int64_t CHUNK = 8;     // time steps (or planes of them) summed up at once
constexpr int64_t KEYS = 36;     // keys summed up at once at most,
constexpr int64_t WIDE_KEYS = 48;  // and in the wide form
constexpr int64_t UNITS = 8;     // units in turn, where keys are more
constexpr int64_t GROUP = 6;     // channels looked up at once
constexpr int64_t ENTRIES = 64;  // sums in a table
constexpr uint32_t EVEN = 0x55555555;
constexpr int64_t SLACK = 64;    // entries before and after each plane of numbers, read and ignored

// The keys of a source. Six channels at a position of the kernel make a key; the channels left over (5
// at most) make keys together with those of the next positions in the same row of the kernel, or
// (where that takes fewer keys) of all positions, which are then as one row.
struct Keys {
    int64_t inner, groups, left;  // channels; keys at each position, and the channels left over
    int64_t rows, taps, each;     // rows of the kernel; positions and keys in each
    explicit Keys(const Source& s)
        : inner(s.channels / s.groups), groups(inner / GROUP), left(inner % GROUP) {
        const int64_t all = s.kernel_height * s.kernel_width;
        const bool joint = s.kernel_height * whole(s.kernel_width * left) > whole(all * left);
        rows = joint ? 1 : s.kernel_height;
        taps = all / rows;
        each = taps * groups + whole(taps * left);
        if (s.identity) rows = each = 0;
    }
    int64_t number() const { return rows * each; }
    static int64_t whole(int64_t bits) { return (bits + GROUP - 1) / GROUP; }
};

INLINE int64_t keys_of(const Source* sources, int64_t number) {
    int64_t keys = 0;
    for (int64_t i = 0; i < number; ++i) keys += Keys(sources[i]).number();
    return keys;
}

// Whether the source's groups read different channels for each output: a unit is one channel then.
INLINE bool single(const Population& p, const Source* sources, int64_t number) {
    for (int64_t i = 0; i < number; ++i) {
        const Source& s = sources[i];
        if (!s.identity && s.groups > 1 && p.channels / s.groups % 2) return true;
    }
    return false;
}

// Units are what is summed up together: two channels, or one. All sizes in bytes.
struct Units {
    int64_t channels, number;  // in each, and of units
    int64_t table, sums;       // a key's tables: [channels, 64] of 16 bits, wide: and of 8 bits;
                               // sums: [channels, CHUNK, 32] of 16 bits, wide: and of 8 bits
    Units(const Population& p, const Source* sources, int64_t count)
        : channels(single(p, sources, count) ? 1 : 2),
          number((p.channels + channels - 1) / channels),
          table(channels * ENTRIES * (p.wide ? 3 : 2)),
          sums(channels * CHUNK * BLOCK * (p.wide ? 3 : 2)) {}
};

// What precedes the tables.
struct alignas(64) Header {
    int64_t parts;  // into which the keys are divided
    int64_t shift;  // s
    int64_t fits;   // whether all sums can be had
};

// Which key `key` of an output channel takes as its `bit`; 0 where it has none.
INLINE int32_t weight_of(const Source& s, const Keys& keys, int64_t output, int64_t key, int64_t bit) {
    const int64_t row = key / keys.each, at = key % keys.each, whole = keys.taps * keys.groups;
    const int64_t rest = (at - whole) * GROUP + bit;  // among those left over
    const int64_t tap = at < whole ? at / keys.groups : rest / keys.left;
    const int64_t c = at < whole ? at % keys.groups * GROUP + bit
                                 : keys.inner - keys.left + rest % keys.left;
    if (tap >= keys.taps) return 0;
    const int64_t taps = s.kernel_height * s.kernel_width;
    return s.weights[(output * keys.inner + c) * taps + row * keys.taps + tap];
}

// Calls visit(key, weights [6]) for every key of an output channel.
template <typename Visit>
INLINE void each_key(const Source* sources, int64_t number, int64_t output, const Visit& visit) {
    int64_t before = 0;
    for (int64_t i = 0; i < number; ++i) {
        const Keys keys(sources[i]);
        for (int64_t key = 0; key < keys.number(); ++key) {
            int32_t weights[GROUP];
            for (int64_t bit = 0; bit < GROUP; ++bit)
                weights[bit] = weight_of(sources[i], keys, output, key, bit);
            visit(before + key, weights);
        }
        before += keys.number();
    }
}

INLINE int64_t part_of(int64_t keys, int64_t part, int64_t parts) { return keys * part / parts; }

// The fewest parts in which the sums of a population can be had. In every part the quotients' sum
// must fit 8 bits; each entry (and bias and gain) is rounded by at most half of 2^s, and all of them
// together must be off by less than 2^15.
Header divided(const Population& p, const Source* sources, int64_t number) {
    const int64_t keys = keys_of(sources, number);
    const int64_t most_keys = p.wide ? WIDE_KEYS : KEYS;
    Header found{std::max<int64_t>((keys + most_keys - 1) / most_keys, 1), 0, true};
    if (!p.wide) return found;
    std::vector<int32_t> most(p.channels * keys), least(p.channels * keys);
    for (int64_t o = 0; o < p.channels; ++o)
        each_key(sources, number, o, [&](int64_t key, const int32_t* weights) {
            for (int64_t bit = 0; bit < GROUP; ++bit)
                (weights[bit] > 0 ? most : least)[o * keys + key] += weights[bit];
        });
    for (;; ++found.parts) {
        const int64_t longest = (keys + found.parts - 1) / found.parts;
        found.shift = 14;
        while (((longest + 2) << found.shift) / 2 >= 32768) --found.shift;
        found.fits = true;
        for (int64_t o = 0; found.fits && o < p.channels; ++o)
            for (int64_t part = 0; found.fits && part < found.parts; ++part) {
                int64_t high = part ? 0 : rounded(p.bias[o], found.shift), low = high;
                for (int64_t key = part_of(keys, part, found.parts);
                     key < part_of(keys, part + 1, found.parts); ++key) {
                    high += rounded(most[o * keys + key], found.shift);
                    low += rounded(least[o * keys + key], found.shift);
                }
                found.fits = high < 128 && low >= -128;
            }
        if (found.fits || found.parts >= keys) return found;
    }
}

INLINE int64_t table_bytes(const Population& p, const Source* sources, int64_t number) {
    const Units units(p, sources, number);
    return sizeof(Header) + units.number * keys_of(sources, number) * units.table;
}

// Writes the header and the tables [part, unit, key of the part], in the order they are read in. Keys:
// sources; in each, rows of the kernel; in each, first those of six channels at each position, then
// those of what is left over.
void fill_tables(const Population& p, const Source* sources, int64_t number, char* tables) {
    const int64_t keys = keys_of(sources, number);
    const Units units(p, sources, number);
    const Header header = divided(p, sources, number);
    std::memset(tables, 0, table_bytes(p, sources, number));
    std::memcpy(tables, &header, sizeof header);
    for (int64_t o = 0; o < p.channels; ++o) {
        const int64_t unit = o / units.channels, column = o % units.channels;
        int64_t part = 0;
        each_key(sources, number, o, [&](int64_t key, const int32_t* weights) {
            while (key >= part_of(keys, part + 1, header.parts)) ++part;
            const int64_t begin = part_of(keys, part, header.parts);
            const int64_t count = part_of(keys, part + 1, header.parts) - begin;
            char* const own = tables + sizeof header +
                              (begin * units.number + unit * count + key - begin) * units.table;
            int16_t* low = (int16_t*)own + column * ENTRIES;
            int8_t* high = (int8_t*)own + (2 * units.channels + column) * ENTRIES;
            int32_t sums[ENTRIES] = {};
            for (int64_t bit = 0; bit < GROUP; ++bit)
                for (int64_t e = 0; e < 1 << bit; ++e) sums[e + (1 << bit)] = sums[e] + weights[bit];
            for (int64_t e = 0; e < ENTRIES; ++e) {
                low[e] = int16_t(uint16_t(sums[e]));
                if (p.wide) high[e] = int8_t(rounded(sums[e], header.shift));
            }
        });
    }
}

}  // namespace lookup

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,gfni,bmi,bmi2,popcnt")))
#define AVX512_LAMBDA __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,gfni,bmi,bmi2,popcnt")))
#define AVX512_INLINE_MEMBER __attribute__((always_inline)) AVX512 inline
#define AVX512_INLINE static inline __attribute__((always_inline)) AVX512

namespace lookup {

// Positions of a source that a block of outputs sees through one position of the kernel: lanes
// `mask` of a stretch from `offset` on, each lane `index[lane]` further.
struct Piece {
    int64_t offset;
    uint32_t mask;
    bool stepping;  // whether `index` is needed: else lanes are neighbours
    alignas(64) uint16_t index[BLOCK];
};

// How sources of one geometry are read.
struct View {
    Source source;               // its geometry alone
    Keys keys;
    int64_t groups, pitch;       // keys' planes of a group's channels, left over ones included
    std::vector<int64_t> first;  // [taps * blocks + 1]: where each one's pieces begin
    std::vector<Piece> pieces;
    // What a block sees through one row of the kernel another block sees through another: row r at
    // block b is stretch b * advance + r * descent. slots: so many stretches are kept.
    int64_t advance = 0, descent = 0, slots;

    View(const Source& s, const Population& p)
        : source(s),
          keys(s),
          groups(keys.groups + (keys.left > 0)),
          pitch(blocks(s.height * s.width) * BLOCK + 2 * SLACK),
          slots(keys.rows) {
        if (s.identity) return;
        for (int64_t ky = 0; ky < s.kernel_height; ++ky)
            for (int64_t kx = 0; kx < s.kernel_width; ++kx)
                for (int64_t b = 0; b < blocks(p.height * p.width); ++b) see(s, p, ky, kx, b);
        first.push_back(pieces.size());
        const bool even = BLOCK % p.width == 0 || p.width % BLOCK == 0;
        if (!even || s.groups > 1 || keys.rows == 1 || s.stride_height > 1 || s.stride_width > 1)
            return;
        const int64_t unit = std::min(p.width, BLOCK);
        advance = BLOCK / unit;
        descent = s.dilation_height * p.width / unit;
        slots = (keys.rows - 1) * descent + 1;
    }

    // The numbers in a chunk's panel.
    int64_t panel() const { return slots * keys.each * CHUNK * BLOCK; }

    void see(const Source& s, const Population& p, int64_t ky, int64_t kx, int64_t block) {
        first.push_back(pieces.size());
        Piece whole{0, 0, false, {}};  // as long as all lanes are neighbours
        std::vector<Piece> rows;       // else a piece for each stretch of a row
        bool neighbours = true;
        int64_t row = -1, start = 0;   // of the piece begun last: its row of outputs, its first lane
        int64_t y = block * BLOCK / p.width, x = block * BLOCK % p.width - 1;
        for (int64_t lane = 0; lane < BLOCK; ++lane) {
            if (++x == p.width) ++y, x = 0;
            if (y >= p.height) break;
            const int64_t h = y * s.stride_height + ky * s.dilation_height - s.padding_height;
            const int64_t w = x * s.stride_width + kx * s.dilation_width - s.padding_width;
            if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
            const int64_t from = h * s.width + w;
            if (!whole.mask) whole.offset = from - lane;
            neighbours = neighbours && from - lane == whole.offset;
            whole.mask |= uint32_t{1} << lane;
            if (rows.empty() || y != row || (lane - start) * s.stride_width >= 2 * BLOCK) {
                rows.push_back({from, 0, true, {}});
                row = y, start = lane;
            }
            rows.back().mask |= uint32_t{1} << lane;
            rows.back().index[lane] = from - rows.back().offset;
        }
        if (!whole.mask) return;
        if (neighbours)
            pieces.push_back(whole);
        else
            pieces.insert(pieces.end(), rows.begin(), rows.end());
    }
};

// The view of a source: making one takes longer than a small layer, so this thread keeps some. Valid
// as long as the job for which it is asked.
const View& view_of(const Source& s, const Population& p, size_t sources) {
    using Geometry = std::array<int64_t, 16>;
    static thread_local std::map<Geometry, View> kept;
    constexpr size_t MOST = 256;
    if (sources == 0 && kept.size() > MOST) kept.clear();  // none is in use yet
    const Geometry geometry{s.height, s.width, s.channels, s.kernel_height, s.kernel_width,
                            s.stride_height, s.stride_width, s.padding_height, s.padding_width,
                            s.dilation_height, s.dilation_width, s.groups, s.identity,
                            p.height, p.width, p.channels};
    const auto found = kept.find(geometry);
    return found != kept.end() ? found->second : kept.try_emplace(geometry, s, p).first->second;
}

// Memory that begins at a multiple of 64 bytes.
struct Aligned {
    std::unique_ptr<char[]> memory;
    int64_t size = 0;
    void reserve(int64_t bytes) {
        if (bytes <= size) return;
        memory.reset(new char[bytes + 64]);
        size = bytes;
    }
    char* data() const { return (char*)((uintptr_t(memory.get()) + 63) & ~uintptr_t{63}); }
};

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
std::vector<Cut> cuts_of(const std::vector<const View*>& views, int64_t keys, int64_t parts) {
    std::vector<Cut> found;
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

// What all threads work by.
struct Job {
    const Population* p;
    std::vector<const View*> views;
    std::vector<const Source*> sources, identities;  // sources: of the views
    Units units;
    Turn turn;
    Header header;
    int64_t keys, length;    // length: blocks of an image
    std::vector<Cut> cuts;
    std::vector<int16_t> low, high;  // [channels]: what sums start from: the biases; 0 where several
                                     // planes would add them

    Job(const Population& given, const Source* given_sources, int64_t number)
        : p(&given),
          units(given, given_sources, number),
          turn(given),
          keys(keys_of(given_sources, number)),
          length(blocks(given.height * given.width)),
          low(units.number * units.channels),
          high(low.size()) {
        std::memcpy(&header, given.tables, sizeof header);
        for (int64_t i = 0; i < number; ++i) {
            if (given_sources[i].identity) {
                identities.push_back(given_sources + i);
                continue;
            }
            views.push_back(&view_of(given_sources[i], given, views.size()));
            sources.push_back(given_sources + i);
        }
        cuts = cuts_of(views, keys, header.parts);
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
    int64_t part_stride() const { return units_at_once() * units.sums; }
    int64_t chunk_stride() const { return (p->wide ? header.parts : 1) * part_stride(); }
};

// What a thread works with. Its memory stays with the thread: fresh memory takes long to write to.
struct Desk {
    std::vector<uint16_t*> numbers;  // by source: [chunks, CHUNK, channel groups, pitch]
    std::vector<uint16_t*> panels;   // by source: [chunks, slots, keys of a row, CHUNK, 32]: what a
                                     // block of outputs sees
    std::vector<std::vector<int64_t>> held;  // by source [slots]: which stretch is there
    std::vector<Slice> slices;       // [chunks] of the job's cuts
    char* sums;                      // [chunks, wide: parts, units at once] of units' sums
    int32_t* potential;              // [blocks, channels, 32], of this thread's blocks
    int32_t* emitted;                // the same, where spikes are taken back

    explicit Desk(const Job& job) : slices(job.turn.chunks * job.cuts.size()) {
        static thread_local Aligned memory;
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
        for (const View* view : job.views) held.emplace_back(view->slots);
    }

private:
    template <typename Take>
    void divide(const Job& job, const Take& take) {
        numbers.clear(), panels.clear();
        for (const View* view : job.views) {
            const int64_t planes = job.turn.chunks * CHUNK * view->groups * view->source.groups;
            numbers.push_back((uint16_t*)take(planes * view->pitch * sizeof(uint16_t)));
            panels.push_back((uint16_t*)take(job.turn.chunks * view->panel() * sizeof(uint16_t)));
        }
        sums = take(job.turn.chunks * job.chunk_stride());
        const int64_t neurons = job.length * job.p->channels * BLOCK;
        potential = (int32_t*)take(neurons * sizeof(int32_t));
        emitted = (int32_t*)take(job.p->takes_back ? neurons * sizeof(int32_t) : 0);
    }
};

// The numbers that `count` (at most six) channels' spikes in a block make, for its 32 positions. Bytes
// of eight positions are gathered from all channels and transposed as a matrix of bits.
AVX512_INLINE __m512i numbers_of(const uint32_t* words, int64_t count) {
    const __m256i spikes = _mm256_maskz_loadu_epi32(__mmask8((1 << count) - 1), words);
    const __m256i gather = _mm256_set_epi8(3, 7, 11, 15, 19, 23, 27, 31, 2, 6, 10, 14, 18, 22, 26, 30,
                                           1, 5, 9, 13, 17, 21, 25, 29, 0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i bytes = _mm256_permutexvar_epi8(gather, spikes);
    const __m256i unit = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    return _mm512_cvtepu8_epi16(_mm256_gf2p8affine_epi64_epi8(unit, bytes, 0));
}

// The numbers of `steps` time steps from `start` on, for all channels of one image. Planes of spikes of
// several bits count as steps.
AVX512 static void number_source(const View& view, const Source& s, const Population& p, int64_t image,
                                 int64_t start, int64_t steps, uint16_t* numbers) {
    const int64_t length = blocks(s.height * s.width), inner = s.channels / s.groups;
    for (int64_t b = 0; b < length; ++b) {
        const uint32_t* word = s.spikes + ((image * length + b) * p.steps * p.planes + start) * s.channels;
        uint16_t* to = numbers + SLACK + b * BLOCK;
        for (int64_t t = 0; t < steps; ++t)
            for (int64_t group = 0; group < s.groups; ++group, word += inner)
                for (int64_t first = 0; first < inner; first += GROUP, to += view.pitch)
                    _mm512_storeu_si512(
                        to, numbers_of(word + first, std::min(inner - first, GROUP)));
    }
}

// What a block of outputs sees of CHUNK planes of numbers, `stride` apart, through one position of the
// kernel: a masked stretch of each, or pieces put together.
AVX512_INLINE void see(const Piece* piece, const Piece* end, const uint16_t* plane, int64_t stride,
                       __m512i (&found)[CHUNK]) {
    if (end - piece == 1 && !piece->stepping) {
        const __mmask32 mask = piece->mask;
        for (int t = 0; t < CHUNK; ++t)
            found[t] = _mm512_maskz_loadu_epi16(mask, plane + piece->offset + t * stride);
        return;
    }
    for (int t = 0; t < CHUNK; ++t) found[t] = _mm512_setzero_si512();
    for (; piece < end; ++piece) {
        const __m512i index = _mm512_load_si512(piece->index);
        const __mmask32 mask = piece->mask;
        for (int t = 0; t < CHUNK; ++t) {
            const uint16_t* from = plane + piece->offset + t * stride;
            found[t] = _mm512_mask_mov_epi16(
                found[t], mask,
                _mm512_permutex2var_epi16(_mm512_loadu_si512(from), index,
                                          _mm512_loadu_si512(from + BLOCK)));
        }
    }
}

// Keeps a key's eight planes in the panel. In the wide form an even step's bytes are its number and the
// next step's.
template <bool WIDE>
AVX512_INLINE void keep(__m512i (&key)[CHUNK], uint16_t* panel) {
    for (int t = 0; t < CHUNK; ++t) {
        if (WIDE && t % 2 == 0)
            key[t] = _mm512_or_si512(key[t], _mm512_slli_epi16(key[t + 1], 8));
        _mm512_store_si512(panel + t * BLOCK, key[t]);
    }
}

// Copies to the panel what one block of outputs sees of one group of a source's channels through one
// row of the kernel. (All steps of a chunk, if there are fewer too: nobody looks at what comes of
// the rest.)
template <bool WIDE>
AVX512 static void fill_panel(const View& view, const uint16_t* numbers, int64_t group, int64_t row,
                              int64_t block, int64_t length, uint16_t* panel) {
    const Keys& keys = view.keys;
    const int64_t stride = view.groups * view.source.groups * view.pitch;  // to the next step
    numbers += group * view.groups * view.pitch + SLACK;
    const Piece* pieces = view.pieces.data();
    const int64_t* first = view.first.data() + row * keys.taps * length + block;
    __m512i found[CHUNK];
    for (int64_t tap = 0; tap < keys.taps; ++tap)
        for (int64_t g = 0; g < keys.groups; ++g, panel += CHUNK * BLOCK) {
            see(pieces + first[tap * length], pieces + first[tap * length + 1],
                numbers + g * view.pitch, stride, found);
            keep<WIDE>(found, panel);
        }
    // Channels left over: one key takes six bits of the row that they make over all positions.
    const int64_t left = keys.left, last = keys.taps * left;
    for (int64_t bit = 0; bit < last; bit += GROUP, panel += CHUNK * BLOCK) {
        __m512i key[CHUNK];
        for (int t = 0; t < CHUNK; ++t) key[t] = _mm512_setzero_si512();
        for (int64_t tap = bit / left; tap < keys.taps && tap * left < bit + GROUP; ++tap) {
            see(pieces + first[tap * length], pieces + first[tap * length + 1],
                numbers + keys.groups * view.pitch, stride, found);
            const int64_t shift = tap * left - bit;
            const __m512i count = _mm512_set1_epi16(int16_t(shift < 0 ? -shift : shift));
            for (int t = 0; t < CHUNK; ++t)
                key[t] = _mm512_or_si512(key[t], shift < 0 ? _mm512_srlv_epi16(found[t], count)
                                                           : _mm512_sllv_epi16(found[t], count));
        }
        for (int t = 0; t < CHUNK; ++t)
            key[t] = _mm512_and_si512(key[t], _mm512_set1_epi16(ENTRIES - 1));
        keep<WIDE>(key, panel);
    }
}

// The innermost loops of all, for units of two channels: each key is 4 + 8 loads, 16 lookups and 16
// additions, and takes as many cycles as there are lookups. They are in assembler because compilers
// copy and spill accumulators.
#define TWO_CHANNELS(t, offset, i, j)                           \
    "vmovdqa64 " #offset "(%[panel]), %%zmm" #i "\n"            \
    "vmovdqa64 %%zmm" #i ", %%zmm" #j "\n"                      \
    "vpermi2w %%zmm29, %%zmm28, %%zmm" #i "\n"                  \
    "vpermi2w %%zmm31, %%zmm30, %%zmm" #j "\n"                  \
    "vpaddw %%zmm" #i ", %%zmm" #t ", %%zmm" #t "\n"            \
    "vpaddw %%zmm" #j ", %%zmm1" #t ", %%zmm1" #t "\n"
#define QUOTIENTS(offset, i, j)                                 \
    "vmovdqa64 " #offset "(%[panel]), %%zmm8\n"                 \
    "vpermb %%zmm18, %%zmm8, %%zmm9\n"                          \
    "vpaddb %%zmm9, %%zmm" #i ", %%zmm" #i "\n"                 \
    "vpermb %%zmm19, %%zmm8, %%zmm9\n"                          \
    "vpaddb %%zmm9, %%zmm" #j ", %%zmm" #j "\n"
#define LOAD_TABLES                                                             \
    "vmovdqa64 (%[table]), %%zmm28\n vmovdqa64 64(%[table]), %%zmm29\n"         \
    "vmovdqa64 128(%[table]), %%zmm30\n vmovdqa64 192(%[table]), %%zmm31\n"
#define NEXT_SLICE                                                                      \
    "2:\n mov (%[slice]), %[panel]\n mov 8(%[slice]), %[keys]\n add $16, %[slice]\n"    \
    "test %[keys], %[keys]\n jz 4f\n .p2align 5\n 3:\n"
#define STORE(t, offset, far)                                   \
    "vmovdqa64 %%zmm" #t ", " #offset "(%[sums])\n"             \
    "vmovdqa64 %%zmm1" #t ", " #far "(%[sums])\n"
#define START(t, offset, far)                                   \
    "vmovdqa64 %%zmm28, %%zmm" #t "\n vmovdqa64 %%zmm29, %%zmm1" #t "\n"
#define LOAD(t, offset, far)                                    \
    "vmovdqa64 " #offset "(%[sums]), %%zmm" #t "\n"             \
    "vmovdqa64 " #far "(%[sums]), %%zmm1" #t "\n"
#define EACH(WHAT)                                                                         \
    WHAT(0, 0, 512) WHAT(1, 64, 576) WHAT(2, 128, 640) WHAT(3, 192, 704) WHAT(4, 256, 768) \
        WHAT(5, 320, 832) WHAT(6, 384, 896) WHAT(7, 448, 960)
#define ALL_REGISTERS                                                                           \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",     \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19",         \
        "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28",         \
        "xmm29", "xmm30", "xmm31"

// The sums [2, 8, 32] of what the slices' keys bring, from `low` [2] on, or (null) from what they are.
AVX512 static void sum_pair(const Slice* slice, const char* table, const int16_t* low, char* sums) {
    const uint16_t* panel;
    int64_t keys;
    asm volatile(
        "test %[low], %[low]\n jz 1f\n"
        "vpbroadcastw (%[low]), %%zmm28\n vpbroadcastw 2(%[low]), %%zmm29\n"
        EACH(START) "jmp 2f\n 1:\n" EACH(LOAD) NEXT_SLICE LOAD_TABLES
        TWO_CHANNELS(0, 0, 20, 21) TWO_CHANNELS(1, 64, 22, 23)
        TWO_CHANNELS(2, 128, 24, 25) TWO_CHANNELS(3, 192, 26, 27)
        TWO_CHANNELS(4, 256, 18, 19) TWO_CHANNELS(5, 320, 8, 9)
        TWO_CHANNELS(6, 384, 20, 21) TWO_CHANNELS(7, 448, 22, 23)
        "add $256, %[table]\n add $512, %[panel]\n dec %[keys]\n jnz 3b\n jmp 2b\n 4:\n"
        EACH(STORE)
        : [slice] "+r"(slice), [table] "+r"(table), [panel] "=&r"(panel), [keys] "=&r"(keys)
        : [sums] "r"(sums), [low] "r"(low)
        : "memory", "cc", ALL_REGISTERS);
}

// The same with the sums of the quotients, [2, 4, 64]: bytes of two steps in turn.
AVX512 static void sum_wide(const Slice* slice, const char* table, const int16_t* low,
                            const int16_t* high, char* sums) {
#define STORE_QUOTIENT(i, offset) "vmovdqa64 %%zmm" #i ", " #offset "(%[sums])\n"
    const uint16_t* panel;
    int64_t keys;
    asm volatile(
        "vpbroadcastw (%[low]), %%zmm28\n vpbroadcastw 2(%[low]), %%zmm29\n"
        "vpbroadcastw (%[high]), %%zmm20\n vpbroadcastw 2(%[high]), %%zmm24\n"
        "vmovdqa64 %%zmm20, %%zmm21\n vmovdqa64 %%zmm20, %%zmm22\n vmovdqa64 %%zmm20, %%zmm23\n"
        "vmovdqa64 %%zmm24, %%zmm25\n vmovdqa64 %%zmm24, %%zmm26\n vmovdqa64 %%zmm24, %%zmm27\n"
        EACH(START) NEXT_SLICE LOAD_TABLES
        "vmovdqa64 256(%[table]), %%zmm18\n vmovdqa64 320(%[table]), %%zmm19\n"
        QUOTIENTS(0, 20, 24) TWO_CHANNELS(0, 0, 8, 9) TWO_CHANNELS(1, 64, 8, 9)
        QUOTIENTS(128, 21, 25) TWO_CHANNELS(2, 128, 8, 9) TWO_CHANNELS(3, 192, 8, 9)
        QUOTIENTS(256, 22, 26) TWO_CHANNELS(4, 256, 8, 9) TWO_CHANNELS(5, 320, 8, 9)
        QUOTIENTS(384, 23, 27) TWO_CHANNELS(6, 384, 8, 9) TWO_CHANNELS(7, 448, 8, 9)
        "add $384, %[table]\n add $512, %[panel]\n dec %[keys]\n jnz 3b\n jmp 2b\n 4:\n"
        EACH(STORE)
        STORE_QUOTIENT(20, 1024) STORE_QUOTIENT(21, 1088) STORE_QUOTIENT(22, 1152)
        STORE_QUOTIENT(23, 1216) STORE_QUOTIENT(24, 1280) STORE_QUOTIENT(25, 1344)
        STORE_QUOTIENT(26, 1408) STORE_QUOTIENT(27, 1472)
        : [slice] "+r"(slice), [table] "+r"(table), [panel] "=&r"(panel), [keys] "=&r"(keys)
        : [sums] "r"(sums), [low] "r"(low), [high] "r"(high)
        : "memory", "cc", ALL_REGISTERS);
#undef STORE_QUOTIENT
}

#undef TWO_CHANNELS
#undef QUOTIENTS
#undef LOAD_TABLES
#undef NEXT_SLICE
#undef STORE
#undef START
#undef LOAD
#undef EACH
#undef ALL_REGISTERS

// The same for a unit of one channel; `high` where there are quotients.
template <bool WIDE>
AVX512 static void sum_single(const Slice* slice, const char* table, const int16_t* low,
                              const int16_t* high, char* sums) {
    constexpr int64_t PAIRS = WIDE ? CHUNK / 2 : 1;
    __m512i sum[CHUNK], quotient[PAIRS];
    __m512i* const kept = (__m512i*)sums;
    for (int64_t t = 0; t < CHUNK; ++t)
        sum[t] = low ? _mm512_set1_epi16(*low) : _mm512_load_si512(kept + t);
    for (int64_t i = 0; i < PAIRS; ++i) quotient[i] = _mm512_set1_epi16(WIDE ? *high : 0);
    for (; slice->keys; ++slice) {
        const uint16_t* panel = slice->panel;
        for (int64_t key = 0; key < slice->keys; ++key, panel += CHUNK * BLOCK) {
            const __m512i near = _mm512_load_si512(table), far = _mm512_load_si512(table + 64);
            const __m512i eighth = WIDE ? _mm512_load_si512(table + 128) : near;
            for (int64_t t = 0; t < CHUNK; ++t) {
                const __m512i index = _mm512_load_si512(panel + t * BLOCK);
                sum[t] = _mm512_add_epi16(sum[t], _mm512_permutex2var_epi16(near, index, far));
                if (WIDE && t % 2 == 0)
                    quotient[t / 2] = _mm512_add_epi8(quotient[t / 2],
                                                      _mm512_permutexvar_epi8(index, eighth));
            }
            table += ENTRIES * (WIDE ? 3 : 2);
        }
    }
    for (int64_t t = 0; t < CHUNK; ++t) _mm512_store_si512(kept + t, sum[t]);
    if (WIDE)
        for (int64_t i = 0; i < PAIRS; ++i) _mm512_store_si512(kept + CHUNK + i, quotient[i]);
}

// One block of outputs of one image, from time step `start` on.
struct Place {
    const Job* job;
    int64_t image, start, steps, block;
    int32_t* potential;  // [channels, 32], of this block
    int32_t* emitted;    // the same
    uint32_t valid;
};

// Adds to 16 potentials each the even and the odd lanes of 32 16-bit numbers, times `factor`.
AVX512_INLINE void add_lanes(__m512i numbers, int factor, __m512i& even, __m512i& odd) {
    even = _mm512_dpwssd_epi32(even, numbers, _mm512_set1_epi32(factor & 0xffff));
    odd = _mm512_dpwssd_epi32(odd, numbers, _mm512_set1_epi32(factor * 0x10000));
}

// Adds to 32 potentials the currents of a block, as far as there are any.
AVX512_INLINE void add_currents(const int32_t* currents, uint32_t valid, __m512i& even,
                                __m512i& odd) {
    const __m512i near = _mm512_maskz_loadu_epi32(valid, currents);
    const __m512i far = _mm512_maskz_loadu_epi32(valid >> 16, currents + 16);
    const __m512i index = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    even = _mm512_add_epi32(even, _mm512_permutex2var_epi32(near, index, far));
    odd = _mm512_add_epi32(
        odd, _mm512_permutex2var_epi32(near, _mm512_add_epi32(index, _mm512_set1_epi32(1)), far));
}

// What else is added to a unit's neurons at a time step, and what is watched of them: all that is rare.
template <int NUMBER>
struct Rest {
    const Place& at;
    int64_t first, word;  // channel; of the step at.start, block and channel
    bool watched;
    __m512i steady_even[NUMBER], steady_odd[NUMBER], most = _mm512_setzero_si512();

    AVX512_INLINE_MEMBER Rest(const Place& place, int64_t channel, int64_t from)
        : at(place), first(channel), word(from), watched(place.job->p->peaks) {
        const Population& p = *at.job->p;
        for (int c = 0; c < NUMBER; ++c) {
            steady_even[c] = steady_odd[c] = _mm512_setzero_si512();
            if (p.constant)
                add_currents(p.constant + plane(at.image, c), at.valid, steady_even[c],
                             steady_odd[c]);
        }
    }

    // Where a channel's currents of this block begin in the `image`th image or step.
    AVX512_INLINE_MEMBER int64_t plane(int64_t image, int c) const {
        const Population& p = *at.job->p;
        return (image * p.channels + first + c) * p.height * p.width + at.block * BLOCK;
    }

    AVX512_INLINE_MEMBER void add(int64_t t, int c, __m512i& even, __m512i& odd) const {
        const Population& p = *at.job->p;
        even = _mm512_add_epi32(even, steady_even[c]);
        odd = _mm512_add_epi32(odd, steady_odd[c]);
        if (p.current)
            add_currents(p.current + plane(at.image * p.steps + at.start + t, c), at.valid, even, odd);
    }

    // Those of the identities that are not added to the sums.
    AVX512_INLINE_MEMBER void add_identities(int64_t t, int c, __m512i& even, __m512i& odd) const {
        const Population& p = *at.job->p;
        for (size_t i = 1; i < at.job->identities.size(); ++i) {
            const Source& s = *at.job->identities[i];
            const uint32_t spikes = s.spikes[word + t * p.channels + c];
            const __m512i gain = _mm512_set1_epi32(s.weights[first + c]);
            even = _mm512_mask_add_epi32(even, _pext_u32(spikes, EVEN), even, gain);
            odd = _mm512_mask_add_epi32(odd, _pext_u32(spikes, ~EVEN), odd, gain);
        }
    }

    AVX512_INLINE_MEMBER void watch(__m512i even, __m512i odd) {
        if (!watched) return;
        most = _mm512_mask_max_epi32(most, _pext_u32(at.valid, EVEN), most, _mm512_abs_epi32(even));
        most = _mm512_mask_max_epi32(most, _pext_u32(at.valid, ~EVEN), most, _mm512_abs_epi32(odd));
    }
};

// Of every part the quotients at one time step, of pairs of steps `stride` bytes apart.
struct Quotients {
    const char* pair;
    int64_t stride;
    int second;  // of the two steps
    __m128i by;  // s

    AVX512_INLINE_MEMBER __m512i of(int64_t part) const {
        const __m512i both = _mm512_load_si512(pair + part * stride);
        return _mm512_srai_epi16(_mm512_sll_epi16(both, _mm_cvtsi32_si128(second ? 0 : 8)), 8);
    }

    // What the quotient misses of the part's sum.
    AVX512_INLINE_MEMBER __m512i missed(const char* sums, int64_t part, __m512i quotient) const {
        return _mm512_sub_epi16(_mm512_load_si512(sums + part * stride),
                                _mm512_sll_epi16(quotient, by));
    }
};

struct Nothing {
    AVX512_INLINE_MEMBER Nothing(const Place&, int64_t, int64_t) {}
};

// Advances 32 neurons of each of NUMBER channels by the place's time steps, given a unit's sums (wide:
// of every part, `stride` bytes apart: sums modulo 2^16, and quotients by 2^s of which the sum is
// off by less than 2^15). IDENTITY: there are sources of identities, of which the first one is added
// to the sums. PLAIN: beside sums there is nothing to add, reset is by subtraction.
template <int NUMBER, bool WIDE, bool IDENTITY, bool PLAIN>
AVX512 static void advance(const Place& at, int64_t first, const char* sums, int64_t stride) {
    const Job& job = *at.job;
    const Population& p = *job.p;
    const int64_t channels = p.channels, steps = at.steps, parts = job.header.parts;
    const int64_t block = at.image * job.length + at.block;
    const int64_t word = (block * p.steps + at.start) * channels + first;
    const bool to_zero = !PLAIN && p.reset_to_zero;
    const uint32_t* __restrict identity = IDENTITY ? job.identities[0]->spikes + word : nullptr;
    uint32_t* __restrict out = p.spikes + word;
    const uint32_t valid = at.valid;
    const int shift = int(job.header.shift);
    const __m128i by = _mm_cvtsi32_si128(shift);
    int32_t* v = at.potential + first * BLOCK;
    __m512i even[NUMBER], odd[NUMBER], threshold[NUMBER], gain[NUMBER], gain_quotient[NUMBER];
    const char *low[NUMBER], *high[NUMBER];  // where the channels' sums and quotients are
    for (int c = 0; c < NUMBER; ++c) {
        const int64_t unit = c / job.units.channels, column = c % job.units.channels;
        low[c] = sums + unit * job.units.sums + column * CHUNK * 64;
        high[c] = sums + unit * job.units.sums + (job.units.channels * 2 + column) * CHUNK * 32;
        const int32_t own = IDENTITY ? job.identities[0]->weights[first + c] : 0;
        const int32_t quotient = WIDE ? rounded(own, shift) : 0;
        gain_quotient[c] = _mm512_set1_epi16(int16_t(quotient));
        gain[c] = _mm512_set1_epi16(int16_t(own - quotient * (1 << shift)));
        threshold[c] = _mm512_set1_epi32(p.threshold[first + c]);
        even[c] = _mm512_load_si512(v + c * BLOCK);
        odd[c] = _mm512_load_si512(v + c * BLOCK + 16);
    }
    typename std::conditional<PLAIN, Nothing, Rest<NUMBER>>::type rest(at, first, word);
    for (int64_t t = 0; t < steps; ++t, out += channels, identity += IDENTITY ? channels : 0) {
        for (int c = 0; c < NUMBER; ++c) {
            const char* from = low[c] + t * 64;
            __m512i sum = _mm512_load_si512(from);
            if constexpr (WIDE) {
                // What a quotient misses of its sum fits 16 bits: so their difference is exact.
                const Quotients quotients{high[c] + t / 2 * 64, stride, int(t % 2), by};
                __m512i quotient = quotients.of(0);
                sum = quotients.missed(from, 0, quotient);
                for (int64_t part = 1; part < parts; ++part) {
                    const __m512i more = quotients.of(part);
                    quotient = _mm512_add_epi16(quotient, more);
                    add_lanes(quotients.missed(from, part, more), 1, even[c], odd[c]);
                }
                if constexpr (IDENTITY)
                    quotient = _mm512_mask_add_epi16(quotient, identity[c], quotient, gain_quotient[c]);
                add_lanes(quotient, 1 << shift, even[c], odd[c]);
            }
            if constexpr (IDENTITY) sum = _mm512_mask_add_epi16(sum, identity[c], sum, gain[c]);
            add_lanes(sum, 1, even[c], odd[c]);
            if constexpr (!PLAIN) {
                rest.add(t, c, even[c], odd[c]);
                rest.add_identities(t, c, even[c], odd[c]);
            }
            const __mmask16 fired_even = _mm512_cmpge_epi32_mask(even[c], threshold[c]);
            const __mmask16 fired_odd = _mm512_cmpge_epi32_mask(odd[c], threshold[c]);
            even[c] = _mm512_mask_sub_epi32(even[c], fired_even, even[c],
                                            to_zero ? even[c] : threshold[c]);
            odd[c] =
                _mm512_mask_sub_epi32(odd[c], fired_odd, odd[c], to_zero ? odd[c] : threshold[c]);
            const uint32_t fired = _cvtmask32_u32(_mm512_kunpackw(fired_odd, fired_even));
            out[c] = (_pdep_u32(fired, EVEN) | _pdep_u32(fired >> 16, ~EVEN)) & valid;
            if constexpr (!PLAIN) rest.watch(even[c], odd[c]);
        }
    }
    for (int c = 0; c < NUMBER; ++c) {
        _mm512_store_si512(v + c * BLOCK, even[c]);
        _mm512_store_si512(v + c * BLOCK + 16, odd[c]);
    }
    if constexpr (!PLAIN)
        if (rest.watched) raise_peak(p.peaks + at.image, _mm512_reduce_max_epi32(rest.most));
}

// The neurons of channels `first` … `past` - 1; `sums` are the first one's unit's.
template <bool WIDE, bool IDENTITY, bool PLAIN>
AVX512 static void advance_all(const Place& at, int64_t first, int64_t past, const char* sums,
                               int64_t stride) {
    const Units& units = at.job->units;
    const int64_t begin = first;
    const auto of = [&](int64_t channel) { return sums + (channel - begin) / units.channels * units.sums; };
    for (; first + 4 <= past; first += 4) advance<4, WIDE, IDENTITY, PLAIN>(at, first, of(first), stride);
    for (; first + 2 <= past; first += 2) advance<2, WIDE, IDENTITY, PLAIN>(at, first, of(first), stride);
    for (; first < past; ++first) advance<1, WIDE, IDENTITY, PLAIN>(at, first, of(first), stride);
}

// What the planes of one time step bring to 32 neurons: sums [CHUNK] of 16 bits, wide: with their
// quotients in `high`, of parts `stride` and chunks `chunk_stride` bytes apart.
template <bool WIDE>
AVX512_INLINE void add_planes(const Job& job, int64_t t, int64_t stride, int64_t chunk_stride,
                              const char* low, const char* high, __m512i& even, __m512i& odd) {
    const Population& p = *job.p;
    const int64_t parts = job.header.parts;
    const __m128i by = _mm_cvtsi32_si128(int(job.header.shift));
    for (int64_t plane = 0; plane < p.planes; ++plane) {
        const int64_t step = t * p.planes + plane, at = step % CHUNK;
        const int64_t before = step / CHUNK * chunk_stride;
        const char* from = low + before + at * 64;
        const int factor = several::weight(p, plane);
        if constexpr (WIDE) {
            __m512i whole_even = _mm512_setzero_si512(), whole_odd = _mm512_setzero_si512();
            const Quotients quotients{high + before + at / 2 * 64, stride, int(at % 2), by};
            for (int64_t part = 0; part < parts; ++part) {
                const __m512i quotient = quotients.of(part);
                add_lanes(quotient, 1 << job.header.shift, whole_even, whole_odd);
                add_lanes(quotients.missed(from, part, quotient), 1, whole_even, whole_odd);
            }
            const __m512i by_factor = _mm512_set1_epi32(factor);
            even = _mm512_add_epi32(even, _mm512_mullo_epi32(whole_even, by_factor));
            odd = _mm512_add_epi32(odd, _mm512_mullo_epi32(whole_odd, by_factor));
        } else {
            add_lanes(_mm512_load_si512(from), factor, even, odd);
        }
    }
}

// What the identities bring to 32 neurons of a channel. word: of the time step, block and channel.
AVX512_INLINE void add_numbers(const Job& job, int64_t word, int64_t channel, __m512i& even,
                               __m512i& odd) {
    const Population& p = *job.p;
    for (const Source* s : job.identities) {
        __m512i numbers = _mm512_setzero_si512();
        for (int64_t plane = 0; plane < p.planes; ++plane) {
            const __m512i bit = _mm512_set1_epi16(int16_t(several::weight(p, plane)));
            const __mmask32 set = s->spikes[word + plane * p.channels];
            numbers = _mm512_mask_add_epi16(numbers, set, numbers, bit);
        }
        const __m512i gain = _mm512_set1_epi32(s->weights[channel]);
        const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(numbers, 16), 16);
        even = _mm512_add_epi32(even, _mm512_mullo_epi32(low, gain));
        odd = _mm512_add_epi32(odd, _mm512_mullo_epi32(_mm512_srai_epi32(numbers, 16), gain));
    }
}

// As `advance`, for neurons that fire several spikes or whose sources do.
template <int NUMBER, bool WIDE>
AVX512 static void advance_several(const Place& at, int64_t first, const char* sums, int64_t stride) {
    const Job& job = *at.job;
    const Population p = *job.p;
    const int64_t chunk_stride = job.chunk_stride();
    const int64_t own = several::own_planes(p);
    const int64_t step = (at.image * job.length + at.block) * p.steps + at.start;
    const __m512i zero = _mm512_setzero_si512();
    int32_t* v = at.potential + first * BLOCK;
    int32_t* emitted = at.emitted + first * BLOCK;
    __m512i even[NUMBER], odd[NUMBER], bias[NUMBER], so_far_even[NUMBER], so_far_odd[NUMBER];
    several::Sixteen neurons[NUMBER];
    const char *low[NUMBER], *high[NUMBER];
    for (int c = 0; c < NUMBER; ++c) {
        const int64_t unit = c / job.units.channels, column = c % job.units.channels;
        low[c] = sums + unit * job.units.sums + column * CHUNK * 64;
        high[c] = sums + unit * job.units.sums + (job.units.channels * 2 + column) * CHUNK * 32;
        bias[c] = _mm512_set1_epi32(p.planes > 1 ? p.bias[first + c] : 0);
        neurons[c] = several::sixteen(p, _mm512_set1_epi32(p.threshold[first + c]));
        even[c] = _mm512_load_si512(v + c * BLOCK);
        odd[c] = _mm512_load_si512(v + c * BLOCK + 16);
        so_far_even[c] = p.takes_back ? _mm512_load_si512(emitted + c * BLOCK) : zero;
        so_far_odd[c] = p.takes_back ? _mm512_load_si512(emitted + c * BLOCK + 16) : zero;
    }
    Rest<NUMBER> rest(at, first, 0);
    for (int64_t t = 0; t < at.steps; ++t)
        for (int c = 0; c < NUMBER; ++c) {
            add_planes<WIDE>(job, t, stride, chunk_stride, low[c], high[c], even[c], odd[c]);
            even[c] = _mm512_add_epi32(even[c], bias[c]);
            odd[c] = _mm512_add_epi32(odd[c], bias[c]);
            add_numbers(job, (step + t) * p.planes * p.channels + first + c, first + c, even[c], odd[c]);
            rest.add(t, c, even[c], odd[c]);
            const __m512i near = several::fire(p, neurons[c], even[c], so_far_even[c]);
            const __m512i far = several::fire(p, neurons[c], odd[c], so_far_odd[c]);
            const __m512i fired =
                _mm512_mask_mov_epi16(near, ~EVEN, _mm512_slli_epi32(far, 16));
            uint32_t* out = p.spikes + (step + t) * own * p.channels + first + c;
            for (int64_t plane = 0; plane < own; ++plane)
                out[plane * p.channels] =
                    _mm512_test_epi16_mask(fired, _mm512_set1_epi16(int16_t(1 << plane))) & at.valid;
            rest.watch(even[c], odd[c]);
        }
    for (int c = 0; c < NUMBER; ++c) {
        _mm512_store_si512(v + c * BLOCK, even[c]);
        _mm512_store_si512(v + c * BLOCK + 16, odd[c]);
        if (!p.takes_back) continue;
        _mm512_store_si512(emitted + c * BLOCK, so_far_even[c]);
        _mm512_store_si512(emitted + c * BLOCK + 16, so_far_odd[c]);
    }
    if (rest.watched) raise_peak(p.peaks + at.image, _mm512_reduce_max_epi32(rest.most));
}

template <bool WIDE>
AVX512 static void advance_all_several(const Place& at, int64_t first, int64_t past, const char* sums,
                                       int64_t stride) {
    const Units& units = at.job->units;
    const int64_t begin = first;
    const auto of = [&](int64_t channel) { return sums + (channel - begin) / units.channels * units.sums; };
    for (; first + 2 <= past; first += 2) advance_several<2, WIDE>(at, first, of(first), stride);
    for (; first < past; ++first) advance_several<1, WIDE>(at, first, of(first), stride);
}

// The slot of a panel that holds what a block sees through one row of a source's kernel.
INLINE int64_t slot_of(const View& view, int64_t row, int64_t stretch) {
    return view.advance ? stretch % view.slots : row;
}

// Fills a source's panel with what a block sees of a group of its channels, as far as it does not
// hold that already.
template <bool WIDE>
AVX512 static void fill_panels(const Place& at, size_t source, int64_t group, Desk& desk) {
    const View& view = *at.job->views[source];
    for (int64_t row = 0; row < view.keys.rows; ++row) {
        const int64_t stretch = at.block * view.advance + row * view.descent;
        const int64_t slot = slot_of(view, row, stretch);
        if (view.advance && desk.held[source][slot] == stretch) continue;
        desk.held[source][slot] = stretch;
        const int64_t planes = CHUNK * view.groups * view.source.groups * view.pitch;
        for (int64_t chunk = 0; chunk < at.job->turn.chunks; ++chunk)
            fill_panel<WIDE>(view, desk.numbers[source] + chunk * planes, group, row, at.block,
                             at.job->length,
                             desk.panels[source] + chunk * view.panel() +
                                 slot * view.keys.each * CHUNK * BLOCK);
    }
}

// Finds the slices of all parts in the panels.
AVX512 static void find_slices(const Place& at, Desk& desk) {
    const size_t number = at.job->cuts.size();
    for (size_t i = 0; i < desk.slices.size(); ++i) {
        const Cut& cut = at.job->cuts[i % number];
        desk.slices[i] = {nullptr, cut.keys};
        if (!cut.keys) continue;
        const View& view = *at.job->views[cut.view];
        const int64_t stretch = at.block * view.advance + cut.row * view.descent;
        const int64_t key = slot_of(view, cut.row, stretch) * view.keys.each + cut.first;
        desk.slices[i].panel =
            desk.panels[cut.view] + i / number * view.panel() + key * CHUNK * BLOCK;
    }
}

// Sums up what the keys of every part bring to the units `begin` … `past` - 1 in a chunk.
template <bool WIDE>
AVX512 static void sum_units(const Job& job, int64_t begin, int64_t past, int64_t chunk, Desk& desk) {
    static const int16_t nothing[2] = {0, 0};
    const char* tables = (const char*)job.p->tables + sizeof(Header);
    const int64_t stride = job.part_stride();
    const Slice* slice = desk.slices.data() + chunk * job.cuts.size();
    char* const all = desk.sums + chunk * job.chunk_stride();
    for (int64_t part = 0; part < job.header.parts; ++part) {
        const int64_t keys = part_of(job.keys, part + 1, job.header.parts) -
                             part_of(job.keys, part, job.header.parts);
        for (int64_t unit = begin; unit < past; ++unit) {
            const char* table = tables + unit * keys * job.units.table;
            char* sums = all + (unit - begin) * job.units.sums + (WIDE ? part * stride : 0);
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
        tables += job.units.number * keys * job.units.table;
        while (slice->keys) ++slice;
        ++slice;
    }
}

// One block: sums up what all sources bring to each unit, and advances its neurons.
template <bool WIDE, auto ADVANCE>
AVX512 static void run_block(const Place& at, Desk& desk) {
    const Job& job = *at.job;
    find_slices(at, desk);
    for (int64_t begin = 0, past; begin < job.units.number; begin = past) {
        past = std::min(begin + job.units_at_once(), job.units.number);
        for (size_t i = 0; i < job.views.size(); ++i) {
            const int64_t groups = job.views[i]->source.groups;
            const int64_t outputs = groups == 1 ? job.units.number  // units of a group
                                                : job.p->channels / groups / job.units.channels;
            past = std::min(past, (begin / outputs + 1) * outputs);
            if (begin % outputs == 0) fill_panels<WIDE>(at, i, begin / outputs, desk);
        }
        for (int64_t chunk = 0; chunk < job.turn.chunks; ++chunk)
            sum_units<WIDE>(job, begin, past, chunk, desk);
        ADVANCE(at, begin * job.units.channels,
                std::min(past * job.units.channels, job.p->channels), desk.sums, job.part_stride());
    }
}

// What runs a block of this job.
template <bool WIDE>
auto runner(const Job& job) {
    const Population& p = *job.p;
    if (several::needed(p)) return run_block<WIDE, advance_all_several<WIDE>>;
    const bool plain = !p.constant && !p.current && !p.peaks && !p.reset_to_zero;
    if (job.identities.empty())
        return plain ? run_block<WIDE, advance_all<WIDE, false, true>>
                     : run_block<WIDE, advance_all<WIDE, false, false>>;
    return plain && job.identities.size() == 1 ? run_block<WIDE, advance_all<WIDE, true, true>>
                                               : run_block<WIDE, advance_all<WIDE, true, false>>;
}

// The spikes in so many words.
AVX512 static int64_t count_words(const uint32_t* words, int64_t number) {
    int64_t count = 0, i = 0;
    for (; i + 2 <= number; i += 2) {
        uint64_t two;
        std::memcpy(&two, words + i, sizeof two);
        count += _mm_popcnt_u64(two);
    }
    return i < number ? count + _mm_popcnt_u32(words[i]) : count;
}

AVX512 static void count_several(const Population& p, int64_t image, const uint32_t* words,
                                 int64_t steps) {
    several::count(p, image, words, steps);
}

// The whole window. Threads share images, and bands of blocks where images are few.
void run(const Population& p, const Source* sources, int64_t number, int64_t threads) {
    const Job job(p, sources, number);
    const auto run_one = p.wide ? runner<true>(job) : runner<false>(job);
    const int64_t bands = bands_of(p.images, job.length, threads);
    const int64_t row = p.channels * BLOCK, neurons = job.length * row;  // of a block, of an image
    const auto desk_for = [&] { return std::make_unique<Desk>(job); };
    share(threads, p.images * bands, desk_for, [&](int64_t task, std::unique_ptr<Desk>& own) {
        Desk& desk = *own;
        const int64_t image = task / bands, band = task % bands;
        const int64_t begin = job.length * band / bands, past = job.length * (band + 1) / bands;
        take_potentials(p, image, neurons, begin * row, past * row, desk.potential);
        take_emitted(p, image, neurons, begin * row, past * row, desk.emitted);
        Place at{&job, image, 0, 0, 0, nullptr, nullptr, 0};
        for (; at.start < p.steps; at.start += at.steps) {
            at.steps = std::min(p.steps - at.start, job.turn.steps);
            for (size_t i = 0; i < job.views.size(); ++i) {
                number_source(*job.views[i], *job.sources[i], p, image, at.start * p.planes,
                              at.steps * p.planes, desk.numbers[i]);
                std::fill(desk.held[i].begin(), desk.held[i].end(), -1);
            }
            for (at.block = begin; at.block < past; ++at.block) {
                at.valid = valid_bits(p.height * p.width, at.block);
                at.potential = desk.potential + (at.block - begin) * row;
                at.emitted = desk.emitted + (at.block - begin) * row;
                run_one(at, desk);
            }
        }
        keep_potentials(p, image, neurons, begin * row, past * row, desk.potential);
        keep_emitted(p, image, neurons, begin * row, past * row, desk.emitted);
        const int64_t words = p.steps * several::own_planes(p) * p.channels;
        const uint32_t* spikes = p.spikes + (image * job.length + begin) * words;
        if (several::needed(p))
            count_several(p, image, spikes, (past - begin) * p.steps);
        else
            __atomic_fetch_add(p.counts + image, count_words(spikes, (past - begin) * words),
                               __ATOMIC_RELAXED);
    });
}

}  // namespace lookup

#endif
