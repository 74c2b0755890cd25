"""The sandboxes that attacks meet: every tier that confines, one after the other.

Whatever opens a sandbox in a test's process gets one of the tier that the test is about: graders and environments too.
"""

from collections.abc import Iterator

import pytest

from turnwise.sandbox import Sandbox, Tier, source
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import missing, open_sandbox, open_tier

CONFINING = [tier for tier in Tier if tier is not Tier.PROCESS]
HAS = {Tier.GVISOR: "containers", Tier.DOCKER: "containers", Tier.PODMAN: "podman"}
"""The fixtures that tiers need."""


@pytest.fixture(params=CONFINING, ids=lambda tier: tier.value)
def tier(request: pytest.FixtureRequest) -> Iterator[Tier]:
    if request.param in HAS:
        request.getfixturevalue(HAS[request.param])
    if why := missing(request.param):
        pytest.skip(f"{request.param.value}: {why}")

    async def open_one(policy: SandboxPolicy | None, field: str) -> Sandbox:
        policy = policy or SandboxPolicy()
        policy.check(field)
        return await open_tier(request.param, policy, field)

    source.use(open_one)
    yield request.param
    source.use(open_sandbox)
