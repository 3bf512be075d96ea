from filters import Filter
from filters.evidence import Finding
from policies import Transaction


class Mood(Finding):
    pass


class Mine(Filter):
    name = "mine"
    finds = Mood

    async def find(self, tx: Transaction) -> Mood:
        return Mood()


class Mine(Filter):
    name = "mine_too"
    finds = Mood

    async def find(self, tx: Transaction) -> Mood:
        return Mood()
