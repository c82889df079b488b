"""What a session is started with: one value that also crosses to the session's process."""

from __future__ import annotations

from msgspec import Struct, field

from llmtop.domain.crew import CrewSpec
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.profile import Profile
from llmtop.domain.server_command import ServerCommand


class Serving(Struct, frozen=True, kw_only=True):
    """The command behind the endpoint."""

    command: ServerCommand
    settings: dict[str, str] = field(default_factory=dict)
    """For the first start; of an applied command, all or none: then nothing is applied at the start."""
    ready_within_s: float = 900.0


class SessionOptions(Struct, frozen=True, kw_only=True):
    endpoint: Endpoint | None = None
    """None: the simulated engine is started and driven."""
    preset: str = "laptop"
    """Of the simulated engine: a shipped name or the path of a preset file."""
    knobs: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Of the simulated engine, instead of the preset's."""
    settings: tuple[tuple[str, str], ...] = ()
    """What was set of a real server before, for the run's meta: (name, value)."""
    knobs_url: str | None = None
    """Where llmtop's scheduler shows the knobs of a server's first engine; None: where it usually does."""
    serving: Serving | None = None
    """None: the endpoint was started by somebody else, or is the simulated engine."""
    profile: Profile
    run_file: str | None = None
    """None: a new file among the user's runs."""
    kept: bool = True
    """Otherwise the run file is thrown away at the end: it is there for what is looked at meanwhile."""
    label: str | None = None
    baselines: tuple[str, ...] = ()
    """Names of earlier measurements that the run is shown beside."""
    workers: CrewSpec = CrewSpec()
    seed: int = 0
    skip_checks: bool = False
    """Take what `endpoint` says for what there is: nothing is probed before the load."""
    patient: bool = True
    """Keep trying an endpoint that cannot be reached at the start. Otherwise `Session.start` raises."""
