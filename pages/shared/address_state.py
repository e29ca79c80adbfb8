"""What a page reads of its address: a model of its own for each page, so that a link, typed or old, never breaks one.

What cannot be used takes its default, and the person is told which part of the address that was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import streamlit as st
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from neurons.core.boundary import problem
from pages.shared import untrusted

_TOLD = "address.told"


class PageState(BaseModel):
    """Base of what a page reads of its address: every field has a default, what else stands there is not the page's."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Named = Annotated[Annotated[str, Field(max_length=200)] | None, BeforeValidator(lambda text: text or None)]
"""The id or name of something that is kept here; None where the address names none."""


class JobState(PageState):
    """Whose result is shown, on the pages that start jobs."""

    job: Named = None


S = TypeVar("S", bound=PageState)


def usable(kind: type[S], given: Mapping[str, str]) -> tuple[S, dict[str, str]]:
    """The state, and for each part that cannot be used what is wrong with it."""
    left, wrong = dict(given), dict[str, str]()
    while True:
        try:
            return kind.model_validate(left), wrong
        except ValidationError as error:
            name, said = str(error.errors()[0]["loc"][0]), problem(error)[1]
            wrong[name] = said
            del left[name]


def read(kind: type[S]) -> S:
    """The state as the address has it now; what is wrong with it is told once."""
    given = {name: st.query_params[name] for name in kind.model_fields if name in st.query_params}
    state, wrong = usable(kind, given)
    told = f"{_TOLD}.{kind.__name__}"
    if wrong and st.session_state.get(told) != given:
        st.session_state[told] = given
        parts = ", ".join(f"{name}={given[name][:40]} ({said})" for name, said in wrong.items())
        st.toast(untrusted.escape(f"Left out of the address: {parts}"), icon=":material/link_off:")
    return state
