"""What comes from outside: one form of message, which names the field; what our own checks say passes as it is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import field_validator

from neurons.core.boundary import Boundary, checked
from neurons.core.errors import InvalidInput, InvalidSteer


class _Inner(Boundary):
    count: int = 0


class _Outer(Boundary):
    name: str
    items: tuple[_Inner, ...] = ()
    steer: str = ""

    @field_validator("steer")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "bad":
            raise InvalidSteer("no such steer; choose another", field="steer")
        return value


@dataclass(frozen=True)
class _Plain:
    size: int


def test_what_is_right_comes_out_typed() -> None:
    assert checked(_Outer, {"name": "a", "items": [{"count": 2}]}) == _Outer(name="a", items=(_Inner(count=2),))
    assert checked(_Plain, {"size": 3}) == _Plain(3)


@pytest.mark.parametrize(
    ("data", "field", "said"),
    [
        ({}, "name", "a thing: name: is missing; write it again"),
        ({"name": "a", "nope": 1}, "nope", "a thing: nope: is not known here; write it again"),
        ({"name": "a", "items": [{"count": "x"}]}, "items", "a thing: items.0.count: is no whole number; write it again"),
        ([], None, "a thing: should be a valid dictionary"),
        ({"name": "a", "steer": "bad"}, "steer", "no such steer; choose another"),
    ],
)
def test_what_is_wrong_is_named(data: object, field: str | None, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        checked(_Outer, data, what="a thing", cure="write it again")
    assert error.value.field == field
    assert str(error.value).startswith(said)
