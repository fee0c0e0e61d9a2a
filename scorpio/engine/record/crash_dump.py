"""What of a client stands in the log when the engine dies? Its request ids, and no text.

vLLM dumps the step that failed (vllm/logging_utils/dump_input.py): of prompts and tokens only how
many, but sampling parameters as they are: stop strings, grammars, `vllm_xargs` with the tenant.
"""

from __future__ import annotations

import logging
import re

from vllm.logging_utils import dump_input

# From the first request's to behind the last one's: what stands between may be any client's text.
_PARAMS = re.compile(r"sampling_params=.*,block_ids=", re.DOTALL)
_WITHHELD = "sampling_params=(withheld; VLLM_LOGGING_LEVEL=DEBUG shows them),block_ids="


def withhold_client_text() -> None:
    """From now on in this process; under VLLM_LOGGING_LEVEL=DEBUG the dump stays whole."""
    log = logging.getLogger(dump_input.__name__)
    if _without_params not in log.filters:
        log.addFilter(_without_params)


def _without_params(record: logging.LogRecord) -> bool:
    if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
        given = record.args if isinstance(record.args, tuple) else ()
        record.args = tuple(
            _PARAMS.sub(_WITHHELD, part) if isinstance(part, str) else part for part in given
        )
    return True
