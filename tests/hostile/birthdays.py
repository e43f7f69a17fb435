"""For each birthday of a leap year, the days until it on every day from 2000-01-01 to 2399-12-31: 16 bits each.

Python's calendar is the oracle; nothing is shared with the service. A birthday on 29 February is kept on 1 March in
common years.
"""

import array
import calendar
import datetime
import sys

FIRST, LAST = datetime.date(2000, 1, 1).toordinal(), datetime.date(2399, 12, 31).toordinal()


def birthday(month, day, year):
    if (month, day) == (2, 29) and not calendar.isleap(year):
        month, day = 3, 1
    return datetime.date(year, month, day).toordinal()


for number in range(366):
    born = datetime.date.fromordinal(FIRST + number)
    days, after = array.array("H"), FIRST
    for year in range(2000, 2401):
        next_one = birthday(born.month, born.day, year)
        # From the day after the last birthday, the days count down to this one.
        days.extend(range(next_one - after, -1, -1))
        after = next_one + 1
    if sys.byteorder == "big":
        days.byteswap()
    sys.stdout.buffer.write(days[: LAST - FIRST + 1].tobytes())
