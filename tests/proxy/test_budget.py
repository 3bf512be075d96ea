"""What a client that talks nonsense gets, and when it is hung up on."""

from gateway.proxy.budget import MAX_ERRORS, MAX_IDLE_COMMANDS, TOO_MANY_COMMANDS, TOO_MANY_ERRORS, Budget


def test_the_first_errors_cost_nothing_then_each_costs_more_up_to_a_bound():
    budget = Budget()
    delays = []
    for _ in range(MAX_ERRORS):
        budget.note_error()
        delays.append(budget.take_delay())
    assert delays[:5] == [0.0] * 5
    assert delays[5:9] == [0.1, 0.2, 0.4, 0.8]
    assert set(delays[9:]) == {1.0}


def test_a_delay_is_owed_once():
    budget = Budget()
    for _ in range(6):
        budget.note_error()
    assert budget.take_delay() > 0
    assert budget.take_delay() == 0.0


def test_errors_end_it():
    budget = Budget()
    for _ in range(MAX_ERRORS - 1):
        budget.note_error()
    assert budget.exhausted is None
    budget.note_error()
    assert budget.exhausted is TOO_MANY_ERRORS


def test_commands_that_bring_no_mail_end_it():
    budget = Budget()
    for _ in range(MAX_IDLE_COMMANDS):
        budget.note_command("MAIL")
    assert budget.exhausted is None
    for _ in range(MAX_IDLE_COMMANDS):
        budget.note_command("NOOP")
    assert budget.exhausted is TOO_MANY_COMMANDS


def test_delivered_mail_is_a_fresh_start():
    budget = Budget()
    for _ in range(MAX_ERRORS):
        budget.note_error()
        budget.note_command("RSET")
    budget.note_mail()
    assert budget.exhausted is None
    assert budget.take_delay() == 0.0
