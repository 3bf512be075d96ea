from filters import Filter, SpamReport
from policies import Transaction


class Lost(Filter):
    name = "lost"
    finds = SpamReport

    def __init__(self, *, path: str = "/no/such/file") -> None:
        with open(path) as file:
            self.words = file.read()

    async def find(self, tx: Transaction) -> SpamReport:
        return SpamReport(0.0)
