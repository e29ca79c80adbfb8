"""The pages of the app by their addresses."""

from __future__ import annotations

HOME = "trace"
"""The page that stands at the app's bare address."""

# What an address shows: title, icon, and the file in pages/ that draws it.
PAGES = {
    "trace": ("Trace", ":material/forum:", "trace_page"),
    "compare": ("Compare", ":material/compare:", "compare_page"),
    "traces": ("Traces", ":material/history:", "saved_page"),
    "neurons": ("Neurons", ":material/blur_on:", "browse_page"),
    "concepts": ("Concepts", ":material/category:", "concepts_page"),
    "prompts": ("Prompts", ":material/playlist_play:", "prompts_page"),
    "atlas": ("Atlas", ":material/map:", "atlas_page"),
    "repair": ("Repair", ":material/build:", "repair_page"),
    "experiments": ("Statistics", ":material/query_stats:", "statistics_page"),
    "tours": ("Tours", ":material/tour:", "tours_page"),
    "models": ("Models", ":material/deployed_code:", "models_page"),
}
