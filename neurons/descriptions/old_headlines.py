"""Headlines for tables that have none: the first things of a grammar line, said by the same templates, without a score."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from neurons.core.errors import InvalidInput
from neurons.descriptions.features import Part
from neurons.descriptions.headlines import MAX_WORDS, UNCLEAR, Named, Trait, headline, said
from neurons.descriptions.kinds import UNCLEAR as UNCLEAR_KIND
from neurons.descriptions.render import parse

_MOST = 3
_PLACES = ("line start", "sentence start", "in brackets", "in quotes", "seen before")


def headlines_of(table: pd.DataFrame) -> pd.Series:
    """A description table's headlines, row by row: its own where it has them, else taken from the description."""
    if "headline" in table:
        own = table["headline"].fillna("").astype(str)
        missing = own == ""
        return own.where(~missing, table.loc[missing, "description"].fillna("").astype(str).map(of_description)) if missing.any() else own
    return table["description"].fillna("").astype(str).map(of_description)


HEADLINE_SCORES = ("headline_auprc", "headline_auprc_null", "headline_auroc", "headline_auroc_null", "writes_effect", "writes_null")


JUDGED = ("headline_detection", "headline_fuzzing", "headline_judged_before")
"""Columns of a headline that a language model wrote (`headline_by`): its balanced accuracies, and the mean of them for the one before."""


def with_headline_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A description table that has all columns of headlines, whatever wrote it: scores are NaN and texts "" where it has none."""
    scores = {name: np.float32(np.nan) for name in (*HEADLINE_SCORES, *JUDGED) if name not in table}
    texts = {name: table[name].fillna("").astype(str) if name in table else "" for name in ("writes", "headline_by")}
    return table.assign(headline=headlines_of(table), **texts, **scores)


@lru_cache(maxsize=200_000)
def of_description(description: str) -> str:
    """At most eight words of a grammar line; free text that is short enough stays as it is, longer text is "none"."""
    if not description or description == UNCLEAR_KIND:
        return UNCLEAR
    try:
        parts = [part for part, level in parse(description).parts if level > 0]
    except InvalidInput:
        return description if len(description.split()) <= MAX_WORDS else "none"
    named = [Named(trait, None, 1) for part in parts if (trait := _trait(part)) is not None][:_MOST]
    return headline(named) or UNCLEAR


def _trait(part: Part) -> Trait | None:
    """The same thing as a headline names it; None where it is never said."""
    if part.kind == "domain":
        trait = Trait("domain", part.value)
    elif part.kind == "word":
        trait = Trait({"at": "word", "after": "after", "before": "before"}.get(part.where, "near"), part.value)
    elif part.where == "at":
        trait = Trait("place" if part.value in _PLACES else "class", part.value)
    elif part.where == "after":
        trait = Trait("afterclass", part.value)
    else:
        return None
    return trait if said(trait) is not None else None
