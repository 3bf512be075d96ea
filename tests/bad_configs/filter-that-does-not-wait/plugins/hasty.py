from filters import Filter, SpamReport
from policies import Transaction


class Hasty(Filter):
    name = "hasty"
    finds = SpamReport

    def find(self, tx: Transaction) -> SpamReport:
        return SpamReport(0.0)
