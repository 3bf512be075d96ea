"""`attachments`: what becomes of files that run, hide, cannot be seen into, or blow up."""

import pytest

from policies import AttachedFile, Attachments, Transaction, Verdict
from policies.attachments import attachments
from policies.testing import evidence, message, transaction
from policies.verdict import Decision

EXE = "application/x-dosexec"


def judged(*files: AttachedFile, defects: tuple[str, ...] = (), **options: object) -> Verdict | None:
    return attachments(transaction(), evidence(Attachments(files, (), defects)), **options)


def with_field(field: str) -> Transaction:
    content = f"From: a@example.net\r\n{field}\r\n\r\nx\r\n".encode()
    return transaction(message=message(content=content))


def reason_of(verdict: Verdict | None) -> str | None:
    return verdict and verdict.reason


@pytest.mark.parametrize(
    "name",
    [
        *("report.pdf", "archive.zip", "archive.zip/docs/readme.txt", "a.zip/example.com/index.html"),
        *(
            "part-1.2",
            "exe",
            "photo.JPG",
            "",
            ".",
            "...",
            "com",
            "budget.2026.xlsx",
            "exe.pdf",
            "a.exe/b.txt",
        ),
    ],
)
def test_harmless_names_are_no_matter(name: str):
    assert judged(AttachedFile(name)) is None


@pytest.mark.parametrize(
    "name",
    [
        *(
            "setup.exe",
            "SETUP.EXE",
            "setup.exe.",
            "setup.exe . .",
            "a.zip/b/setup.scr",
            "x.js",
            "x.lnk",
            "x.iso",
        ),
        *("x.jar", "x.msi", "x.hta", "x.vbs", "x.wsf", "x.pif", "x.bat", "x.cmd", "x.com", "x.img", ".exe"),
    ],
)
def test_names_of_programs_are_refused(name: str):
    verdict = judged(AttachedFile(name))
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == (Decision.REJECT, "attachment-forbidden")
    assert repr(name) in verdict.detail


@pytest.mark.parametrize(
    ("declared", "true", "reason"),
    [
        ("image/png", EXE, "attachment-forbidden"),
        ("application/x-msdownload", None, "attachment-forbidden"),
        (None, "application/x-ms-shortcut", "attachment-forbidden"),
        ("application/octet-stream", "application/pdf", None),
        (None, None, None),
    ],
)
def test_the_type_by_content_counts_and_the_declared_one(
    declared: str | None, true: str | None, reason: str | None
):
    assert reason_of(judged(AttachedFile("picture.png", declared, true))) == reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("invoice.pdf.exe", "attachment-suspicious"),
        ("invoice.PDF          .Exe", "attachment-suspicious"),
        ("invoice.pdf____.scr.", "attachment-suspicious"),
        ("invoice\u202efdp.exe", "attachment-suspicious"),
        ("\u202etxt.pdf", "attachment-suspicious"),
        ("invoice.2026.exe", "attachment-forbidden"),
        ("invoice.exe.pdf", None),
        ("backup.tar.gz", None),
        ("\u05d0\u05d1.pdf", None),
    ],
)
def test_disguised_names(name: str, reason: str | None):
    assert reason_of(judged(AttachedFile(name))) == reason


def test_a_disguise_stays_one_where_programs_are_allowed():
    options = {"extensions": frozenset({"iso"})}
    assert judged(AttachedFile("setup.exe"), **options) is None
    assert reason_of(judged(AttachedFile("invoice.pdf.exe"), **options)) == "attachment-suspicious"


@pytest.mark.parametrize("written", ["ace", ".ace", "ACE"])
def test_the_operator_writes_extensions_as_he_likes(written: str):
    assert judged(AttachedFile("x.ace")) is None
    assert reason_of(judged(AttachedFile("x.ace"), extensions=frozenset({written}))) == "attachment-forbidden"


@pytest.mark.parametrize(
    ("types", "is_refused"), [({"video/*"}, True), ({"video/mp4"}, True), ({"video"}, False)]
)
def test_a_whole_kind_of_types_can_be_forbidden(types: set[str], is_refused: bool):
    verdict = judged(AttachedFile("film.mp4", "video/mp4"), types=frozenset(types))
    assert (verdict is not None) == is_refused


def test_a_message_is_named_after_its_subject():
    forwarded = "Offers of www.example.com"
    assert judged(AttachedFile(forwarded, "message/rfc822")) is None
    assert judged(AttachedFile(forwarded, None, "message/rfc822")) is None
    assert judged(AttachedFile(forwarded, "application/octet-stream")) is not None


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ('Content-Type: text/plain; name="a.txt"', None),
        ('Content-Type: text/plain; name="a.exe"', "attachment-forbidden"),
        ("Content-Disposition: attachment; filename=a.txt; filename*=utf-8''a.exe", "attachment-forbidden"),
        ("Content-Disposition: attachment; filename*=utf-8''a%E2%80%AEfdp.txt", "attachment-suspicious"),
        ("Content-Disposition: attachment; filename==?utf-8?B?YeKArmZkcC50eHQ=?=", "attachment-suspicious"),
        ('Content-Disposition: attachment; filename="C:\\\\x\\\\a.txt"', None),
        ('Content-Type: message/rfc822; name="www.example.com"', None),
        ('Subject: name="a.exe"', None),
    ],
)
def test_every_name_that_a_client_could_take_counts(field: str, reason: str | None):
    for found in (Attachments((AttachedFile("a.txt"),)), Attachments(defects=("time-out",))):
        verdict = attachments(with_field(field), evidence(found), unreadable="accept")
        assert reason_of(verdict) == reason


def test_where_nothing_is_attached_the_message_is_not_looked_at():
    """So that most decisions can be replayed: a record has the finding, and not the parts."""
    assert attachments(with_field('Content-Type: text/plain; name="a.exe"'), evidence(Attachments())) is None


@pytest.mark.parametrize(
    ("macros", "decision"),
    [
        ((), None),
        (("macros",), Decision.MARK),
        (("Shell", "CreateObject", "SW_HIDE"), Decision.MARK),
        (("Shell", "AutoOpen"), Decision.REJECT),
        (("Document_Open",), Decision.REJECT),
        (("workbook_open",), Decision.REJECT),
        (("Auto_Close",), Decision.REJECT),
        (("Ink_Painted",), Decision.REJECT),
    ],
)
def test_macros_that_run_by_themselves_are_worse(macros: tuple[str, ...], decision: Decision | None):
    verdict = judged(AttachedFile("plan.xlsm", macros=macros))
    assert (verdict and verdict.decision) == decision


@pytest.mark.parametrize(
    ("defect", "decision", "reason"),
    [
        ("compression-ratio", Decision.REJECT, "attachment-unreadable"),
        ("too-deep", Decision.REJECT, "attachment-unreadable"),
        ("name-traversal", Decision.REJECT, "attachment-suspicious"),
        ("name-disguised", Decision.REJECT, "attachment-suspicious"),
        ("archive-damaged", Decision.MARK, "marked"),
        ("too-many-files", Decision.MARK, "marked"),
        ("time-out", Decision.MARK, "marked"),
    ],
)
def test_defects(defect: str, decision: Decision, reason: str):
    verdict = judged(defects=(defect,))
    assert verdict is not None
    assert (verdict.decision, verdict.reason, defect in verdict.detail) == (decision, reason, True)


@pytest.mark.parametrize("defect", ["malformed-mime", "bad-base64", "no-close-delimiter", "one-of-tomorrow"])
def test_other_defects_are_not_about_attachments(defect: str):
    assert judged(defects=(defect,)) is None


@pytest.mark.parametrize(
    ("option", "file", "defects", "reason"),
    [
        ("forbidden", AttachedFile("x.exe"), (), "attachment-forbidden"),
        ("disguised", AttachedFile("\u202ex.pdf"), (), "attachment-suspicious"),
        ("macros", AttachedFile("x.doc", macros=("Shell",)), (), "attachment-macros"),
        ("auto_macros", AttachedFile("x.doc", macros=("AutoOpen",)), (), "attachment-macros"),
        ("encrypted", AttachedFile("x.zip", is_encrypted=True), (), "attachment-encrypted"),
        ("bombs", AttachedFile("x.zip"), ("compression-ratio",), "attachment-unreadable"),
        ("unreadable", AttachedFile("x.zip"), ("archive-damaged",), "attachment-unreadable"),
    ],
)
def test_the_operator_says_what_becomes_of_each(
    option: str, file: AttachedFile, defects: tuple[str, ...], reason: str
):
    for action, decision in (
        ("reject", Decision.REJECT),
        ("quarantine", Decision.QUARANTINE),
        ("mark", Decision.MARK),
    ):
        verdict = judged(file, defects=defects, **{option: action})
        assert verdict is not None
        assert verdict.decision == decision
        assert verdict.reason == ("marked" if action == "mark" else reason)
    assert judged(file, defects=defects, **{option: "accept"}) is None


def test_the_worst_file_decides_and_the_lesser_are_not_forgotten():
    locked = AttachedFile("a.zip", is_encrypted=True)
    document = AttachedFile("b.doc", macros=("Shell",))
    both = judged(locked, document)
    assert both is not None
    assert both.field == ("X-Sluicegate-Attachments", "encrypted, macros")
    kept = judged(locked, document, macros="quarantine")
    assert kept is not None
    assert (kept.decision, kept.reason) == (Decision.QUARANTINE, "attachment-macros")
    assert (
        reason_of(judged(locked, document, AttachedFile("x.exe"), macros="quarantine"))
        == "attachment-forbidden"
    )


def test_a_file_in_an_encrypted_archive_is_known_by_its_name():
    inner = AttachedFile("a.zip/run.exe", depth=1, is_encrypted=True)
    assert reason_of(judged(AttachedFile("a.zip", is_encrypted=True), inner)) == "attachment-forbidden"


def test_the_operator_is_told_which_file_and_the_client_only_what_helps():
    verdict = judged(*(AttachedFile(f"{number}.exe") for number in range(7)))
    assert verdict is not None
    assert str(verdict.reply).startswith("550 5.7.1 Message refused: files of this kind")
    assert "0.exe" not in str(verdict.reply)
    assert verdict.detail.startswith("forbidden: '0.exe' ends in .exe; ")
    assert verdict.detail.endswith("; and 2 more")


def test_the_detail_can_be_printed():
    verdict = judged(AttachedFile("a\u202efdp.exe"))
    assert verdict is not None
    assert verdict.detail.isprintable()
