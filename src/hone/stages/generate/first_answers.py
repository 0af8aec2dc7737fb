"""The first answers of a language model, looked at while it works: some are shown, and a run that would keep next to
none is stopped before it is paid for."""

from collections import Counter

from hone.errors import UserError
from hone.progress import Task
from hone.stages.generate.cleaning import NOT_ABOUT, Cleaner, Draft

SHOWN = 10
"""So many answers that are kept, and as many that are dropped, are shown."""
LOOKED_AT = 200
REASONS = 3


class FirstAnswers:
    """Looks at answers in the order they come, up to a number."""

    def __init__(self, source: str, cleaner: Cleaner, most_dropped: float) -> None:
        self.source, self.cleaner, self.most_dropped = source, cleaner, most_dropped
        self.kept = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.settled = False

    def see(self, draft: Draft, progress: Task) -> None:
        """Shows an answer, if it is among the first. Raises UserError once enough are seen and too many are dropped."""
        fault = self.cleaner.check(draft)
        if fault is None:
            self.kept += 1
            if self.kept <= SHOWN:
                progress.say(f"kept     {draft.style}: {draft.text}")
        else:
            self.reasons[fault.reason] += 1
            self.examples.setdefault(fault.reason, draft.text)
            if self.reasons.total() <= SHOWN:
                progress.say(f"dropped  {draft.style}: {draft.text} ({fault.reason})")
        if self.kept + self.reasons.total() >= LOOKED_AT:
            self.settled = True
            self._stop()

    def _stop(self) -> None:
        dropped = self.reasons.total()
        if dropped <= self.most_dropped * LOOKED_AT:
            return
        common = self.reasons.most_common(REASONS)
        said = ", ".join(f"{count} {reason} (such as {self.examples[reason][:60]!r})" for reason, count in common)
        without = "show it no examples (generate.llm.examples: 0), " if NOT_ABOUT in dict(common) else ""
        raise UserError(
            f"{dropped} of the first {LOOKED_AT} answers of {self.source} were dropped: {said}; take a larger model, "
            f"{without}change what generate.llm asks for, or raise generate.clean.most_dropped; the answers are kept"
        )
