"""Quantities as people read them."""


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `7 h 05 min`, `3 d 4 h`."""
    if seconds < 59.95:  # shown with one digit it would be 60.0 s
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"
