typedef @WEIGHT@ weight;
typedef @SPIKE@ spike;
typedef @CURRENT@ current;
typedef @POTENTIAL@ potential;

enum { FIRE, POOL, MOVE };

typedef struct {
    int32_t kind, index;
} operation;

/* Weights [row][column][channel][output of the group] times 2^shifts, or gains. */
typedef struct {
    const spike *read;
    int32_t height, width, channels, kernel[2], stride[2], padding[2], dilation[2], groups, outputs;
    const weight *weights;
    const uint8_t *shifts;
    const int32_t *gains;
} synapses;

/* What meets in potentials: a bias of each channel, the image's currents, synapses. */
typedef struct {
    int32_t height, width, channels;
    const int32_t *bias;
    const current *constant;
    const synapses *source;
    int32_t sources;
} target;

typedef struct {
    target target;
    const int32_t *threshold;
    const potential *start;
    potential *potentials;
    int32_t *fired; /* spikes so far, of neurons with signed spikes */
    spike *spikes;
    int32_t maps_start, levels, resets_to_zero;
} population;

typedef struct {
    const spike *read;
    spike *written;
    int32_t *counts, *maxima; /* sums over time and their maxima so far, of spiking max pools */
    int32_t height, width, channels, kernel[2], stride[2], padding[2], dilation[2], rows, columns;
    int32_t sums;
} pooling;

typedef struct {
    const spike *read;
    spike *written;
    int32_t rows, columns, channels, width, read_channels, written_channels, first;
    const int16_t *row, *column, *channel;
} moving;

/* Weights that read pixels, and where their rounded sums go. */
typedef struct {
    current *constant;
    int32_t height, width, channels, kernel[2], stride[2], padding[2], dilation[2], groups;
    int32_t rows, columns, outputs;
    const weight *weights;
    const uint8_t *shifts;
    const int32_t *gains, *bias;
} seeing;

