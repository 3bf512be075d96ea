"""A block list in a file, in the real process: the next transaction obeys it, without a reload."""

from pathlib import Path

from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process
from tests.waiting import eventually

POLICY = '''"""Refuse senders on a list."""

from policies import Evidence, FileSet, Stage, Transaction, Verdict, matches, policy, reject


@policy(at=Stage.RCPT)
def senders(
    tx: Transaction, evidence: Evidence, *, blocked: FileSet = FileSet.of(), prefix: str = ""
) -> Verdict | None:
    """Reject those in `blocked`."""
    entry = matches(tx.envelope.reverse_path, blocked)
    return None if entry is None else reject(f"{prefix}blocked-sender", detail=entry)
'''

SETTINGS = """
directory = "{directory}"
[policies.senders]
blocked = "blocked.txt"
[[profile]]
recipients = ["vip@our.example"]
[profile.policies.senders]
prefix = "vip-"
"""


class Listed(Process):
    """With the policy, and its list beside the configuration file."""

    def configure(self, extra: str = "", port: int | None = None) -> None:
        (self.directory / "senders.py").write_text(POLICY)
        self.put(b"@b.example\n")
        super().configure(SETTINGS.format(directory=self.directory) + extra, port)
        text = self.file.read_text().replace('order = ["recipients"]', 'order = ["recipients", "senders"]')
        self.file.write_text(text)

    def put(self, content: bytes) -> None:
        """A new list in the place of the old one."""
        other = self.directory / "blocked.new"
        other.write_bytes(content)
        other.rename(self.directory / "blocked.txt")


async def replies(client: Client) -> list[int]:
    """To a recipient like all, and one with a profile, of a sender at a.example."""
    codes = []
    for recipient in ("u1@our.example", "vip@our.example"):
        await client.ask("MAIL FROM:<anna@a.example>")
        codes.append((await client.ask(f"RCPT TO:<{recipient}>")).code)
        await client.ask("RSET")
    return codes


async def test_a_list_that_changes_is_obeyed_by_the_next_transaction(mta: FakeMTA, tmp_path: Path):
    with Listed(tmp_path, mta.address) as running:
        workers = running.children()
        async with Client(running.port) as client:
            await client.ask("EHLO client.example")
            assert await replies(client) == [250, 250]
            running.put(b"# again\n@A.example  # all of them\n")
            await eventually(lambda: running.log.count("a file was read again") == 1)
            assert await replies(client) == [550, 550]
            running.put(b"@b.example\n\xff\n")
            await eventually(lambda: "a file keeps the entries it had" in running.log)
            assert await replies(client) == [550, 550]
            running.put(b"")
            await eventually(lambda: running.log.count("a file was read again") == 2)
            assert await replies(client) == [250, 250]
        assert running.children() == workers
        assert running.log.count("a file keeps the entries it had") == 1
        assert f"{tmp_path}/blocked.txt:2: is not UTF-8" in running.log
        refused = [record for record in running.records() if record["verdict"] == "rejected"]
        assert [record["reason"] for record in refused] == ["blocked-sender", "vip-blocked-sender"] * 2
        assert {record["detail"] for record in refused} == {"@a.example"}
