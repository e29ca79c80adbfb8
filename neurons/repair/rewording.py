"""Paraphrases from an OpenAI-compatible endpoint. What comes back is untrusted text: one wording a line, checked like typed ones."""

from __future__ import annotations

import re

from neurons.core.errors import EndpointError
from neurons.describing.endpoint import Endpoint

_ASK = (
    "Write {count} different ways to ask the following question. Keep its meaning and every name and number in it. "
    "One per line, no numbering, nothing else.\n\n{prompt}"
)
_MARKER = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")
_LONGEST = 2000


def endpoint_paraphrases(endpoint: Endpoint, prompt: str, *, count: int = 10) -> tuple[str, ...]:
    """Up to `count` other wordings. Raises `EndpointError` when the endpoint is down, refuses, or gives nothing usable."""
    import openai

    endpoint.check()
    client = openai.OpenAI(
        base_url=endpoint.base_url, api_key=endpoint.api_key or "none", timeout=endpoint.timeout, max_retries=endpoint.attempts - 1
    )
    try:
        reply = client.chat.completions.create(
            model=endpoint.model,
            messages=[{"role": "user", "content": _ASK.format(count=count, prompt=prompt)}],
            max_tokens=endpoint.max_tokens,
            temperature=endpoint.temperature,
        )
        text = reply.choices[0].message.content or ""
    except openai.OpenAIError as error:
        raise EndpointError(f"{endpoint.base_url} gave no paraphrases: {str(error)[:200]}; check its address and model") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise EndpointError(f"{endpoint.base_url} does not answer like a chat endpoint; check its address") from error
    finally:
        client.close()
    lines = [_MARKER.sub("", line).strip().strip("\"“”'") for line in text.splitlines()]
    good = [line for line in dict.fromkeys(lines) if line and len(line) <= _LONGEST and line.casefold() != prompt.strip().casefold()]
    if not good:
        raise EndpointError(f"{endpoint.base_url} gave no usable wording; try again, or use the templates")
    return tuple(good[:count])
