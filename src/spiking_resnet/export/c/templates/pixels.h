
/* The same of pixels 0 .. 255, which are normalised as the network expects. */
void @NAME@_set_pixels(const uint8_t *pixels);
