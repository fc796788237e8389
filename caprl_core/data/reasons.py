"""Why a sample did not become a row: the closed vocabulary of the ledger."""

from enum import StrEnum


class Reason(StrEnum):
    """A reason code. Codes are never renamed or reused: committed ledgers carry them for ever."""

    # The image never reached the engine.
    IMAGE_MISSING = "image_missing"
    IMAGE_UNREADABLE = "image_unreadable"  # the store or the network failed for this object, after retries
    IMAGE_FORBIDDEN = "image_forbidden"  # a path that escapes its root, or an address that is not public
    IMAGE_TOO_LARGE = "image_too_large"  # bytes or pixels over the limit (decompression bombs included)
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_CORRUPT = "image_corrupt"  # not an image, or one that does not decode
    IMAGE_UNSUPPORTED = "image_unsupported"  # a format outside the allowed list
    IMAGE_TOO_SMALL = "image_too_small"
    IMAGE_EXTREME_ASPECT = "image_extreme_aspect"  # the model's processor refuses ratios over 200
    IMAGE_TIMEOUT = "image_timeout"  # decoding took longer than its limit and was killed
    IMAGE_CRASHED = "image_crashed"  # the decoding process died
    IMAGE_CHANGED = "image_changed"  # the bytes differ from those captioned before a resume
    SAMPLE_INVALID = "sample_invalid"  # the source row itself is malformed

    # The engine answered, but not usably.
    REQUEST_REFUSED = "request_refused"  # the engine rejects this request (for example prompt too long)
    REQUEST_FAILED = "request_failed"  # errors or time-outs for this request only, after retries
    EMPTY = "empty"
    REFUSED = "refused"
    UNPARSABLE = "unparsable"  # the stage could not read the reply
    REPEATED = "repeated"
    TRUNCATED = "truncated"
    WRONG_LANGUAGE = "wrong_language"
    PROMPT_LEAKED = "prompt_leaked"
    ENGINE_DIED = "engine_died"  # engine after engine died with this sample inside, at last with nothing else
    NO_QUESTION = "no_question"  # no question about this image was taken over, so there is nothing to answer
