"""Times as logs hold them, read into seconds since 1970 in UTC: epochs, ISO 8601, web servers, and dates by hand.

A date such as 03/04/2024 is the third of April in one country and the fourth of March in another: the other dates of
the same log decide, or the settings; it is never guessed. A time without a zone is taken as UTC.
"""

import datetime
import decimal
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np

from hone.errors import UserError

MILLISECONDS, MICROSECONDS, NANOSECONDS = 1e11, 1e14, 1e17
"""From here on a number of seconds would lie beyond the year 5000: it counts smaller units."""
APACHE = "%d/%b/%Y:%H:%M:%S %z"
COMPACT = re.compile(r"(19|20)\d{6}(\d{6})?")
NUMBER = re.compile(r"-?\d+(\.\d+)?")
YEAR_FIRST = re.compile(r"\d{4}[/.-]\d{1,2}[/.-]\d{1,2}\b")
BY_HAND = re.compile(r"\D{0,4}?(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})\b")
DEFAULTS = (datetime.datetime(2000, 1, 1), datetime.datetime(2001, 2, 2))
"""What is missing of a date shows as a difference between the two."""


class Moment(NamedTuple):
    """A time in seconds since 1970, with the month first and with the day first, which mostly is the same."""

    month_first: float
    day_first: float
    proof: str = ""
    """`day` or `month` if only one of them can be meant."""


def moment(value: object, where: str, form: str = "") -> Moment:
    """A time of whatever form, or of the form that the settings name. Raises UserError naming the line."""
    read = _moment(value, form)
    if read is None and value in (None, ""):
        raise UserError(f"{where}: the time is empty; give every query one")
    if read is None:
        known = "seconds since 1970, 2024-05-01T10:00:00Z or 01/May/2024:10:00:00 +0000"
        raise UserError(f"{where}: {str(value)[:40]!r} cannot be read as a time; write {known}, or set log.time_format")
    return read


def seconds(moments: Sequence[Moment], places: Sequence[str]) -> np.ndarray:
    """Seconds since 1970 [n] float64. Raises UserError naming the line of a date that could be one of two."""
    proofs = {one.proof for one in moments if one.proof}
    unclear = next((at for at, one in enumerate(moments) if one.month_first != one.day_first), None)
    if unclear is not None and len(proofs) != 1:
        why = "some dates of the file have the day first, others the month" if proofs else "no other date settles it"
        hint = "set log.time_format, such as '%d/%m/%Y' or '%m/%d/%Y'"
        raise UserError(f"{places[unclear]}: the date could be day first or month first ({why}); {hint}")
    return np.array([one.day_first if "day" in proofs else one.month_first for one in moments], dtype=np.float64)


def _moment(value: object, form: str) -> Moment | None:
    if isinstance(value, datetime.datetime):
        return _same(value)
    if isinstance(value, datetime.date):
        return _same(datetime.datetime(value.year, value.month, value.day))
    if isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool) and value == value:
        return _epoch(float(value))
    if isinstance(value, Mapping) and len(cast(Mapping[str, object], value)) == 1:  # $date of MongoDB
        ((name, inner),) = cast(Mapping[str, object], value).items()
        return _moment(inner, form) if name.startswith("$") else None
    text = value.strip().strip("[]").replace(" @ ", " ").strip() if isinstance(value, str) else ""
    try:
        if form and text:
            return _same(datetime.datetime.strptime(text, form))
        return _of_text(text) if text else None
    except (ValueError, OverflowError):
        return None


def _of_text(text: str) -> Moment | None:
    if COMPACT.fullmatch(text):
        return _same(datetime.datetime.strptime(text, "%Y%m%d%H%M%S" if len(text) > 8 else "%Y%m%d"))
    if NUMBER.fullmatch(text):
        return _epoch(float(text))
    try:
        return _same(datetime.datetime.fromisoformat(text))
    except ValueError:
        pass
    try:
        return _same(datetime.datetime.strptime(text, APACHE))
    except ValueError:
        return _by_hand(text)


def _by_hand(text: str) -> Moment | None:
    """A date that people or spreadsheets wrote; what does not name its year, month and day is none."""
    both = [_whole(text, day_first=first) for first in (False, True)]
    month_first, day_first = both
    if month_first is not None and YEAR_FIRST.match(text):  # then the month follows
        return Moment(month_first, month_first)
    if month_first is None or day_first is None:
        return None
    parts = BY_HAND.match(text)
    if not parts:
        return Moment(month_first, month_first) if month_first == day_first else None
    if parts[2] == ".":  # where dates have dots, the day stands first
        return Moment(day_first, day_first)
    first, second = int(parts[1]), int(parts[3])
    proof = "day" if first > 12 else "month" if second > 12 else ""
    return Moment(month_first, day_first, proof)


def _whole(text: str, *, day_first: bool) -> float | None:
    from dateutil import parser

    readings = [parser.parse(text, default=one, dayfirst=day_first, tzinfos=_zone) for one in DEFAULTS]
    times = {_timestamp(one.replace(hour=0, minute=0, second=0, microsecond=0)) for one in readings}
    return _timestamp(readings[0]) if len(times) == 1 else None


def _zone(name: str | None, offset: int | None) -> datetime.tzinfo:
    from dateutil import tz

    if offset is not None:
        return tz.tzoffset(None, offset)
    if name in ("UTC", "GMT", "Z", None):
        return datetime.UTC
    raise ValueError(f"the zone {name} may be one of several")


def _epoch(number: float) -> Moment:
    units = ((NANOSECONDS, 1e9), (MICROSECONDS, 1e6), (MILLISECONDS, 1e3))
    value = number / next((unit for least, unit in units if abs(number) >= least), 1.0)
    return Moment(value, value)


def _same(moment: datetime.datetime) -> Moment:
    return Moment(_timestamp(moment), _timestamp(moment))


def _timestamp(moment: datetime.datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
