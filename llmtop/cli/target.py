"""From arguments to what a session is started with."""

from __future__ import annotations

import argparse
import socket
import sys
from urllib.parse import urlsplit

from msgspec.structs import replace

from llmtop.cli import cost
from llmtop.cli.output import named
from llmtop.cli.slo import asked_slo, own_slo
from llmtop.domain.crew import CrewSpec
from llmtop.domain.endpoint import PROXY_FROM_ENVIRONMENT, PROXY_NONE, Dialect, Endpoint, safe_url
from llmtop.domain.load import Hold, LoadPoint, Spike, Steps
from llmtop.domain.plain import plain
from llmtop.domain.profile import Profile, Workload, rows_problem, trace_problem
from llmtop.domain.slo import NOT_OF_EMBEDDINGS, Slo, usual_slo, without_meaning
from llmtop.errors import UsageError
from llmtop.files import check_new
from llmtop.session.options import Serving, SessionOptions

NOWHERE = "http://127.0.0.1"
"""What options of an endpoint are checked with where the simulated engine is driven."""
FROM_ENVIRONMENT = "env:"
"""Before the name of a variable that holds a value."""
WORDS = {"url": "URL", "profile": "PROFILE"}
"""Arguments that are no options."""
LM_STUDIO_PORT = 1234
"""A server that speaks the common protocol alone, so that no table names its port."""


def asked_url(arguments: argparse.Namespace) -> str | None:
    """The URL on the command line; None: there is none, or the simulated engine is asked for."""
    if arguments.sim is not None and arguments.url is not None:
        raise UsageError("--sim and a URL: give one of them")
    if arguments.sim is not None and "://" in arguments.sim:
        raise UsageError(
            f"--sim {plain(safe_url(arguments.sim))}: that is a URL; leave out --sim to drive it, or name a preset"
        )
    return None if arguments.url is None else str(arguments.url)


def session_options(
    arguments: argparse.Namespace, profile: Profile, url: str | None, *, patient: bool
) -> SessionOptions:
    """What to drive with what. `url` None: the simulated engine.

    Raises UsageError when knobs are set on a real server or metrics named for the simulated one, when an option is
    no text, and when the target is beyond this machine and the user does not confirm it; FileError where the run file
    cannot be made.
    """
    _check_text(arguments)
    endpoint = endpoint_of(arguments, url or NOWHERE)
    serving = serving_of(arguments, url)
    if url is None and arguments.metrics_url:
        raise UsageError("--metrics-url is of a real server: the simulated engine tells its own metrics")
    if url is not None:
        if arguments.set and serving is None:
            raise UsageError("--set turns knobs of the simulated engine; a real server has none that turn from here")
        confirm(endpoint, arguments.yes)
    preset = next(name for name in (arguments.sim, profile.preset, "laptop") if name is not None)
    knobs = knobs_of(arguments.set if serving is None else [])
    if profile.preset in (None, preset):  # else they were turned on another one
        knobs = {**{name: int(value) if value.is_integer() else value for name, value in profile.knobs}, **knobs}
    if url is None and (arguments.set or arguments.sim is not None or profile.preset is not None):
        check_simulated(preset, knobs)
    record = None if arguments.record is None else str(check_new(named("--record", arguments.record)))
    return SessionOptions(
        endpoint=None if url is None else endpoint,
        preset=preset,
        knobs=knobs,
        knobs_url=knobs_url_of(arguments),
        serving=serving,
        profile=profile,
        run_file=record,
        label=arguments.label,
        workers=affordable(arguments.workers, None if url is None else endpoint),
        seed=arguments.seed,
        skip_checks=_unchecked(arguments, url, profile.workload),
        patient=patient,
    )


def serving_of(arguments: argparse.Namespace, url: str | None) -> Serving | None:
    """The command behind the endpoint, with settings for its first start; None: there is none. Raises UsageError."""
    serve, apply = getattr(arguments, "serve", None), getattr(arguments, "apply", None)
    if serve is None and apply is None:
        return None
    if serve is not None and apply is not None:
        raise UsageError("--serve starts the server, --apply changes one that runs: give one of them")
    if url is None:
        raise UsageError(f"--{'serve' if apply is None else 'apply'} needs the URL at which the server answers")
    from llmtop.domain.server_command import ServerCommand, settings_in

    command = ServerCommand(apply or "", "apply") if serve is None else ServerCommand(serve)
    settings = settings_in(tuple(arguments.set))
    if command.kind == "serve" or settings:
        command.filled(settings)
    return Serving(command=command, settings=settings, ready_within_s=arguments.ready_within)


def knobs_url_of(arguments: argparse.Namespace) -> str | None:
    """Where llmtop's scheduler shows the knobs of a server; None: as usual. Raises UsageError for what is no URL."""
    given: str | None = arguments.knobs_url
    if given is None:
        return None
    if arguments.url is None and getattr(arguments, "sim", None) is not None:
        raise UsageError("--knobs-url is of a real server: the simulated engine turns its knobs itself")
    from llmtop.endpoint.access import Access

    if not given.startswith(("http://", "https://")):
        raise UsageError(f"--knobs-url {plain(safe_url(given), 60)}: write it like http://127.0.0.1:9475")
    Access(Endpoint(base_url=given.rstrip("/")))
    return given


def _unchecked(arguments: argparse.Namespace, url: str | None, workload: Workload) -> bool:
    """Whether the load begins without a look at the endpoint. Raises UsageError where that cannot be."""
    if arguments.skip_checks and url is None:
        raise UsageError("--skip-checks: the simulated engine is not checked; give it with a URL")
    if arguments.model is not None and workload.models:
        names = ", ".join(plain(model.name, 40) for model in workload.models[:5])
        raise UsageError(f"--model {plain(arguments.model, 60)}: the load is shared by {names}; leave out one of them")
    if arguments.skip_checks and arguments.model is None and not workload.models:
        raise UsageError("--skip-checks asks the endpoint nothing, not even what models it has: name one with --model")
    return bool(arguments.skip_checks)


def endpoint_of(arguments: argparse.Namespace, url: str) -> Endpoint:
    """The endpoint that the arguments name, with its names of this machine looked up."""
    from llmtop.endpoint.addresses import pinned
    from llmtop.endpoint.proxies import check_option
    from llmtop.endpoint.secret import key_in
    from llmtop.endpoint.urls import endpoint_from_url

    known = [dialect.value for dialect in Dialect]
    if arguments.dialect is not None and arguments.dialect not in known:
        raise UsageError(f"--dialect {plain(arguments.dialect)}: use one of {', '.join(known)}")
    key_in(arguments.api_key_env)
    check_option(arguments.proxy)
    headers, headers_env = _headers(arguments.header)
    endpoint = endpoint_from_url(
        url,
        model=arguments.model,
        dialect=Dialect(arguments.dialect) if arguments.dialect else None,
        api_key_env=arguments.api_key_env,
        api_key_header=arguments.api_key_header,
        basic_auth_env=_basic_auth(arguments.basic_auth),
        headers=headers,
        headers_env=headers_env,
        proxy=arguments.proxy,
        ca_file=arguments.ca_file,
        client_cert=arguments.client_cert,
        client_key=arguments.client_key,
        insecure=arguments.insecure,
        metrics_urls=tuple(arguments.metrics_url),
        transport=arguments.transport,
    )
    return pinned(endpoint)


Pairs = tuple[tuple[str, str], ...]


def _headers(given: list[str]) -> tuple[Pairs, Pairs]:
    """Headers with their values, and those whose values variables hold. No name has `:` or `=`: what is first tells.

    Raises UsageError, which shows no value.
    """
    from llmtop.endpoint.secret import HEADER_NAME

    literal: list[tuple[str, str]] = []
    from_environment: list[tuple[str, str]] = []
    for header in given:
        sign = next((letter for letter in header if letter in ":="), "")
        name, _, value = header.partition(sign) if sign else ("", "", "")
        name, value = name.strip(), value.strip()
        is_name = HEADER_NAME.fullmatch(name) is not None
        shown = f" {plain(name, 60)!r}" if sign == ":" or is_name else ""  # without a sign, it may be the value
        variable = value.removeprefix(FROM_ENVIRONMENT)
        if not is_name or not value.isprintable() or (sign == "=" and (variable == value or not variable)):
            raise UsageError(f"--header{shown}: write it as NAME:VALUE, in one line of text, or as NAME=env:VAR")
        if not value:
            raise UsageError(f"--header{shown}: has no value; put both into one pair of quotes: 'NAME: VALUE'")
        if sign == ":" and variable != value:
            raise UsageError(f"--header{shown}: write NAME=env:VAR for a value that a variable holds")
        (literal if sign == ":" else from_environment).append((name, variable))
    return tuple(literal), tuple(from_environment)


def _basic_auth(given: str | None) -> str | None:
    """The variable that `env:VAR` names. Raises UsageError, which does not show what may be the password."""
    if given is None:
        return None
    variable = given.removeprefix(FROM_ENVIRONMENT)
    if variable == given or not variable:
        raise UsageError("--basic-auth: write it as env:VAR; the environment variable VAR holds user:password")
    return variable


def knobs_of(settings: list[str]) -> dict[str, bool | int | float | str]:
    """`KNOB=VALUE` settings as a mapping; which knobs there are, and what they take, the engine says."""
    knobs: dict[str, bool | int | float | str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {setting!r}: write it as KNOB=VALUE, e.g. max_num_seqs=64")
        knobs[name.strip()] = value.strip()
    return knobs


def check_simulated(preset: str, knobs: dict[str, bool | int | float | str]) -> None:
    """Raises ProfileError or UsageError, as the simulated engine would once it starts."""
    from llmtop.simulator.engine import load_preset

    loaded = load_preset(preset)
    if knobs:
        from llmtop.simulator.server.serving import with_settings

        with_settings(loaded, knobs)


def with_arguments(profile: Profile, arguments: argparse.Namespace) -> Profile:
    """The profile with what the command line says on top."""
    base = profile.plan.base
    if arguments.concurrency is not None and arguments.rate is not None:
        raise UsageError("--concurrency holds requests in flight, --rate sends at a rate: give one of them")
    if arguments.concurrency is not None:
        base = base.at("concurrency", arguments.concurrency)
    if arguments.rate is not None:
        base = base.at("rate", arguments.rate)
    lengths = {
        "prompt_tokens": arguments.prompt_tokens,
        "output_tokens": arguments.output_tokens,
        "think_time_s": arguments.think_time,
        "shared_prefix": arguments.shared_prefix,
        "gate": arguments.gate,
    }
    base = replace(base, **{name: value for name, value in lengths.items() if value is not None})
    caps = profile.caps
    if arguments.max_concurrency is not None:
        caps = replace(caps, max_concurrency=arguments.max_concurrency)
    if not profile.plan.stages and base.concurrency is not None and base.concurrency > caps.max_concurrency:
        if arguments.concurrency is not None:
            most = f"at most {caps.max_concurrency} may be in flight; raise it with --max-concurrency"
            raise UsageError(f"--concurrency {arguments.concurrency}: {most}")
        base = base.at("concurrency", caps.max_concurrency)
    start = profile.start if arguments.start is None else arguments.start
    canary = profile.canary if arguments.canary is None else arguments.canary
    if arguments.start == "together":
        _check_together(profile, base)
    url = None if arguments.sim is not None else arguments.url or profile.endpoint_url
    workload = _with_rows(_with_users(profile.workload, getattr(arguments, "users", None)), arguments)
    workload = _with_trace(workload, arguments, bool(profile.plan.stages))
    workload = _workload(workload, arguments, _api_of(url))
    plan, slo = replace(profile.plan, base=base), _slo(profile, workload.api, arguments)
    priced = cost.stated(arguments).over(profile.cost)
    return replace(profile, workload=workload, plan=plan, caps=caps, slo=slo, start=start, canary=canary, cost=priced)


def _slo(profile: Profile, api: str, arguments: argparse.Namespace) -> Slo:
    """The SLO of a run of this API. Raises UsageError where it limits what that does not have."""
    given, own = asked_slo(arguments), own_slo(arguments)
    if given is None and profile.slo is own:
        return usual_slo(api, own)
    if given is None and profile.slo == usual_slo(profile.workload.api):
        return usual_slo(api)
    slo = given or profile.slo
    if (wrong := without_meaning(slo, api)) is not None:
        if given is None:
            whose = f"profile {plain(profile.name, 40)} limits {wrong.name}"
            raise UsageError(f'{whose}: {NOT_OF_EMBEDDINGS}; give --slo "e2e_p95<1s,error_ratio<1%"')
        raise UsageError(f"--slo: {wrong.name}: {NOT_OF_EMBEDDINGS}")
    if slo.named:
        from llmtop.profiles.asking import unanswerable

        if (refusal := unanswerable(replace(profile, slo=slo))) is not None and refusal[0] == "slo":
            raise UsageError(f"--slo: {refusal[1]}")
    return slo


def _api_of(url: str | None) -> str | None:
    """The one that a full URL stands for; None: a URL of all, or what cannot be read, of which others tell."""
    if url is None or "/" not in url:
        return None
    from llmtop.endpoint.urls import read_url

    try:
        return read_url(url)[1].only
    except UsageError:
        return None


def _with_users(workload: Workload, file: str | None) -> Workload:
    """The workload with these users. Raises FileError where its users cannot be, as far as can be seen from here."""
    if file is not None:
        from llmtop.workload.examples import users_file

        workload = replace(workload, source="python", file=users_file(file))
    if workload.source != "python" or workload.file is None:
        return workload
    from llmtop.workload.userfile import check

    return replace(workload, file=str(check(workload.file)))


def _with_rows(workload: Workload, arguments: argparse.Namespace) -> Workload:
    """The workload with what is said of its file's rows. Raises UsageError."""
    named: str | None = getattr(arguments, "columns", None)
    once: bool = getattr(arguments, "once", False)
    if named is None and not once:
        return workload
    columns = dict(workload.columns)
    for part in [] if named is None else named.split(","):
        role, equals, name = part.partition("=")
        if not (equals and role.strip() and name.strip()):
            raise UsageError(f"--columns {plain(part, 40)!r}: names fields of the file, as prompt=q,output_tokens=n")
        columns[role.strip()] = name.strip()
    workload = replace(workload, columns=tuple(columns.items()), repeat=workload.repeat and not once)
    if (odd := rows_problem(workload)) is not None:
        raise UsageError(f"{'--columns' if odd[0].startswith('columns') else '--once'}: {odd[0]}: {odd[1]}")
    return workload


def _workload(workload: Workload, arguments: argparse.Namespace, only: str | None) -> Workload:
    """The workload with what its requests carry by the command line, and the API that the URL stands for."""
    if only is not None:
        if arguments.api not in (None, only):
            raise UsageError(f"--api {arguments.api}: the URL is that of {only}; leave out one of them")
        workload = replace(workload, api=only)
    names = ("api", "body", "stop", "models", "affinity", "user_header", "cancel")
    options = {name: getattr(arguments, name) for name in names}
    if all(value is None for value in options.values()):
        return workload
    from llmtop.profiles.carried import carried_with

    return carried_with(workload, options)


def _with_trace(workload: Workload, arguments: argparse.Namespace, staged: bool) -> Workload:
    """The workload with what is said of how fast its trace goes, and what of it. Raises UsageError."""
    speed: float | None = getattr(arguments, "trace_speed", None)
    window: str | None = getattr(arguments, "trace_window", None)
    if speed is not None:
        workload = replace(workload, speed=speed)
    if window is not None:
        workload = replace(workload, window_s=_window_s(window))
    odd = None if speed is None and window is None else trace_problem(workload, staged)
    if odd is not None:
        raise UsageError(f"--trace-{odd[0]}: {odd[1]}")
    return workload


def _window_s(text: str) -> tuple[float, float]:
    """`10min,20min`. Raises UsageError."""
    from llmtop.profiles.quantity import Seconds

    try:
        parts = [float(part) if part.strip().isdigit() else part for part in text.split(",")]
        begin_s, end_s = map(Seconds.read, parts)
    except ValueError:
        said = "is no window: write where in the trace it begins and ends, as 10min,20min"
        raise UsageError(f"--trace-window {plain(text, 40)!r} {said}") from None
    return float(begin_s), float(end_s)


def _check_together(profile: Profile, base: LoadPoint) -> None:
    """Raises UsageError where users cannot begin together."""
    if base.rate_rps is not None:
        raise UsageError("--start together: in open loop requests are sent at a rate, nobody begins together")
    moving = [stage.name for stage in profile.plan.stages if not isinstance(stage.shape, Hold | Steps | Spike)]
    if moving:
        raise UsageError(f"--start together: the load of stage {plain(moving[0], 40)} moves; it must be held")


def _check_text(arguments: argparse.Namespace) -> None:
    """Raises UsageError for words that are not UTF-8: they could not be told to another process."""
    for name, value in vars(arguments).items():
        for word in value if isinstance(value, list) else [value]:
            try:
                str(word).encode()
            except UnicodeEncodeError:
                option = WORDS.get(name, f"--{name.replace('_', '-')}")
                raise UsageError(f"{option} {plain(str(word), 60)}: is not UTF-8 text") from None


def affordable(workers: CrewSpec, endpoint: Endpoint | None) -> CrewSpec:
    """The load workers, where this machine can carry or reach them, and they the endpoint. Raises UsageError."""
    if not workers.is_here:
        from llmtop.cluster import check_reaches, check_way

        check_way(workers)
        check_reaches(workers, endpoint)
    elif workers.count > 1:
        from llmtop.load.pool import check_workers

        check_workers(workers.count)
    return workers


def by_hand(start: int, slo: Slo | None = None) -> Profile:
    """What is driven when nobody names a profile: no stages, the base load. `slo`: the user's default."""
    from llmtop.domain.load import LoadPlan

    plan = LoadPlan(stages=(), base=LoadPoint(concurrency=start))
    return Profile(name="by hand", plan=plan, slo=usual_slo("chat", slo))


def confirm(endpoint: Endpoint, yes: bool) -> None:
    """Ask before loading an address beyond this machine. Raises UsageError if the answer is not yes.

    A name is this machine's only if all its addresses are, and those are connected to. What a proxy is asked for is
    where that proxy is.
    """
    host = urlsplit(endpoint.base_url).hostname or ""
    if endpoint.proxy not in (PROXY_FROM_ENVIRONMENT, PROXY_NONE) and endpoint.is_here:
        host = f"{host}, asked of the proxy {safe_url(endpoint.proxy)},"
    elif endpoint.is_here:
        return
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{host} is not this machine: say --yes if you may load it")
    if not confirmed(f"{host} is not this machine. llmtop will send it real load. Go on? [y/N] "):
        raise UsageError("nothing was sent")


def checked_sinks(arguments: argparse.Namespace) -> tuple[str, ...]:
    """What `--out` says, where figures can flow there. Raises UsageError, FileError: they cannot."""
    if not arguments.out:
        return ()
    from llmtop.sinks import check

    written = {"--record": arguments.record, "--junit": getattr(arguments, "junit", None)}
    taken = {option: named(option, path) for option, path in written.items() if path is not None}
    check(arguments.out, yes=arguments.yes, ask=confirmed if sys.stdin.isatty() else None, taken=taken)
    return tuple(arguments.out)


def ask_for_local_server() -> str | None:
    """The URL of a server on a usual loopback port, if there is one and the user wants it driven; else None.

    No server is ever loaded unasked: without a terminal to ask on, the answer is no.
    """
    if not sys.stdin.isatty():
        return None
    from llmtop.dialects.recognition import usual_ports

    for port in (*usual_ports(), LM_STUDIO_PORT):
        if _listens(port):
            wanted = confirmed(f"Something listens on 127.0.0.1:{port}. Drive it? [y/N: the simulated engine] ")
            return f"http://127.0.0.1:{port}" if wanted else None
    return None


def confirmed(question: str) -> bool:
    """Whether the user says yes; the answer is that of Enter otherwise."""
    print(plain(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.05)
        return probe.connect_ex(("127.0.0.1", port)) == 0
