/* The first code that a Cortex-M runs: memory as C expects it, then main. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t data_begin[], data_end[], data_from[], bss_begin[], bss_end[], stack_top[];
extern void initialise_monitor_handles(void); /* of newlib's semihosting */
int main(void);

void reset(void)
{
    for (uint32_t *to = data_begin, *from = data_from; to < data_end;)
        *to++ = *from++;
    for (uint32_t *to = bss_begin; to < bss_end;)
        *to++ = 0;
    initialise_monitor_handles();
    exit(main());
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {stack_top, reset};
