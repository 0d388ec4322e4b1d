"""Pages about data sets: what `rscap data inspect` and `rscap data audit` found, each one self-contained HTML file."""

from rscap.reports.dataset.audit_page import audit_page
from rscap.reports.dataset.inspect_page import inspect_page

__all__ = ["audit_page", "inspect_page"]
