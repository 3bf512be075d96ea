"""What docs/policies.md says beside what `reference` finds in the source. Texts, and nothing that runs."""

ABOUT_POLICIES = """\
# The policies that come with it

Each of them is a file in [`policies/`](../policies) and could have been written by you
([writing-policies.md](writing-policies.md)). One that is not in `[policies] order` is not asked. Every policy
takes `mode = "warn"`: it is asked and recorded, and the mail goes on. `sluicegate log` and `explain` then
show what it would have done. `sluicegate replay` tries it on recorded mail; `header_sanity`, and
`attachments` where something is attached, only after they were in warn mode, for they look at what a
record does not have.

This page is generated from the source (`make docs`).
"""

ORDER_OF_POLICIES = """\
## In which order

Policies are asked stage by stage, and at each stage in your order. What spares others stands before them,
what costs nothing before what costs a scan:

    order = [
        "allowed_clients", "blocked_clients", "blocklist",
        "allowed_senders", "blocked_senders",
        "recipients", "blocked_recipients", "allowed_recipients", "backscatter",
        "header_sanity", "virus", "attachments", "spam", "bulk",
    ]

- `recipients` belongs into every order; mail to foreign domains is refused without it as well. It has nothing
  to say behind a milter: there the MTA knows for whom it relays.
- Exempting is for policies that guess. Nobody should be exempt from `recipients`, `virus` or `attachments`,
  and the allowing policies exempt from none of them unless they are told to.
- What was decided before is not undone. A client that `blocklist` has refused at connect is refused,
  whatever `allowed_senders` would say at MAIL.

## Lists

`senders`, `recipients` and `clients` are lists in the configuration, or the path of a text file with an
entry on each line: `senders = "/etc/sluicegate/blocked_senders"`. A file is read again when it changes. `#`
begins a comment.

| entry | covers |
| --- | --- |
| `anna@example.net` | this mailbox; case does not matter |
| `@example.net`, `example.net` | everybody at this domain |
| `@.example.net`, `.example.net` | everybody at its subdomains |
| `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32` | clients |

A reverse-path is what the client says it is. `allowed_senders` believes it from everybody, unless its
`clients` names the networks from which such mail really comes; a client that logged in is believed from
anywhere. A spammer who knows whom you allow is spared what they are spared.

## Where `backscatter` has its senders from

From whatever knows who sends mail: the addresses of mailboxes and aliases, without those that only receive,
like those on web pages. A job that writes the file is enough, here from Postfix's virtual aliases:

    postmap -s hash:/etc/postfix/virtual | cut -f1 >/etc/sluicegate/senders.new
    mv /etc/sluicegate/senders.new /etc/sluicegate/senders

Addresses that only machines use, like those of a mailing list's software, belong there as well.

## What `header_sanity` was measured on

The SpamAssassin public corpus: 4150 good messages (2500 easy-ham-1, 1400 easy-ham-2, 250 hard-ham-1) and
1896 spam (500 spam-1, 1396 spam-2). A rule that good mail breaks only marks, and so do some that bounces,
and devices without a clock, are known to break. The corpus went through mail systems that add missing
fields, so that it says nothing of the `missing-` rules.
"""

# Rule, what it does, and how many good messages and spam break it.
HEADER_RULES = (
    ("`bad-date`: a Date that is none", "refuses", "0", "2"),
    ("`encoded-address`: an encoded-word in the address of From", "refuses", "0", "4"),
    ("`missing-date`, `missing-from`", "refuse", "0", "0"),
    ("`no-address`: no address in From, unless it is a bounce", "refuses", "0", "1"),
    ("`nul-character`", "refuses", "0", "0"),
    (
        "`repeated-field`: two of From, Sender, Reply-To, To, Cc, Message-ID, Subject, Date, Content-Type "
        "or Content-Transfer-Encoding",
        *("refuses", "0", "14"),
    ),
    ("`broken-header`: it ends with neither a field nor an empty line", "marks", "0", "0"),
    ("`control-character`, other than NUL, tab and line end", "marks", "1", "2"),
    ("`date-in-future`, by more than two days", "marks", "1", "11"),
    ("`date-in-past`, by more than a year", "marks", "0", "76"),
    ("`long-line`, of more than 998 octets", "marks", "0", "1"),
    ("`missing-message-id`", "marks", "0", "1"),
    ("`repeated-mime-version`", "marks", "0", "5"),
)
