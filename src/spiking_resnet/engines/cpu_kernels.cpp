// One population of integrate-and-fire neurons over a window of time steps, with all the synapses
// that lead to it: spikes in, spikes out, one byte each (0 or 1), channels last.
//
// Nothing is multiplied. Where channels come in eights and outputs in sixteens, each output position
// walks the set bits of its neighbourhood with its potentials in registers; elsewhere each spike adds
// its rows of weights to the potentials it reaches. On weights that are multiples of 2^-k every sum
// is exact in float32, so the order of additions does not matter and the spikes are those of any
// other engine, bit for bit.
//
// Plain C interface; threads over images.

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#define INLINE static inline __attribute__((always_inline))

extern "C" {

// Spikes [steps, images, height, width, channels] and the weights of their synapses.
struct Source {
    const uint8_t* spikes;
    const float* weights;  // gather: [kernel height, kernel width, channels, outputs];
                           // else [kernel height, channels, kernel width, outputs per group]
    int64_t height, width, channels;
    int64_t kernel_height, kernel_width;
    int64_t stride_height, stride_width;
    int64_t padding_height, padding_width;
    int64_t dilation_height, dilation_width;
    int64_t groups;
};

// A population [images, height, width, channels] and what it computes with.
struct Population {
    int64_t steps, images, height, width, channels;
    float* potential;          // [images, height, width, channels], brought up to date
    const float* constant;     // the same shape: current of every step, or null
    const float* current;      // [steps, images, height, width, channels], or null
    const float* bias;         // [channels]
    const float* threshold;    // [channels]
    int64_t reset_to_zero;
    int64_t gather;            // whether channels come in sixteens, and every source's in eights
    uint8_t* spikes;           // [steps, images, height, width, channels]
    int64_t* counts;           // [images]: spikes in this window
    float* peaks;              // [images]: largest |potential| before the reset, or null
};
}

namespace {

constexpr int64_t LANES = 16;
typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

// Sixteen bytes of 0 or 1 as floats, by way of integers (straight from bytes compiles to scalar code).
INLINE Floats ones(const uint8_t* bytes) {
    const Ints integers = __builtin_convertvector(*(const Bytes*)bytes, Ints);
    return __builtin_convertvector(integers, Floats);
}

INLINE void add_row(float* __restrict to, const float* __restrict row, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) *(Floats*)(to + i) += *(const Floats*)(row + i);
    for (; i < count; ++i) to[i] += row[i];
}

// Which outputs each row (or column) of a source reaches, and through which row of its kernel.
struct Axis {
    std::vector<int64_t> first;            // [inputs + 1]: where each input's entries begin
    std::vector<int64_t> kernel, output;   // the entries, outputs ascending
    Axis(int64_t inputs, int64_t outputs, int64_t size, int64_t stride, int64_t padding,
         int64_t dilation) {
        for (int64_t at = 0; at < inputs; ++at) {
            first.push_back(kernel.size());
            for (int64_t k = size - 1; k >= 0; --k) {
                const int64_t reached = at + padding - k * dilation;
                if (reached < 0 || reached % stride || reached / stride >= outputs) continue;
                kernel.push_back(k);
                output.push_back(reached / stride);
            }
        }
        first.push_back(kernel.size());
    }
};

// A source with its axes. side_by_side: the columns that a spike reaches are neighbours, in the
// order of the weights (kernel columns are stored reversed), so that they are one run of additions.
struct Synapses {
    const Source* source;
    Axis rows, columns;
    bool side_by_side, identity;
    Synapses(const Source& s, const Population& p)
        : source(&s),
          rows(s.height, p.height, s.kernel_height, s.stride_height, s.padding_height,
               s.dilation_height),
          columns(s.width, p.width, s.kernel_width, s.stride_width, s.padding_width,
                  s.dilation_width),
          side_by_side(s.groups == 1 && s.stride_width == 1 && s.dilation_width == 1),
          identity(s.groups == s.channels && s.channels == p.channels &&
                   s.kernel_height * s.kernel_width == 1 && s.height == p.height &&
                   s.width == p.width && s.padding_height + s.padding_width == 0 &&
                   s.stride_height * s.stride_width == 1) {}
};

// Potentials that the spikes of one position reach, side by side, and where their weights begin.
struct Reach {
    float* to;
    int64_t weights, count;
};

// Fills `reach` for spikes at (h, w) and returns how many entries it has.
INLINE int64_t reach_of(const Synapses& synapses, const Population& p, float* v, int64_t h,
                        int64_t w, Reach* reach) {
    const Source& s = *synapses.source;
    const Axis &rows = synapses.rows, &columns = synapses.columns;
    const int64_t out = p.channels / s.groups, row = s.kernel_width * out;
    const int64_t begin = columns.first[w], end = columns.first[w + 1];
    int64_t found = 0;
    if (begin == end) return 0;
    for (int64_t i = rows.first[h]; i < rows.first[h + 1]; ++i) {
        float* line = v + rows.output[i] * p.width * p.channels;
        const int64_t weights = rows.kernel[i] * s.channels * row;
        if (synapses.side_by_side) {
            const int64_t skipped = s.kernel_width - 1 - columns.kernel[begin];
            reach[found++] = {line + columns.output[begin] * out, weights + skipped * out,
                              (end - begin) * out};
            continue;
        }
        for (int64_t k = begin; k < end; ++k)
            reach[found++] = {line + columns.output[k] * p.channels,
                              weights + columns.kernel[k] * out, out};
    }
    return found;
}

template <int VECTORS>
INLINE void add_vectors(float* __restrict to, const float* __restrict row) {
    for (int i = 0; i < VECTORS; ++i)
        *(Floats*)(to + i * LANES) += *(const Floats*)(row + i * LANES);
}

// Adds one spike's weights everywhere it reaches; common lengths are unrolled.
INLINE void add_rows(const Reach* reach, int64_t number, const float* weights, int64_t shift,
                     int64_t count) {
#define UNROLLED(VECTORS)                                                     \
    case VECTORS * LANES:                                                     \
        for (int64_t i = 0; i < number; ++i)                                  \
            add_vectors<VECTORS>(reach[i].to + shift, weights + reach[i].weights); \
        return;
    switch (count) {
        UNROLLED(1) UNROLLED(2) UNROLLED(3) UNROLLED(4) UNROLLED(6) UNROLLED(8) UNROLLED(12)
        default:
            for (int64_t i = 0; i < number; ++i)
                add_row(reach[i].to + shift, weights + reach[i].weights, reach[i].count);
    }
}

// Adds to the potentials v of one image what the spikes of one step bring.
INLINE void deliver(const Synapses& synapses, const Population& p, float* v,
                    const uint8_t* spikes, Reach* reach) {
    const Source& s = *synapses.source;
    const int64_t out = p.channels / s.groups, row = s.kernel_width * out;
    const int64_t in_group = s.channels / s.groups, channels = s.channels;
    for (int64_t h = 0; h < s.height; ++h)
        for (int64_t w = 0; w < s.width; ++w, spikes += channels) {
            int64_t number = -1;
            for (int64_t start = 0; start < channels; start += 8) {
                uint64_t word = 0;  // eight channels' spikes
                if (start + 8 <= channels)
                    std::memcpy(&word, spikes + start, 8);
                else
                    std::memcpy(&word, spikes + start, channels - start);
                if (!word) continue;
                if (number < 0) number = reach_of(synapses, p, v, h, w, reach);
                if (number == 0) break;
                for (; word; word &= word - 1) {
                    const int64_t c = start + (__builtin_ctzll(word) >> 3);
                    const int64_t shift = s.groups == 1 ? 0 : c / in_group * out;
                    add_rows(reach, number, s.weights + c * row, shift, reach[0].count);
                }
            }
        }
}

// Eight bytes of 0 or 1 as eight bits, the first byte lowest.
INLINE uint8_t packed(const uint8_t* bytes) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    return word * 0x0102040810204080ull >> 56;
}

constexpr int64_t WIDEST = 4 * LANES;  // potentials held in registers at once
alignas(64) const float ZEROS[WIDEST] = {};

// The lowest `length` (64 at most) bits of a packed line; none if there is no line.
INLINE uint64_t bits_of(const uint8_t* line, int64_t length) {
    if (!line) return 0;
    uint64_t word;
    std::memcpy(&word, line, 8);
    return length < 64 ? word & ((uint64_t{1} << length) - 1) : word;
}

// The weights of the lowest set bit, which is taken out of the word; zeros when none is left.
INLINE const float* next(uint64_t& word, const float* rows, int64_t out) {
    const float* row = word ? rows + __builtin_ctzll(word) * out : ZEROS;
    word &= word - 1;
    return row;
}

// What one output position sees of one source: a line of packed spikes for each row of the kernel
// that lies inside the image, and the weights of that row. `step` bytes lead to the next time step.
struct View {
    int64_t number, length, step;
    std::vector<const uint8_t*> lines;
    std::vector<const float*> rows;
};

// Packs one image's spikes of all steps, line by line: [height, steps, width * channels / 8].
INLINE void pack(const Source& s, const Population& p, int64_t image, uint8_t* bits) {
    const int64_t line = s.width * s.channels / 8;
    for (int64_t t = 0; t < p.steps; ++t) {
        const int64_t frame = (t * p.images + image) * s.height;
        for (int64_t h = 0; h < s.height; ++h) {
            const uint8_t* from = s.spikes + (frame + h) * line * 8;
            uint8_t* to = bits + (h * p.steps + t) * line;
            for (int64_t i = 0; i < line; ++i) to[i] = packed(from + 8 * i);
        }
    }
}

// Sets `view` to what the output position (y, x) sees of a source.
INLINE void look(const Source& s, const Population& p, const uint8_t* bits, int64_t y, int64_t x,
                 View& view) {
    const int64_t top = y * s.stride_height - s.padding_height;
    const int64_t left = x * s.stride_width - s.padding_width;
    const int64_t from = left < 0 ? -left : 0;
    const int64_t past = left + s.kernel_width - s.width;
    view.length = (s.kernel_width - from - (past > 0 ? past : 0)) * s.channels;
    view.step = s.width * s.channels / 8;
    view.number = 0;
    for (int64_t ky = 0; ky < s.kernel_height; ++ky) {
        const int64_t h = top + ky;
        if (h < 0 || h >= s.height) continue;
        const int64_t columns = (left + from) * s.channels / 8;
        view.lines[view.number] = bits + h * p.steps * view.step + columns;
        view.rows[view.number++] =
            s.weights + (ky * s.kernel_width + from) * s.channels * p.channels;
    }
    for (int64_t i = view.number; i % 3; ++i) view.lines[i] = nullptr, view.rows[i] = ZEROS;
}

// Adds to VECTORS * 16 potentials what the spikes of step t in a view bring. Three rows of the
// kernel are walked side by side: one loop, ended by one branch that the processor cannot foresee,
// instead of three, and three independent additions in each turn.
template <int VECTORS>
INLINE void gather(const View& view, int64_t t, int64_t out, int64_t o, Floats* sum) {
    for (int64_t first = 0; first < view.number; first += 3) {
        const uint8_t* const* lines = view.lines.data() + first;
        const float* const* rows = view.rows.data() + first;
        for (int64_t start = 0; start < view.length; start += 64) {
            const int64_t at = t * view.step + start / 8, length = view.length - start;
            uint64_t a = bits_of(lines[0] + at, length);
            uint64_t b = bits_of(lines[1] ? lines[1] + at : nullptr, length);
            uint64_t c = bits_of(lines[2] ? lines[2] + at : nullptr, length);
            const int64_t skip = start * out + o;
            while (a | b | c) {
                const float* one = next(a, rows[0] + skip, out);
                const float* two = next(b, rows[1] + skip, out);
                const float* three = next(c, rows[2] + skip, out);
                for (int i = 0; i < VECTORS; ++i) {
                    const int64_t lane = i * LANES;
                    sum[i] += *(const Floats*)(one + lane) + *(const Floats*)(two + lane) +
                              *(const Floats*)(three + lane);
                }
            }
        }
    }
}

// All time steps of VECTORS * 16 neurons at one position, from channel o on, their potentials in
// registers. place: (image * height + y) * width + x. Returns the number of spikes.
template <int VECTORS>
INLINE int64_t run_position(const Population& p, const Synapses* synapses, int64_t number,
                            const View* views, int64_t image, int64_t place, int64_t o) {
    const int64_t out = p.channels, frame = p.images * p.height * p.width * out;
    const int64_t here = place * out + o;
    const float keep = p.reset_to_zero ? 0.0f : 1.0f;
    Floats v[VECTORS], threshold[VECTORS], steady[VECTORS], most[VECTORS] = {};
    Ints fired = {};
    for (int i = 0; i < VECTORS; ++i) {
        const int64_t lane = i * LANES;
        v[i] = *(Floats*)(p.potential + here + lane);
        threshold[i] = *(const Floats*)(p.threshold + o + lane);
        steady[i] = *(const Floats*)(p.bias + o + lane);
        if (p.constant) steady[i] += *(const Floats*)(p.constant + here + lane);
    }
    for (int64_t t = 0; t < p.steps; ++t) {
        for (int64_t k = 0; k < number; ++k) {
            const Source& s = *synapses[k].source;
            if (!synapses[k].identity) {
                gather<VECTORS>(views[k], t, out, o, v);
                continue;
            }
            for (int i = 0; i < VECTORS; ++i) {
                v[i] += ones(s.spikes + t * frame + here + i * LANES) *
                        *(const Floats*)(s.weights + o + i * LANES);
            }
        }
        for (int i = 0; i < VECTORS; ++i) {
            Floats charged = v[i] + steady[i];
            if (p.current) charged += *(const Floats*)(p.current + t * frame + here + i * LANES);
            const Ints spike = charged >= threshold[i];  // -1 where a neuron fires
            v[i] = spike ? (charged - threshold[i]) * keep : charged;
            *(Bytes*)(p.spikes + t * frame + here + i * LANES) =
                __builtin_convertvector(-spike, Bytes);
            fired -= spike;
            if (p.peaks) {
                const Floats size = v[i] < 0 ? -v[i] : v[i];
                most[i] = size > most[i] ? size : most[i];
            }
        }
    }
    int64_t count = 0;
    for (int64_t lane = 0; lane < LANES; ++lane) count += fired[lane];
    for (int i = 0; i < VECTORS; ++i) {
        *(Floats*)(p.potential + here + i * LANES) = v[i];
        for (int64_t lane = 0; p.peaks && lane < LANES; ++lane)
            if (most[i][lane] > p.peaks[image]) p.peaks[image] = most[i][lane];
    }
    return count;
}

// What a thread works with: room for the packed spikes of every source, and its views of them.
struct Desk {
    std::vector<std::vector<uint8_t>> bits;
    std::vector<View> views;
    std::vector<Reach> reach;
    Desk(const Population& p, const Synapses* synapses, int64_t number, bool gathers) {
        int64_t most = 1;
        for (int64_t i = 0; i < number; ++i) {
            const Source& s = *synapses[i].source;
            const int64_t size = s.kernel_height * s.kernel_width;
            most = size > most ? size : most;
            const bool packs = gathers && !synapses[i].identity;
            bits.emplace_back(packs ? p.steps * s.height * s.width * s.channels / 8 + 8 : 0);
            const size_t rows = s.kernel_height + 3;
            views.push_back({0, 0, 0, std::vector<const uint8_t*>(rows),
                             std::vector<const float*>(rows)});
        }
        reach.resize(most);
    }
};

// One image where every source can be gathered: position by position, all time steps at each.
INLINE int64_t run_positions(const Population& p, const Synapses* synapses, int64_t number,
                             int64_t image, Desk& desk) {
    for (int64_t k = 0; k < number; ++k)
        if (!synapses[k].identity) pack(*synapses[k].source, p, image, desk.bits[k].data());
    int64_t count = 0, place = image * p.height * p.width;
    for (int64_t y = 0; y < p.height; ++y)
        for (int64_t x = 0; x < p.width; ++x, ++place) {
            for (int64_t k = 0; k < number; ++k)
                if (!synapses[k].identity)
                    look(*synapses[k].source, p, desk.bits[k].data(), y, x, desk.views[k]);
            int64_t o = 0;
            const View* views = desk.views.data();
            for (; o + 4 * LANES <= p.channels; o += 4 * LANES)
                count += run_position<4>(p, synapses, number, views, image, place, o);
            if (o + 2 * LANES <= p.channels) {
                count += run_position<2>(p, synapses, number, views, image, place, o);
                o += 2 * LANES;
            }
            if (o < p.channels)
                count += run_position<1>(p, synapses, number, views, image, place, o);
        }
    return count;
}

// The same for a gain from each neuron to one neuron at its own place (an identity shortcut).
INLINE void deliver_identity(const Source& s, const Population& p, float* __restrict v,
                             const uint8_t* __restrict spikes) {
    const int64_t channels = p.channels;
    for (int64_t position = 0; position < p.height * p.width; ++position) {
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES) {
            *(Floats*)(v + c) += ones(spikes + c) * *(const Floats*)(s.weights + c);
        }
        for (; c < channels; ++c) v[c] += spikes[c] ? s.weights[c] : 0.0f;
        v += channels, spikes += channels;
    }
}

// v += bias (+ currents); fires where v >= threshold; resets. Returns the number of spikes.
INLINE int64_t fire(const Population& p, float* __restrict v, const float* __restrict constant,
                    const float* __restrict current, uint8_t* __restrict spikes) {
    const int64_t channels = p.channels, neurons = p.height * p.width * channels;
    if (constant) add_row(v, constant, neurons);
    if (current) add_row(v, current, neurons);
    const float keep = p.reset_to_zero ? 0.0f : 1.0f;
    Ints fired = {};
    int64_t count = 0;
    for (int64_t at = 0; at < neurons; at += channels) {
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES) {
            const Floats threshold = *(const Floats*)(p.threshold + c);
            const Floats charged = *(Floats*)(v + at + c) + *(const Floats*)(p.bias + c);
            const Ints spike = charged >= threshold;  // -1 where a neuron fires
            const Floats rest = (charged - threshold) * keep;
            *(Floats*)(v + at + c) = spike ? rest : charged;
            *(Bytes*)(spikes + at + c) = __builtin_convertvector(-spike, Bytes);
            fired -= spike;
        }
        for (; c < channels; ++c) {
            const float charged = v[at + c] + p.bias[c];
            const bool spike = charged >= p.threshold[c];
            v[at + c] = spike ? (charged - p.threshold[c]) * keep : charged;
            spikes[at + c] = spike;
            count += spike;
        }
    }
    for (int64_t lane = 0; lane < LANES; ++lane) count += fired[lane];
    return count;
}

INLINE float largest(const float* v, int64_t count) {
    float most = 0;
    for (int64_t i = 0; i < count; ++i) {
        const float size = v[i] < 0 ? -v[i] : v[i];
        most = size > most ? size : most;
    }
    return most;
}

// One image step by step: every spike of a step is delivered, then every neuron is advanced.
INLINE int64_t run_steps(const Population& p, const Synapses* synapses, int64_t number,
                         int64_t image, Desk& desk) {
    const int64_t neurons = p.height * p.width * p.channels;
    float* v = p.potential + image * neurons;
    const float* constant = p.constant ? p.constant + image * neurons : nullptr;
    int64_t count = 0;
    for (int64_t t = 0; t < p.steps; ++t) {
        const int64_t frame = t * p.images + image;
        for (int64_t i = 0; i < number; ++i) {
            const Source& s = *synapses[i].source;
            const uint8_t* spikes = s.spikes + frame * s.height * s.width * s.channels;
            if (synapses[i].identity)
                deliver_identity(s, p, v, spikes);
            else
                deliver(synapses[i], p, v, spikes, desk.reach.data());
        }
        count += fire(p, v, constant, p.current ? p.current + frame * neurons : nullptr,
                      p.spikes + frame * neurons);
        if (p.peaks) {
            const float most = largest(v, neurons);
            p.peaks[image] = most > p.peaks[image] ? most : p.peaks[image];
        }
    }
    return count;
}

INLINE void run_image(const Population& p, const Synapses* synapses, int64_t number, int64_t image,
                      Desk& desk) {
    p.counts[image] = p.gather ? run_positions(p, synapses, number, image, desk)
                               : run_steps(p, synapses, number, image, desk);
}

// run_image compiled for each instruction set; `best` takes what the machine has.
typedef void (*Runner)(const Population&, const Synapses*, int64_t, int64_t, Desk&);

#define RUNNER(NAME)                                                                     \
    void NAME(const Population& p, const Synapses* synapses, int64_t number,             \
              int64_t image, Desk& desk) {                                               \
        run_image(p, synapses, number, image, desk);                                     \
    }

RUNNER(run_portable)
#if defined(__x86_64__)
__attribute__((target("avx2"))) RUNNER(run_avx2)
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) RUNNER(run_avx512)
#endif

// level: 0 portable, 1 AVX2, 2 AVX-512; what the machine lacks is not used.
Runner best(int64_t level) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (level >= 2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return run_avx512;
    if (level >= 1 && __builtin_cpu_supports("avx2")) return run_avx2;
#endif
    (void)level;
    return run_portable;
}

}  // namespace

// Changes with every change of the structures above or of the weights' layout.
extern "C" int64_t interface_version() { return 2; }

extern "C" void run_window(const Population* p, const Source* sources, int64_t number,
                           int64_t threads, int64_t level) {
    if (threads > p->images) threads = p->images;
    std::vector<Synapses> synapses;
    for (int64_t i = 0; i < number; ++i) synapses.emplace_back(sources[i], *p);
    const Synapses* first = synapses.data();
    const Runner runner = best(level);
    std::vector<std::thread> pool;
    for (int64_t worker = 0; worker < threads; ++worker)
        pool.emplace_back([=] {
            Desk desk(*p, first, number, p->gather);
            for (int64_t image = worker; image < p->images; image += threads)
                runner(*p, first, number, image, desk);
        });
    for (auto& thread : pool) thread.join();
}
