// What a kernel is: a way to compute a window of a population. kernels.cpp has the table of them.

#pragma once

#include "planes.h"

// Each has all that the ones before it have.
enum InstructionSet : int64_t { PORTABLE, AVX2_SET, AVX512_SET, AMX_SET };

// How potentials lie. BY_POSITION: [positions, channels]; BY_BLOCK: [blocks, channels, 32];
// EVEN_FIRST: the same, of the 32 the even ones first.
enum Layout : int64_t { BY_POSITION, BY_BLOCK, EVEN_FIRST };

// What a population may ask for that not all kernels honour.
constexpr int64_t
    LEVELS = 1 << 0,
    SIGNED = 1 << 1,
    GROUPS = 1 << 2,
    RESET_TO_ZERO = 1 << 3,
    CURRENTS = 1 << 4,
    PEAKS = 1 << 5,
    WIDE_SUMS = 1 << 6,
    ANY_SHAPE = 1 << 7,
    ANY_SUMS = 1 << 8,
    NUMBERS = 1 << 9,
    FACTORS = 1 << 10,
    DIFFERENTIAL_RULES = 1 << 11,
    ROUNDED_SUMS = 1 << 12,
    SUMS_ALONE = 1 << 13,
    STREAMS = 1 << 14;

// What only populations of differential neurons and signed streams ask for.
constexpr int64_t PRODUCTS =
    NUMBERS | FACTORS | DIFFERENTIAL_RULES | ROUNDED_SUMS | SUMS_ALONE | STREAMS;

constexpr const char* FEATURES[] = {  // by bit
    "spikes of several levels",
    "signed spikes",
    "groups of channels",
    "reset to zero",
    "currents beside spikes",
    "potentials that are watched",
    "sums of more than 16 bits",
    "a layer of this shape",
    "sums as large as these",
    "numbers instead of spikes",
    "spikes that count differently from step to step",
    "differential neurons",
    "sums that are rounded",
    "sums without neurons",
    "signed streams read or written by position",
};
constexpr int64_t EVERYTHING = (1 << sizeof FEATURES / sizeof *FEATURES) - 1;

constexpr int64_t TERMS = 5;  // of a kernel's work, at most

struct Kernel {
    const char* name;
    int64_t instruction_set, layout;
    int64_t honours;                 // features; of some only where `refused` does not say otherwise
    const char* terms[TERMS];        // what its work consists of; null after the last
    // Features that it does not honour for this population: by its geometry, weights and neurons
    // alone. It may take as long as some time steps of a small image. Null: none.
    int64_t (*refused)(const Population&, const Source*, int64_t number);
    // The bytes that `prepare` writes, and what it makes of the weights.
    int64_t (*bytes)(const Population&, const Source*, int64_t number);
    void (*prepare)(const Population&, const Source*, int64_t number, void* tables);
    // How much there is of each term in a time step of an image. rates: of every source, the share
    // of bits that are set.
    void (*work)(const Population&, const Source*, int64_t number, const double* rates,
                 double* amounts);
    void (*run)(const Population&, const Source*, int64_t number, int64_t threads);
};
