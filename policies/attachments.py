"""Refuse attachments that run on a click; say what becomes of macros, encryption, and what cannot be read."""

import functools
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Literal

from gateway.smtp.parameters import parse_parametrized
from policies import (
    AttachedFile,
    Attachments,
    Evidence,
    Stage,
    Transaction,
    Verdict,
    mark,
    policy,
    quarantine,
    reject,
)

Action = Literal["reject", "quarantine", "mark", "accept"]
Problem = tuple[str, str]  # a key of _REASONS, and what it is about

_REASONS = {
    "forbidden": "attachment-forbidden",
    "disguised": "attachment-suspicious",
    "macros": "attachment-macros",
    "auto_macros": "attachment-macros",
    "encrypted": "attachment-encrypted",
    "bombs": "attachment-unreadable",
    "unreadable": "attachment-unreadable",
}
_TYPES = frozenset(
    {
        *("application/hta", "application/java-archive", "application/vnd.microsoft.portable-executable"),
        *("application/vnd.ms-htmlhelp", "application/x-dosexec", "application/x-iso9660-image"),
        *("application/x-ms-shortcut", "application/x-msdos-program", "application/x-msdownload"),
        "application/x-msi",
    }
)
# What Windows or a Java on it runs, mounts or takes settings from when it is opened.
_EXTENSIONS = frozenset(
    {
        *("appx", "bat", "chm", "cmd", "com", "cpl", "dll", "exe", "gadget", "hta", "img", "iso", "jar"),
        *("jnlp", "js", "jse", "lnk", "msc", "msi", "msix", "msp", "mst", "pif", "ps1", "psm1", "reg", "scf"),
        *("scr", "sct", "sys", "vb", "vbe", "vbs", "vhd", "vhdx", "wsc", "wsf", "wsh", "xll"),
    }
)
# What a file pretends to be that has one of those behind it.
_DOCUMENTS = frozenset(
    {
        *("csv", "doc", "docx", "gif", "htm", "html", "jpeg", "jpg", "mp3", "mp4", "pdf", "png", "ppt"),
        *("pptx", "rtf", "txt", "xls", "xlsx", "xml", "zip"),
    }
)
_DEFECTS = {
    **dict.fromkeys(("name-disguised", "name-traversal"), "disguised"),
    **dict.fromkeys(("compression-ratio", "too-deep"), "bombs"),
    **dict.fromkeys(("archive-damaged", "archive-empty", "archive-unsupported"), "unreadable"),
    **dict.fromkeys(("document-damaged", "time-out", "too-large-unpacked"), "unreadable"),
    **dict.fromkeys(("too-many-files", "too-much-memory"), "unreadable"),
}
_MESSAGES = frozenset({"message/rfc822", "message/global"})
# Characters that turn what stands behind them around, so that "exe.fdp" is read as "pdf.exe".
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
# What Office runs without being asked twice: AutoOpen, Document_Open, Workbook_Activate, Ink_Painted.
_RUNS_BY_ITSELF = re.compile(
    r"(?i:auto_?(?:activate|close|exec|exit|new|open)|document_?\w+|workbook_\w+|newdocument)"
    r"|\w+_[A-Z][a-z]\w*"
)
_MAX_SHOWN = 5
# Of the fields of one part that may name it; a mail client takes one of the first.
_MAX_NAMING = 20


@policy(at=Stage.END_OF_DATA, needs=[Attachments])
def attachments(
    tx: Transaction,
    evidence: Evidence,
    *,
    types: frozenset[str] = _TYPES,
    extensions: frozenset[str] = _EXTENSIONS,
    forbidden: Action = "reject",
    disguised: Action = "reject",
    macros: Action = "mark",
    auto_macros: Action = "reject",
    encrypted: Action = "mark",
    bombs: Action = "reject",
    unreadable: Action = "mark",
) -> Verdict | None:
    """Judge each attached file, those in archives included, and do the worst that one of them deserves.

    `forbidden` is what becomes of media types in `types`, declared or by content (`video/*` is all of
    a kind), and of names that end in one of `extensions`. `disguised`: names like `invoice.pdf.exe`,
    names that are read from right to left, and ways out of the directory an archive is unpacked in.
    `macros`: documents with macros; `auto_macros`: with macros that run when it is opened or closed.
    `encrypted`: what nobody but the recipient can look into. `bombs`: archives that unpack to far too
    much, or have archives in archives in archives. `unreadable`: what is damaged, of an unknown kind,
    or more than the limits of the filter.

    What is marked gets the field `X-Sluicegate-Attachments`.
    """
    actions: dict[str, Action] = {
        "forbidden": forbidden,
        "disguised": disguised,
        "macros": macros,
        "auto_macros": auto_macros,
        "encrypted": encrypted,
        "bombs": bombs,
        "unreadable": unreadable,
    }
    found = evidence[Attachments]
    problems = [
        *(problem for file in found.files for problem in _of_file(file, types, extensions)),
        *(problem for name in _other_names(tx, found) for problem in _of_name(name, extensions)),
        *((_DEFECTS[defect], defect) for defect in found.defects if defect in _DEFECTS),
    ]
    return _verdict(problems, actions)


def _verdict(problems: list[Problem], actions: Mapping[str, Action]) -> Verdict | None:
    for action, decide in (("reject", reject), ("quarantine", quarantine)):
        chosen = [problem for problem in problems if actions[problem[0]] == action]
        if chosen:
            return decide(_REASONS[chosen[0][0]], detail=_detail(chosen))
    marked = [problem for problem in problems if actions[problem[0]] == "mark"]
    if not marked:
        return None
    words = sorted({_REASONS[kind].removeprefix("attachment-") for kind, _ in marked})
    return mark("X-Sluicegate-Attachments", ", ".join(words), detail=_detail(marked))


def _detail(problems: list[Problem]) -> str:
    shown = list(dict.fromkeys(f"{kind}: {what}" for kind, what in problems))
    more = [f"and {len(shown) - _MAX_SHOWN} more"] if len(shown) > _MAX_SHOWN else []
    return "; ".join([*shown[:_MAX_SHOWN], *more])


def _of_file(file: AttachedFile, types: frozenset[str], extensions: frozenset[str]) -> Iterator[Problem]:
    kinds = {file.true_type, file.declared_type} - {None}
    for kind in kinds:
        if kind in types or f"{str(kind).partition('/')[0]}/*" in types:
            yield "forbidden", f"{file.name!r} is {kind}"
    # What messages are called is their subject, and may end in anybody's domain.
    if not kinds & _MESSAGES:
        yield from _of_name(file.name, extensions)
    if file.macros:
        runs = [name for name in file.macros if _RUNS_BY_ITSELF.fullmatch(name)]
        yield "auto_macros" if runs else "macros", f"{file.name!r}: {' '.join(runs or file.macros)}"
    if file.is_encrypted:
        yield "encrypted", repr(file.name)


def _of_name(name: str, extensions: frozenset[str]) -> Iterator[Problem]:
    """Windows takes no notice of dots and blanks at the end, and of case."""
    last = re.split(r"[/\\]", name)[-1]
    stem, dot, extension = last.lower().rstrip(". ").rpartition(".")
    inner = stem.rstrip("._ ").rpartition(".")[2]
    is_forbidden = bool(dot) and extension in _normal(extensions)
    if _TURNING.search(last) or (inner in _DOCUMENTS and (is_forbidden or extension in _EXTENSIONS)):
        yield "disguised", repr(name)
    if is_forbidden:
        yield "forbidden", f"{name!r} ends in .{extension}"


@functools.lru_cache(maxsize=64)
def _normal(extensions: frozenset[str]) -> frozenset[str]:
    """However the operator wrote them: `EXE`, `.exe`."""
    return frozenset(extension.lower().lstrip(".") for extension in extensions)


def _other_names(tx: Transaction, found: Attachments) -> Iterator[str]:
    """All names of parts as they are written; which of several a mail client takes, nobody knows."""
    # Whoever has found nothing has seen no part with a name.
    for part in tx.message.parts if found.files or found.defects else ():
        if part.content_type not in _MESSAGES:
            naming = (f for f in part.fields if f.name in {"content-disposition", "content-type"})
            for field in islice(naming, _MAX_NAMING):
                written = parse_parametrized(field.value)
                yield from (*written.all("filename"), *written.all("name"))
