
void @NAME@_membrane(int32_t *values)
{
    for (int32_t k = 0; k < @UPPER@_CLASSES; k++)
        values[k] = membrane[k];
}
