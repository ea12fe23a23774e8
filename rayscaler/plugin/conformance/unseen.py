"""The rules that no check can test from outside, each with the reason. Pure."""

UNSEEN = {
    "X14": "what a node registers is seen at Ray's GCS only; a cluster whose workers join shows it",
    "X15": "what a node does when its head is lost is seen at a Ray cluster only",
    "X19": "whether something still runs or costs is known to the plugin's world alone",
    "X27": "is kept by the caller, which compares observed_at with nothing but the present",
    "X36": "says how the caller takes what it is told",
    "X37": "says what the caller does without an answer",
    "X48": "whatever is printed after the handshake is taken; before it, stdout is checked as X44",
    "X51": "says how the caller dials",
    "X52": "is about releases of the protocol, which buf compares, and about the caller",
    "X54": "is about releases of the protocol",
}
"""By rule."""
