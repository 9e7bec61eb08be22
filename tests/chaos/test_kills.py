"""What the thirteen kills wait for is there to be waited for: quick, unlike the kills themselves."""

import pytest

from deploy.commands import shown
from deploy.steps import STEPS
from tests.chaos.kills import SLOW_COMMANDS
from tests.deploy.contexts import make_context


@pytest.mark.parametrize("step", SLOW_COMMANDS)
def test_the_command_that_holds_an_install_in_its_step_is_one_of_that_step(step: str) -> None:
    generator = STEPS[step].commands
    assert generator
    commands = [shown(command) for command in generator(make_context(of="rhel-8", licensed=True))]
    assert any(SLOW_COMMANDS[step] in line for line in commands), "\n".join(commands)
