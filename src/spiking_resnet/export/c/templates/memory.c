#define IMAGE_BITS @UPPER@_IMAGE_BITS
#define DELAY @DELAY@ /* first steps that the read-out leaves out */
#define CONSTANTS @CONSTANTS@
#define COUNTS @COUNTS@
#define SEEING @SEEING@
#define OPERATIONS @OPERATIONS@
#define ROOM(entries) ((entries) > 0 ? (entries) : 1)

static const int32_t LIMIT = @LIMIT@; /* potentials saturate at -LIMIT and LIMIT */
static spike spikes[@SPIKES@];
static potential potentials[@POTENTIALS@];
static current constants[ROOM(CONSTANTS)]; /* the image's currents */
static int32_t counts[ROOM(COUNTS)];
static int32_t currents[@MOST_ROW@], sums[@MOST_CHANNELS@];
static int32_t read_out[@UPPER@_CLASSES], left_out[@UPPER@_CLASSES], steps;
static potential *const membrane = @POTENTIAL_OF_OUTPUT@;
static @NAME@_listener hears;

const char *const @NAME@_layer_names[@UPPER@_LAYERS] = {
@NAMES@
};

