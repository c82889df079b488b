"""What is known of the server that is driven, as it was at first and as it is now."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.plain import LONG, plain
from llmtop.domain.profile import Profile
from llmtop.domain.run import Chapter, Ending, RunMeta, safe_meta
from llmtop.endpoint.client import EndpointClient
from llmtop.session.away import turned
from llmtop.session.journal import Journal
from llmtop.session.recorder import Recorder
from llmtop.session.status import info_changes
from llmtop.session.targets import Target


class Known:
    """The run's meta, and which configuration of the server is measured now."""

    def __init__(self, endpoint: Endpoint, meta: RunMeta, recorder: Recorder, journal: Journal) -> None:
        self.endpoint = endpoint
        self.meta = safe_meta(meta)
        self.starts = 1
        self.turned: dict[str, float | str] = {}
        """Knobs that were turned, to what they stand at."""
        self._stood: dict[str, float] = {}
        """Where the knobs stood at the last chapter."""
        self._set: dict[str, str] = {}
        """By the server's command."""
        self._recorder, self._journal = recorder, journal

    def reached_at(self, endpoint: Endpoint, target: Target) -> None:
        """What is driven runs now, and is reached there."""
        self.endpoint = endpoint
        self._set = {} if target.status is None else dict(target.status.settings)
        self.meta = safe_meta(replace(self.meta, endpoint=endpoint))

    def planned(self, profile: Profile) -> None:
        self.meta = safe_meta(replace(self.meta, profile=profile))

    def ended(self, ended_s: float, ending: Ending | None) -> None:
        self.meta = replace(self.meta, ended_s=ended_s, ending=ending)

    def learn(self, client: EndpointClient, info: EndpointInfo) -> None:
        """What is known of the endpoint from now on."""
        info = client.access.shown(info)
        endpoint = replace(self.endpoint, model=info.model, dialect=info.dialect)
        self.meta = safe_meta(replace(self.meta, endpoint=endpoint, info=info, stamp_source=client.stamp_source))
        self._recorder.update_meta(self.meta)

    def changes(self, client: EndpointClient | None, info: EndpointInfo) -> tuple[str, ...]:
        """What a probe has found otherwise than what is known."""
        before = self.meta.info
        if before is None or client is None:
            return ()
        return info_changes(replace(before, flags=turned(before.flags, self._stood)), client.access.shown(info))

    def learn_of_start(self, client: EndpointClient | None, info: EndpointInfo) -> None:
        """Keep what the server was at first beside what it is now."""
        before = self.meta.info
        if self.meta.began is None and before is not None and self.changes(client, info):
            self.meta = safe_meta(replace(self.meta, began=replace(before, findings=(), models=())))
        if client is not None:
            self.learn(client, info)

    def settings_changed(self, target: Target, info: EndpointInfo) -> tuple[str, ...]:
        """What the command set otherwise than at the last start, and the server itself does not tell."""
        before, now = self._set, {} if target.status is None else dict(target.status.settings)
        silent = [name for name in now if now[name] != before.get(name) and name not in dict(info.traits)]
        self._set = now
        self.turned |= now
        return tuple(f"{name} {before.get(name) or '?'} → {now[name]}" for name in silent)

    def begin_chapter(self, target: Target, text: str, t_s: float | None = None) -> None:
        """What is measured from now on, or from `t_s` on, is another configuration's."""
        info, bank, status = self.meta.info, target.bank, target.status
        served = () if info is None else (info.dialect, info.model, info.server)
        knobs = (f"{name}={value:g}" for name, value in sorted(target.knobs.items()))
        settings = () if status is None else (f"{name}={value}" for name, value in status.settings)
        key = " ".join((f"start={self.starts}", *(str(each) for each in served if each), *knobs, *settings))
        self._stood = dict(target.knobs)
        turned_to = self.turned.items()
        self.turned = {name: to for name, to in turned_to if isinstance(to, str) or self._stood.get(name) == to}
        traits = () if info is None else turned(info.traits, self._stood, 1 if bank is None else bank.engines)
        t_s = self._journal.t_s if t_s is None else t_s
        self._journal.chapters.append(Chapter(t_s, plain(text, LONG), key, traits))

    def heed(self, dialect: Dialect, clients: Sequence[EndpointClient]) -> None:
        """The metrics are another dialect's than the endpoint was taken for: they count where nothing was known.

        Args:
            clients: of the load first; (): there is none yet.
        """
        info, tell = self.meta.info, self._journal.tell
        if info is None or not clients or dialect is info.dialect:
            return
        title = DIALECTS[dialect].title
        if self.endpoint.dialect is None and info.dialect is Dialect.OPENAI:
            for each in clients:
                each.use(dialect, each.bodies.model, each.bodies.shape)
            self.learn(clients[0], replace(info, dialect=dialect, has_metrics=True))
            tell("endpoint", f"its metrics are those of {title}: taken for {title} from now on")
        else:
            taken = DIALECTS[info.dialect].title
            tell("endpoint", f"its metrics are those of {title}, though it is taken for {taken}", "warning")
