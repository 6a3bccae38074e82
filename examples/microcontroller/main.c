/* A network on a Cortex-M: one image, STEPS time steps, the class it decides for.
 *
 * Of every layer a hash of all its spikes in order, so that a run can be compared with another.
 * Printing goes over semihosting (a debugger's or QEMU's); a product would leave it out.
 */
#include <stdint.h>
#include <stdio.h>

#include "image.h"
#include "network.h"

static uint32_t hashes[NETWORK_LAYERS];

static void hear(int32_t layer, const network_spike *spikes, int32_t count)
{
    uint32_t hash = hashes[layer];
    for (int32_t i = 0; i < count; i++)
        hash = (hash ^ (uint8_t)spikes[i]) * 16777619u; /* FNV-1a */
    hashes[layer] = hash;
}

int main(void)
{
    for (int32_t layer = 0; layer < NETWORK_LAYERS; layer++)
        hashes[layer] = 2166136261u;
    network_init();
    network_listen(hear);
    network_set_image(image);
    for (int step = 0; step < STEPS; step++)
        network_step();
    for (int32_t layer = 0; layer < NETWORK_LAYERS; layer++)
        printf("%s %08lx\n", network_layer_names[layer], (unsigned long)hashes[layer]);
    printf("class %ld\n", (long)network_decision());
    return 0;
}
