"""The trace store: every run saved whole, found again, compared, shared and checked. Knows nothing of models or pages."""

from neurons.core.clock import now
from traces.attributions import AttributionInfo, StoredAttribution, attribution_key, from_rows
from traces.reports import Usage, VerifyReport
from traces.schema import TraceRecord, new_id
from traces.store import Evicted, TraceStore
from traces.summary import TraceSummary

__all__ = [
    "AttributionInfo",
    "Evicted",
    "StoredAttribution",
    "TraceRecord",
    "TraceStore",
    "TraceSummary",
    "Usage",
    "VerifyReport",
    "attribution_key",
    "from_rows",
    "new_id",
    "now",
]
