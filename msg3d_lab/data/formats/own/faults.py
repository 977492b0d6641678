"""The faults of own recordings: reasons why one is left out. `data.checks.problems` has advice."""

# Of tables and arrays.
JOINTS = "joints that do not match the layout"
FINITE = "coordinates NaN or infinite"
TEXT = "text where a number belongs"
FRAMES = "frames that are not whole numbers"
REPEATED = "the same joint twice in a frame"
TOO_LONG = "too long for a clip"
SHAPE = "arrays not of shape (M, T, V, C)"
DUPLICATE = "sample ids that occur twice"
NOBODY = "nobody in any frame"
LARGEST = 1e30  # larger coordinates overflow float32 during preparation

# Of labels.
LENGTH = "rows of another length than the header"
TWICE = "samples twice in the labels"
NUMBERS = "labels not 0..n-1"
NAMES = "classes without a name of their own"
NO_LABEL = "recordings without a label"
NO_RECORDING = "labels without a recording"
