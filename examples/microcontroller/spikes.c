/* Runs a network on images and writes all its spikes: spikes IMAGES STEPS > SPIKES
 *
 * IMAGES: int16 [number][height][width][channel]. Of every image and step all layers' spikes follow
 * one another [height][width][channel]; after the last step the sums of the read-out, int32, and
 * the decision, int32.
 */
#include <stdio.h>
#include <stdlib.h>

#include "network.h"

#define PIXELS (NETWORK_CHANNELS * NETWORK_HEIGHT * NETWORK_WIDTH)

static void written(int32_t layer, const network_spike *spikes, int32_t count)
{
    (void)layer;
    fwrite(spikes, sizeof *spikes, (size_t)count, stdout);
}

int main(int argc, char **argv)
{
    static int16_t image[PIXELS];
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (!file)
        return 1;
    network_listen(written);
    while (fread(image, sizeof *image, PIXELS, file) == PIXELS) {
        int32_t sums[NETWORK_CLASSES], decision;
        network_init();
        network_set_image(image);
        for (int step = 0; step < atoi(argv[2]); step++)
            network_step();
        network_readout(sums);
        decision = network_decision();
        fwrite(sums, sizeof *sums, NETWORK_CLASSES, stdout);
        fwrite(&decision, sizeof decision, 1, stdout);
    }
    fclose(file);
    return 0;
}
