"""What is wrong with a data set, and the mend of each: `check_dataset`, `mend_dataset`."""

from atrous.data.checking.check import check_dataset
from atrous.data.checking.findings import Finding, Report, SplitSummary
from atrous.data.checking.mend import mend_dataset

__all__ = ["Finding", "Report", "SplitSummary", "check_dataset", "mend_dataset"]
