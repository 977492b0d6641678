"""Tables and pages of results."""

from msg3d_lab.published import read_published
from msg3d_lab.reporting.measured import (
    find_runs,
    fusion_gain,
    measured_results,
    results_table,
    runs_like,
    scores_by_seed,
    stream_gains,
)
from msg3d_lab.reporting.model_index import write_metafile
from msg3d_lab.reporting.recorded import keep_run, record_result
from msg3d_lab.reporting.rendering import render
from msg3d_lab.reporting.report import write_report
from msg3d_lab.reporting.tables import (
    accuracy_table,
    project_tables,
    streams_overview,
    streams_table,
)

__all__ = [
    "accuracy_table",
    "find_runs",
    "fusion_gain",
    "keep_run",
    "measured_results",
    "project_tables",
    "read_published",
    "record_result",
    "render",
    "results_table",
    "runs_like",
    "scores_by_seed",
    "stream_gains",
    "streams_overview",
    "streams_table",
    "write_metafile",
    "write_report",
]
