// The neurons of the lookup kernel for AVX-512, advanced by what has been summed up.

#pragma once

#include "lookup_job.h"

#if defined(__x86_64__)

namespace lookup_avx512 {

// One block of outputs of one image, from time step `start` on.
struct Place {
    const Job* job;
    int64_t image, start, steps, block;
    int32_t* potential;  // [channels, 32], of this block
    int32_t* emitted;    // the same
    uint32_t valid;
    Seat* seat;
    int32_t* turned;     // the desk's
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
        if (p.stream) {
            const int32_t* from = at.seat->stream + ((first + c) % SIDE * CHUNK + t) * BLOCK;
            even = _mm512_add_epi32(even, _mm512_load_si512(from));
            odd = _mm512_add_epi32(odd, _mm512_load_si512(from + BLOCK / 2));
        }
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
        low[c] = sums + unit * job.unit_sums + column * CHUNK * 64;
        high[c] = sums + unit * job.unit_sums + (job.units.channels * 2 + column) * CHUNK * 32;
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
    const Job& job = *at.job;
    const int64_t begin = first;
    const auto of = [&](int64_t channel) {
        return sums + (channel - begin) / job.units.channels * job.unit_sums;
    };
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
        const int factor = multilevel::weight(p, plane);
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
            const __m512i bit = _mm512_set1_epi16(int16_t(multilevel::weight(p, plane)));
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
AVX512 static void advance_multilevel(const Place& at, int64_t first, const char* sums, int64_t stride) {
    const Job& job = *at.job;
    const Population p = *job.p;
    const int64_t chunk_stride = job.chunk_stride();
    const int64_t own = multilevel::own_planes(p);
    const int64_t step = (at.image * job.length + at.block) * p.steps + at.start;
    const __m512i zero = _mm512_setzero_si512();
    int32_t* v = at.potential + first * BLOCK;
    int32_t* emitted = at.emitted + first * BLOCK;
    __m512i even[NUMBER], odd[NUMBER], bias[NUMBER], so_far_even[NUMBER], so_far_odd[NUMBER];
    multilevel::Sixteen neurons[NUMBER];
    const char *low[NUMBER], *high[NUMBER];
    for (int c = 0; c < NUMBER; ++c) {
        const int64_t unit = c / job.units.channels, column = c % job.units.channels;
        low[c] = sums + unit * job.unit_sums + column * CHUNK * 64;
        high[c] = sums + unit * job.unit_sums + (job.units.channels * 2 + column) * CHUNK * 32;
        bias[c] = _mm512_set1_epi32(p.planes > 1 ? p.bias[first + c] : 0);
        neurons[c] = multilevel::sixteen(p, _mm512_set1_epi32(p.threshold[first + c]));
        even[c] = _mm512_load_si512(v + c * BLOCK);
        odd[c] = _mm512_load_si512(v + c * BLOCK + 16);
        so_far_even[c] = p.is_signed ? _mm512_load_si512(emitted + c * BLOCK) : zero;
        so_far_odd[c] = p.is_signed ? _mm512_load_si512(emitted + c * BLOCK + 16) : zero;
    }
    Rest<NUMBER> rest(at, first, 0);
    for (int64_t t = 0; t < at.steps; ++t)
        for (int c = 0; c < NUMBER; ++c) {
            add_planes<WIDE>(job, t, stride, chunk_stride, low[c], high[c], even[c], odd[c]);
            even[c] = _mm512_add_epi32(even[c], bias[c]);
            odd[c] = _mm512_add_epi32(odd[c], bias[c]);
            add_numbers(job, (step + t) * p.planes * p.channels + first + c, first + c, even[c], odd[c]);
            rest.add(t, c, even[c], odd[c]);
            const __m512i near = multilevel::fire(p, neurons[c], even[c], so_far_even[c]);
            const __m512i far = multilevel::fire(p, neurons[c], odd[c], so_far_odd[c]);
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
        if (!p.is_signed) continue;
        _mm512_store_si512(emitted + c * BLOCK, so_far_even[c]);
        _mm512_store_si512(emitted + c * BLOCK + 16, so_far_odd[c]);
    }
    if (rest.watched) raise_peak(p.peaks + at.image, _mm512_reduce_max_epi32(rest.most));
}

template <bool WIDE>
AVX512 static void advance_all_multilevel(const Place& at, int64_t first, int64_t past, const char* sums,
                                       int64_t stride) {
    const Job& job = *at.job;
    const int64_t begin = first;
    const auto of = [&](int64_t channel) {
        return sums + (channel - begin) / job.units.channels * job.unit_sums;
    };
    for (; first + 2 <= past; first += 2) advance_multilevel<2, WIDE>(at, first, of(first), stride);
    for (; first < past; ++first) advance_multilevel<1, WIDE>(at, first, of(first), stride);
}

}  // namespace lookup_avx512

#endif
