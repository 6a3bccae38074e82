/* @NAME@: @TITLE@
 * The integer form of a spiking network, as docs/integer_form.md of spiking-resnet defines it.
 * Generated; the state is static: one network, one image at a time, no heap, no floats.
 */
#ifndef @UPPER@_H
#define @UPPER@_H

#include <stdint.h>

#define @UPPER@_CHANNELS @CHANNELS@
#define @UPPER@_HEIGHT @HEIGHT@
#define @UPPER@_WIDTH @WIDTH@
#define @UPPER@_CLASSES @CLASSES@
#define @UPPER@_LAYERS @LAYERS@ /* populations of spiking neurons */
#define @UPPER@_MOST_STEPS @MOST_STEPS@ /* no sum leaves 32 bits in so many steps */
#define @UPPER@_IMAGE_BITS @IMAGE_BITS@ /* of a pixel, behind the point */
#define @UPPER@_LOGIT_SCALE @LOGIT_SCALE@ /* a logit is this * sum / steps of `@NAME@_readout` */

typedef @SPIKE@ @NAME@_spike; /* the size of a spike: 0 or 1, or more, or less */

/* Called after every population of every step: its spikes [height][width][channel]. */
typedef void (*@NAME@_listener)(int32_t layer, const @NAME@_spike *spikes, int32_t count);

extern const char *const @NAME@_layer_names[@UPPER@_LAYERS];

/* Start again: initial potentials, no steps. The image and the listener stay. */
void @NAME@_init(void);

/* Present an image [height][width][channel], normalised as the network expects, times
 * 2^IMAGE_BITS. It may change between steps. */
void @NAME@_set_image(const int16_t *pixels);
@SET_PIXELS@
/* One time step. */
void @NAME@_step(void);

/* Hear the spikes; NULL: nobody does. */
void @NAME@_listen(@NAME@_listener listener);

/* The sums [CLASSES] of the read-out so far; returns the steps that they are over. */
int32_t @NAME@_readout(int32_t *sums);
@MEMBRANE@
/* The class that is decided for. */
int32_t @NAME@_decision(void);

#endif
