
/* The membrane potentials [CLASSES] of the output neurons, which decide between equal sums. */
void @NAME@_membrane(int32_t *values);
