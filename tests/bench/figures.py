"""What is made of many turns: medians, and ratios within each round, so that what slows a round down slows both sides."""

import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of several rounds and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values):
        return cls(statistics.median(values), min(values), max(values)) if values else None


class Figures:
    """Numbers by case, subject and metric: one for each round."""

    def __init__(self, records=()):
        self.records = list(records)

    def add(self, case, subject, number, metrics):
        self.records.append({"case": case, "subject": subject, "round": number, "metrics": metrics})

    def subjects(self, case):
        return list(dict.fromkeys(record["subject"] for record in self.records if record["case"] == case))

    def by_round(self, case, subject, metric):
        return {record["round"]: record["metrics"][metric] for record in self.records
                if (record["case"], record["subject"]) == (case, subject) and record["metrics"].get(metric) is not None}

    def spread(self, case, subject, metric):
        return Spread.of(list(self.by_round(case, subject, metric).values()))

    def ratio(self, case, subject, metric, against):
        """To another subject in the same round."""
        ours, theirs = self.by_round(case, subject, metric), self.by_round(case, against, metric)
        return Spread.of([value / theirs[number] for number, value in ours.items() if theirs.get(number)])


@dataclasses.dataclass(frozen=True)
class Bar:
    """What has to be reached: a metric of `subject`, as a ratio to that of `against` if it is given."""

    words: str
    subject: str
    metric: str
    limit: float
    aim: float = None
    against: str = None
    at_least: bool = False  # else at most
    unit: str = "×"
    scale: float = 1  # from the metric's unit to the bar's

    def measured(self, case, figures):
        spread = (figures.ratio(case, self.subject, self.metric, self.against) if self.against
                  else figures.spread(case, self.subject, self.metric))
        return spread and Spread(spread.median / self.scale, spread.low / self.scale, spread.high / self.scale)

    def mark(self, spread):
        def reached(limit):
            return spread.median >= limit if self.at_least else spread.median <= limit

        if not reached(self.limit):
            return "not met"
        return "met" if self.aim is None or not reached(self.aim) else "aim met"
