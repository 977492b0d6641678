from __future__ import annotations

import numpy as np
import pytest

from msg3d_lab.data.clips import Clip, LeftOut, checked_clips

GOOD = Clip("good", np.ones((1, 2, 25, 3), np.float32), 1)
DOCUMENT = {"skeleton": {"joints": ["joint"] * 25}, "channels": 3, "label_names": ["a", "b"]}


def test_checked_clips_leaves_out_what_does_not_fit():
    nan = Clip("nan", np.full((1, 2, 25, 3), np.nan, np.float32), 1)
    high = Clip("high", GOOD.keypoints, 2)
    entries = [GOOD, nan, LeftOut("x", "y"), high, GOOD]
    first, *others = checked_clips(entries, DOCUMENT, leave_out=True)
    assert first is GOOD
    assert others == [
        LeftOut("nan", "cannot be used", "150 coordinates are NaN or infinite"),
        LeftOut("x", "y"),
        LeftOut("high", "cannot be used", "label 2 is outside 0..1"),
        LeftOut("good", "occurs twice"),
    ]
    with pytest.raises(ValueError, match="clip nan: 150 coordinates are NaN"):
        list(checked_clips(entries, DOCUMENT, leave_out=False))
