"""Keep the memory of large tensors instead of giving it back after every layer.

By default glibc maps every tensor of more than a few megabytes anew and the kernel zeroes its pages
each time it is touched: about half of the time of a training step on a CPU. Training needs the same
sizes again and again, so the process may as well keep them.
"""

from __future__ import annotations

import ctypes

# Options of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_TUNED = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1}
_DEFAULT = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 * 1024, _ARENA_MAX: 0}


def tune_allocator(*, enabled: bool = True) -> bool:
    """Tell glibc to keep freed memory; the shell does this by itself, a notebook may call it.

    The process then holds on to the most memory it ever used. Results are the same to the bit. It
    may be called at any time, and acts on what is allocated from then on.

    Args:
        enabled: False goes back to glibc's defaults, and gives the memory that was kept back to the
            system. One thing does not come back: glibc raises its threshold for mapping memory as
            it goes, until somebody sets an option; afterwards it stays where it is.

    Returns:
        Whether it took effect; False where the C library is not glibc (macOS, Windows, musl).

    Source: mallopt(3), malloc_trim(3).

    Example:
        >>> import msg3d_lab
        >>> tuned = msg3d_lab.tune_allocator()
        >>> undone = msg3d_lab.tune_allocator(enabled=False)
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        return False
    options = _TUNED if enabled else _DEFAULT
    results = [mallopt(option, value) for option, value in options.items()]
    if not enabled:
        malloc_trim(0)
    return all(result == 1 for result in results)
