/* What every network runs. Values lie as [height][width][channel]. */

static void clear(int32_t *values, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        values[i] = 0;
}

/* values += factor * 2^shift * sums, by channel. */
static void add_shifted(int32_t *values, const int32_t *sums, const uint8_t *shifts, int32_t count)
{
    for (int32_t c = 0; c < count; c++)
        values[c] += sums[c] * ((int32_t)1 << shifts[c]);
}

/* What the spikes that one output position sees bring to its channels. */
static void gather(const synapses *s, int32_t y, int32_t x, int32_t *sums)
{
    int32_t inputs = s->channels / s->groups, outputs = s->outputs / s->groups;
    for (int32_t ky = 0; ky < s->kernel[0]; ky++) {
        int32_t row = y * s->stride[0] - s->padding[0] + ky * s->dilation[0];
        if (row < 0 || row >= s->height)
            continue;
        for (int32_t kx = 0; kx < s->kernel[1]; kx++) {
            int32_t column = x * s->stride[1] - s->padding[1] + kx * s->dilation[1];
            if (column < 0 || column >= s->width)
                continue;
            const spike *read = s->read + (row * s->width + column) * s->channels;
            const weight *restrict w = s->weights + (ky * s->kernel[1] + kx) * s->channels * outputs;
            for (int32_t c = 0; c < s->channels; c++, w += outputs) {
                int32_t size = read[c];
                if (size == 0)
                    continue;
                int32_t *restrict to = sums + c / inputs * outputs;
                for (int32_t o = 0; o < outputs; o++)
                    to[o] += size * w[o];
            }
        }
    }
}

/* The currents of one row of outputs, in `currents` [width][channel]. */
static void charge(const target *t, int32_t y)
{
    int32_t entries = t->width * t->channels;
    for (int32_t x = 0; x < t->width; x++)
        for (int32_t c = 0; c < t->channels; c++)
            currents[x * t->channels + c] = t->bias[c];
    if (t->constant)
        for (int32_t i = 0; i < entries; i++)
            currents[i] += t->constant[y * entries + i];
    for (int32_t k = 0; k < t->sources; k++) {
        const synapses *s = t->source + k;
        if (!s->weights) { /* one synapse from each neuron to the one at its own place */
            for (int32_t i = 0; i < entries; i++)
                currents[i] += s->read[y * entries + i] * s->gains[i % t->channels];
            continue;
        }
        for (int32_t x = 0; x < t->width; x++) {
            clear(sums, t->channels);
            gather(s, y, x, sums);
            add_shifted(currents + x * t->channels, sums, s->shifts, t->channels);
        }
    }
}

/* The size of the spike that a potential v fires; n: spikes so far. */
static int32_t fires(const population *p, int32_t v, int32_t threshold, int32_t n)
{
    if (p->levels == 1 && !p->fired)
        return v >= threshold;
    int32_t size = v / threshold;
    if (v % threshold < 0)
        size--; /* towards minus infinity */
    int32_t low = p->fired ? -(n < p->levels ? n : p->levels) : 0;
    return size > p->levels ? p->levels : size < low ? low : size;
}

static void fire(int32_t layer)
{
    const population *p = populations + layer;
    const target *t = &p->target;
    int32_t entries = t->width * t->channels;
    for (int32_t y = 0; y < t->height; y++) {
        charge(t, y);
        for (int32_t i = 0; i < entries; i++) {
            int32_t at = y * entries + i, threshold = p->threshold[i % t->channels];
            int32_t v = p->potentials[at] + currents[i];
            int32_t size = fires(p, v, threshold, p->fired ? p->fired[at] : 0);
            p->spikes[at] = (spike)size;
            if (p->fired)
                p->fired[at] += size;
            v = p->resets_to_zero ? (size ? 0 : v) : v - size * threshold;
            if (v > LIMIT)
                v = LIMIT;
            if (v < -LIMIT)
                v = -LIMIT;
            p->potentials[at] = (potential)v;
        }
    }
    if (hears)
        hears(layer, p->spikes, t->height * entries);
}

/* Sums, or the growth of the maxima of sums, over windows. */
static void pool(const pooling *p)
{
    int32_t outputs = p->rows * p->columns * p->channels;
    if (p->counts)
        for (int32_t i = 0; i < p->height * p->width * p->channels; i++)
            p->counts[i] += p->read[i];
    for (int32_t i = 0; i < outputs; i++) {
        int32_t c = i % p->channels, x = i / p->channels % p->columns;
        int32_t y = i / p->channels / p->columns, total = 0, most = INT32_MIN;
        for (int32_t ky = 0; ky < p->kernel[0]; ky++)
            for (int32_t kx = 0; kx < p->kernel[1]; kx++) {
                int32_t row = y * p->stride[0] - p->padding[0] + ky * p->dilation[0];
                int32_t column = x * p->stride[1] - p->padding[1] + kx * p->dilation[1];
                if (row < 0 || row >= p->height || column < 0 || column >= p->width)
                    continue;
                int32_t at = (row * p->width + column) * p->channels + c;
                int32_t value = p->counts ? p->counts[at] : p->read[at];
                total += value;
                most = value > most ? value : most;
            }
        if (p->counts) {
            p->written[i] = (spike)(most - p->maxima[i]);
            p->maxima[i] = most;
        } else {
            p->written[i] = (spike)(p->sums ? total : most);
        }
    }
}

/* Entries at other places: those of the rows, columns and channels named, 0 where -1 is. */
static void move(const moving *m)
{
    for (int32_t y = 0; y < m->rows; y++)
        for (int32_t x = 0; x < m->columns; x++)
            for (int32_t c = 0; c < m->channels; c++) {
                int32_t row = m->row[y], column = m->column[x], channel = m->channel[c];
                int32_t at = (row * m->width + column) * m->read_channels + channel;
                int32_t to = (y * m->columns + x) * m->written_channels + m->first + c;
                m->written[to] = row < 0 || column < 0 || channel < 0 ? 0 : m->read[at];
            }
}

/* value / 2^bits to the nearest whole number, to the even one of two. */
static int32_t rounded(int64_t value, int32_t bits)
{
    int64_t unit = (int64_t)1 << bits, whole = value / unit, rest = value % unit;
    if (rest < 0) {
        rest += unit;
        whole--;
    }
    if (rest * 2 > unit || (rest * 2 == unit && whole % 2 != 0))
        whole++;
    return (int32_t)whole;
}

static void see(const seeing *s, const int16_t *pixels)
{
    int32_t inputs = s->channels / s->groups, outputs = s->outputs / s->groups;
    for (int32_t i = 0; i < s->rows * s->columns * s->outputs; i++) {
        int32_t o = i % s->outputs, x = i / s->outputs % s->columns, y = i / s->outputs / s->columns;
        int64_t sum = 0;
        for (int32_t ky = 0; ky < s->kernel[0]; ky++)
            for (int32_t kx = 0; kx < s->kernel[1]; kx++) {
                int32_t row = y * s->stride[0] - s->padding[0] + ky * s->dilation[0];
                int32_t column = x * s->stride[1] - s->padding[1] + kx * s->dilation[1];
                if (row < 0 || row >= s->height || column < 0 || column >= s->width)
                    continue;
                const int16_t *read = pixels + (row * s->width + column) * s->channels;
                int32_t first = o / outputs * inputs, tap = ky * s->kernel[1] + kx;
                for (int32_t c = first; c < first + inputs; c++) {
                    int64_t w = s->gains ? s->gains[o]
                        : s->weights[(tap * s->channels + c) * outputs + o % outputs];
                    sum += w * read[c];
                }
            }
        sum *= (int64_t)1 << (s->shifts ? s->shifts[o] : 0);
        sum += (int64_t)s->bias[o] * ((int64_t)1 << IMAGE_BITS);
        s->constant[i] += (current)rounded(sum, IMAGE_BITS);
    }
}

void @NAME@_set_image(const int16_t *pixels)
{
    for (int32_t i = 0; i < CONSTANTS; i++)
        constants[i] = 0;
    for (int32_t i = 0; i < SEEING; i++)
        see(views + i, pixels);
}

void @NAME@_init(void)
{
    for (int32_t i = 0; i < @UPPER@_LAYERS; i++) {
        const population *p = populations + i;
        const target *t = &p->target;
        int32_t neurons = t->height * t->width * t->channels;
        for (int32_t n = 0; n < neurons; n++) {
            p->potentials[n] = p->start[p->maps_start ? n : n % t->channels];
            if (p->fired)
                p->fired[n] = 0;
        }
    }
    clear(counts, COUNTS);
    clear(read_out, @UPPER@_CLASSES);
    clear(left_out, @UPPER@_CLASSES);
    steps = 0;
}

void @NAME@_step(void)
{
    for (int32_t i = 0; i < OPERATIONS; i++) {
        int32_t index = order[i].index;
        if (order[i].kind == FIRE)
            fire(index);
        else if (order[i].kind == POOL)
            pool(pools + index);
        else
            move(moves + index);
    }
    charge(&output, 0);
    for (int32_t k = 0; k < @UPPER@_CLASSES; k++)
        read_out[k] += currents[k];
    steps++;
    if (steps == DELAY)
        for (int32_t k = 0; k < @UPPER@_CLASSES; k++)
            left_out[k] = read_out[k];
}

void @NAME@_listen(@NAME@_listener listener)
{
    hears = listener;
}

int32_t @NAME@_readout(int32_t *totals)
{
    int32_t late = DELAY > 0 && steps > DELAY;
    for (int32_t k = 0; k < @UPPER@_CLASSES; k++)
        totals[k] = read_out[k] - (late ? left_out[k] : 0);
    return late ? steps - DELAY : steps;
}

int32_t @NAME@_decision(void)
{
    int32_t totals[@UPPER@_CLASSES], best = 0;
    @NAME@_readout(totals);
    if (@UPPER@_CLASSES == 1)
        return totals[0] > 0 || membrane; /* a softmax of one is 1 */
    for (int32_t k = 1; k < @UPPER@_CLASSES; k++)
        if (totals[k] > totals[best]
            || (totals[k] == totals[best] && membrane && membrane[k] > membrane[best]))
            best = k;
    return best;
}
