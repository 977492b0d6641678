"""What is wrong with a store, or with own recordings before they are imported."""

from msg3d_lab.data.checks.checking import check_path, check_source, check_store
from msg3d_lab.data.checks.problems import Problem, explain_problems
from msg3d_lab.data.checks.summary import describe_store

__all__ = [
    "Problem",
    "check_path",
    "check_source",
    "check_store",
    "describe_store",
    "explain_problems",
]
