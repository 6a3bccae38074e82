
void @NAME@_set_pixels(const uint8_t *pixels)
{
    static int16_t normalised[@UPPER@_HEIGHT * @UPPER@_WIDTH * @UPPER@_CHANNELS];
    for (int32_t i = 0; i < @UPPER@_HEIGHT * @UPPER@_WIDTH * @UPPER@_CHANNELS; i++)
        normalised[i] = @PIXEL_TABLE@[i % @UPPER@_CHANNELS * 256 + pixels[i]];
    @NAME@_set_image(normalised);
}
