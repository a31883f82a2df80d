"""Say what operators care about to somebody who knows nothing of the method."""

from collections.abc import Callable

from training.evaluation.operations import FalseAlarms, Found, Operations

Show = Callable[[str], str]
"""Makes a name from a table fit for where it is shown."""

_LISTED = 10  # Series that have a line of their own
_DAY = 86_400
_WIDE = 0.2  # An interval of a share that is wider than this says little
_TELLS = {
    "time": "`time` (delays, and false alarms a day)",
    "series": "`series` (figures for each device)",
    "event": "`event` (fault events found)",
}


def in_words(operations: Operations, show: Show = str) -> list[str]:
    """Return sentences on false alarms, on events, and on what the recipe does not tell."""
    sentences = [_false_alarms(operations)]
    if operations.events and operations.events.total:
        sentences.append(_events(operations.events))
        sentences.append(_by_class(operations.event_series or operations.events, operations, show))
    if operations.faults_without_event:
        count = _count(operations.faults_without_event, "faulty record")
        sentences.append(f"Not counted there: {count} that no event is named for.")
    if operations.missing:
        tells = ", ".join(_TELLS[name] for name in operations.missing)
        sentences.append(f"The recipe could name more columns: {tells}.")
    return sentences


def verdict_on_data(operations: Operations, show: Show = str) -> str:
    """Return how much the figures can be trusted: on how many events and devices they stand."""
    events, parts = operations.events, [_count(operations.records, "record")]
    if operations.series_seen is not None:
        values = ", ".join(f"{show(name)}: {count:,}" for name, count in operations.values.items())
        parts.append(f"{operations.series_seen:,} series ({values})")
    if operations.device_days is not None:
        parts.append(f"{_span(operations.device_days * _DAY)} of observation, all series added up")
    if events is None:
        return (
            f"These figures stand on {'; '.join(parts)}. How many independent events is not known."
        )
    parts.insert(0, _count(events.total, "event"))
    text = f"These figures stand on {'; '.join(parts)}. "
    if not events.total:
        return text + "Without events nothing is known of how many it would find."
    low, high = events.interval
    text += (
        "Records of one event are much alike, so each event counts once: of all such events, it "
        f"would find between {low:.0%} and {high:.0%} (95% confidence)"
    )
    text += "; more events would tell more." if high - low > _WIDE else "."
    if events.by_chance is None:
        return text
    chance = f"{_number(events.by_chance)} of {events.total:,}"
    return f"{text} Alarms as frequent as the false ones would find {chance} by chance."


def terms(operations: Operations) -> str:
    """Return what an episode is, and when an event counts as found."""
    apart = "on neighbouring records"
    if "time" not in operations.missing:
        apart = f"no more than {_span(operations.gap)} (or two usual intervals) apart"
    text = f"An alarm is any verdict but good traffic. An episode is alarms of a series {apart}."
    if operations.events:
        text += (
            " An event is found by an alarm that begins in it: one that was on before does not "
            "count, and no verdict is adjusted for its neighbours."
        )
    return text


def series_rows(operations: Operations, show: Show = str) -> list[list[str]]:
    """Return a row for each series with false alarms, the worst first, and one for the others."""
    whole, listed = operations.false_alarms, dict[str, FalseAlarms]()
    for name, counts in operations.series.items():
        if counts.alarms and len(listed) < _LISTED:
            listed[name] = counts
    rows = [[show(name), *_cells(counts)] for name, counts in listed.items()]
    others = (operations.series_seen or 0) - len(listed)
    if others:
        shown = listed.values()
        good = whole.good - sum(each.good for each in shown)
        alarms = whole.alarms - sum(each.alarms for each in shown)
        episodes = (whole.episodes or 0) - sum(each.episodes or 0 for each in shown)
        rest = FalseAlarms(good, alarms, alarms / good if good else None, episodes, None, None)
        rows.append([f"{'the other ' if listed else 'all '}{others:,}", *_cells(rest)])
    return rows


def _cells(counts: FalseAlarms) -> list[str]:
    share = "-" if counts.share is None else _thousandth(counts.share)
    return [f"{counts.good:,}", f"{counts.alarms:,}", share, f"{counts.episodes:,}"]


def _false_alarms(operations: Operations) -> str:
    counts = operations.false_alarms
    if counts.share is None:
        return "No test row is good traffic, so nothing is known of false alarms."
    text = (
        f"Of 1,000 good records {_thousandth(counts.share)} raise a false alarm "
        f"({counts.alarms:,} of {counts.good:,})"
    )
    if counts.episodes is None:
        return text + "."
    text += f", in {_count(counts.episodes, 'episode')}"
    if counts.device_days and counts.episodes_per_device_day is not None:
        rate = _number(counts.episodes_per_device_day)
        each = "a day and device" if operations.series_seen else "a day"
        return f"{text} within {_span(counts.device_days * _DAY)} of good traffic: {rate} {each}."
    return f"{text}: {_number(1000 * counts.episodes / counts.good)} in 1,000 good records."


def _events(events: Found) -> str:
    text = f"Of {_count(events.total, 'fault event')} {events.found:,} {_were(events.found)} found"
    if events.delay:
        text += f", after {_span(events.delay[0])} at the median"
        if events.found > 1:
            text += f" and {_span(events.delay[1])} in 9 of 10"
    text += f"; {events.named:,} {_were(events.named)} given the right name"
    if events.naming_delay:
        text += f", after {_span(events.naming_delay[0])} at the median"
    if events.running:
        text += (
            f"; {events.running:,} {_were(events.running)} missed although an alarm was on, "
            "because it had begun before the event"
        )
    return text + "."


def _by_class(pairs: Found, operations: Operations, show: Show) -> str:
    classes = ", ".join(
        f"{show(name)} {found.found:,} of {found.total:,}"
        for name, found in operations.by_class.items()
        if found.total
    )
    each = "By class" if operations.event_series is None else "At each device by itself"
    text = f"{each}, {pairs.found:,} of {pairs.total:,} {_were(pairs.total)} found ({classes})"
    if pairs.unjudged:
        text += (
            f"; {pairs.unjudged:,} more cannot be judged, as they follow closely on another event "
            "of the same class"
        )
    return text + "."


def _thousandth(share: float) -> str:
    return _number(1000 * share)


def _number(value: float) -> str:
    """Return a number with two digits below ten, and whole above."""
    return f"{value:.2g}" if value < 9.95 else f"{value:,.0f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{_number(seconds / size)} {unit}"
    return f"{_number(seconds)} s"
