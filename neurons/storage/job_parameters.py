"""What a background job is started with. Every kind of job has a model of its own, derived from this one and read by its worker."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class JobParameters(BaseModel):
    """Parameters of any job. A file of another version may say more: what no field here knows is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str = ""
    """Hash of the weights that the job was begun with; "" takes any."""

    precision: str = ""
    """Number format that it was begun in, such as "float32": half of its rows in another would not belong together. "" takes any."""

    @property
    def weights_hash(self) -> str:
        """The weights that the job needs; "" where any will do."""
        return self.model

    def to_json(self) -> dict[str, Any]:
        """The parameters as a job's file keeps them."""
        return self.model_dump(mode="json")
