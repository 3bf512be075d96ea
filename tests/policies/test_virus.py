"""`virus`: a signature is a refusal, and only a signature."""

from policies import VirusReport
from policies.testing import Judge, transaction
from policies.virus import virus


def test_a_clean_message_passes(judge: Judge):
    assert judge(virus, transaction(), VirusReport()) is None


def test_an_infected_message_is_refused(judge: Judge):
    verdict = judge(virus, transaction(), VirusReport("Win.Test.EICAR_HDB-1"))
    assert verdict is not None
    assert str(verdict.reply) == "550 5.7.1 Message refused: it contains malware"
    assert (verdict.reason, verdict.detail) == ("virus-found", "Win.Test.EICAR_HDB-1")


def test_no_name_of_a_signature_reaches_the_client(judge: Judge):
    verdict = judge(virus, transaction(), VirusReport("Evil\r\n250 ok %s\x1b[2J"))
    assert verdict is not None
    assert verdict.reply is not None
    assert b"Evil" not in verdict.reply.encode()
