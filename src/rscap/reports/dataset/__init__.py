"""Pages about data sets: what `rscap data inspect` and `rscap data audit` found, each one self-contained HTML file."""

from rscap.reports.dataset.audit import audit_page
from rscap.reports.dataset.inspection import inspect_page

__all__ = ["audit_page", "inspect_page"]
