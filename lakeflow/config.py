"""lakeflow.toml and the environment, read once into one frozen `Settings`.

The keys stand in keys.py, the filling in of the environment and secrets in fill.py; here both meet a file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakeflow.errors import ConfigError, UnknownName
from lakeflow.fill import Environment, Filled, Options, fill, fill_text, has_password
from lakeflow.keys import SECTIONS, Kind, Section, Value, checked, key, keys_of, section

__all__ = [
    "CONFIG_FILE",
    "Environment",
    "IndexSettings",
    "MaintainSettings",
    "ModelSettings",
    "Options",
    "ProjectSettings",
    "RunSettings",
    "ServeSettings",
    "Settings",
    "StartSettings",
    "fill",
    "find_project",
    "load_settings",
    "redact",
    "settings_of",
]

CONFIG_FILE = "lakeflow.toml"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """[project]. `demo` is the script that `lakeflow demo` runs, seen from the project."""

    name: str
    demo: str | None


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """[index]. `uri` is an absolute path or an object-store URI; `storage` is handed to LanceDB."""

    uri: str
    storage: Options


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """[models]. `cache` is an absolute path, or a URI that may hold a secret; `cache_days` of 0 is for ever; limits of None
    are none. `prices` hold `NAME.input` and `NAME.output`, of a million tokens."""

    cache: str = field(repr=False)
    cache_days: float
    cache_bytes: int
    cache_journal: str
    max_calls: int | None
    max_tokens: int | None
    max_cost: float | None
    prices: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """[run]. Caps of one incremental batch, cuts of a landing, and what bounds memory; bytes and seconds as named.

    `threads` of 0 is one a processor.
    """

    threads: int
    max_rows: int
    max_files: int
    max_bytes: int
    commit_rows: int
    commit_bytes: int
    commit_seconds: float
    buffer_bytes: int
    memory_bytes: int
    target_file_bytes: int
    max_snapshots: int
    poll_seconds: float
    connect_seconds: float
    follow_seconds: float


@dataclass(frozen=True, slots=True)
class StartSettings:
    """[start]. `listen` is host:port or off, `most_ahead` rows (0: no bound), `stop_seconds` those after a signal."""

    jobs: int
    listen: str
    attempts: int
    most_ahead: int
    stop_seconds: float


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """[serve]. `listen` is host:port; the others bound what a caller may ask for."""

    listen: str
    token: str | None = field(repr=False)
    max_body_bytes: int
    max_k: int
    max_queries: int
    max_requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MaintainSettings:
    """[maintain]. Ages in hours, the interval in seconds, sizes in bytes; `interval_seconds` of 0 is never beside a landing."""

    interval_seconds: float
    compact_below_bytes: int
    compact_files: int
    manifests: int
    keep_snapshots: int
    snapshot_hours: float
    orphan_hours: float


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a run is told from outside. `str` and `repr` show no secret.

    `catalog`, `kafka`, `registry` and `index.storage` hold texts for the libraries; local paths in `catalog` and
    `index` are absolute. `environment` fills in the WITH options of declarations with `fill`.
    """

    root: Path
    target: str | None
    project: ProjectSettings
    catalog: Options
    kafka: Options
    registry: Options
    index: IndexSettings
    models: ModelSettings
    run: RunSettings
    start: StartSettings
    maintain: MaintainSettings
    serve: ServeSettings
    environment: Environment
    origins: Mapping[str, str] = field(repr=False)

    def origin_of(self, key: str) -> str:
        """Where the value of "section.key" came from: "default", "lakeflow.toml" or "target NAME", and of what it was filled.

        Raises UnknownName for a key that has no value.
        """
        if key not in self.origins:
            raise UnknownName("setting", key, self.origins)
        return self.origins[key]

    def spool(self) -> Path:
        """The folder for rows that wait on disk, made where it is missing."""
        folder = self.root / ".lakeflow" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def kafka_options(self) -> Options:
        """What librdkafka is handed. Raises ConfigError where no brokers are named."""
        if not self.kafka.get("bootstrap.servers"):
            raise ConfigError(
                f"{self.root / CONFIG_FILE}: [kafka] names no brokers: bootstrap.servers is missing",
                next_step='set bootstrap.servers = "host:9092" under [kafka] in lakeflow.toml, or choose a --target that does',
            )
        return self.kafka


def redact(text: str, settings: Settings) -> str:
    """`text` without any secret that `settings` knows: for every text on its way to a log, a message or a table."""
    return settings.environment.redact(text)


def find_project(start: Path) -> Path:
    """The nearest folder from `start` upward that holds lakeflow.toml. Raises ConfigError where none does."""
    here = start.resolve()
    for folder in (here, *here.parents):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise ConfigError(
        f"no {CONFIG_FILE} in {str(here)!r} or any folder above it",
        next_step="lakeflow init DIR for a new project, or --project DIR for one elsewhere",
    )


def load_settings(project: Path, target: str | None, environ: Mapping[str, str]) -> Settings:
    """The settings of the project in the folder `project`, under `[target.NAME]` where `target` names one.

    Raises ConfigError, naming file, key and what is valid, and UnknownName for the target.
    """
    root = project.resolve()
    file = root / CONFIG_FILE
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{file} is missing", next_step=f"lakeflow init {project}") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", next_step=f"make {file} readable") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: byte {error.start}", next_step=f"save {file} as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}", next_step=f"correct {file}, see https://toml.io") from error
    return settings_of(document, root, target, environ)


def settings_of(document: Mapping[str, Any], root: Path, target: str | None, environ: Mapping[str, str]) -> Settings:
    """The settings that a parsed lakeflow.toml means; of an empty one, the defaults. Raises as `load_settings` does.

    Every target is checked, so that a slip in one is found before the day it is chosen.
    """
    file = root / CONFIG_FILE
    targets = document.get("target", {})
    if not isinstance(targets, dict) or not all(isinstance(body, dict) for body in targets.values()):
        raise ConfigError(f"{file}: a target is written as sections [target.NAME.SECTION]")
    base = _written({name: body for name, body in document.items() if name != "target"}, f"{file}", CONFIG_FILE)
    overlays = {name: _written(body, f"{file}, target {name!r}", f"target {name}") for name, body in targets.items()}
    if target is not None and target not in overlays:
        raise UnknownName("target", target, overlays, next_step=f"add [target.{target}.catalog] to {file}")
    written = _overlaid(base, overlays[target]) if target is not None else base
    return _resolved(written, root, target, Environment(environ))


@dataclass(frozen=True, slots=True)
class _Written:
    """A value as it stands in the file; `where` is for messages, `layer` for origins."""

    value: str | int | float | bool
    where: str
    layer: str

    def origin(self, sources: tuple[str, ...]) -> str:
        return ", ".join([self.layer, *dict.fromkeys(sources)])


_Sections = dict[str, dict[str, _Written]]


def _written(body: Mapping[str, Any], where: str, layer: str) -> _Sections:
    """The values by section and key, checked as far as they can be before the environment is filled in."""
    sections: _Sections = {}
    for name, keys in body.items():
        if not isinstance(keys, dict):
            raise ConfigError(
                f"{where}: {name!r} stands outside of any [section]; valid: {', '.join(one.name for one in SECTIONS)}"
            )
        _collect(section(name, where), keys, where, layer, sections)
    return sections


def _collect(place: Section, keys: Mapping[str, Any], where: str, layer: str, sections: _Sections) -> None:
    nested = {one.name for one in SECTIONS if one.name.startswith(f"{place.name}.")}
    found = sections.setdefault(place.name, {})
    for name, value in keys.items():
        inner = f"{place.name}.{name}"
        if inner in nested and isinstance(value, dict):
            _collect(section(inner, where), value, where, layer, sections)
        elif place.open:
            _flatten(place.name, name, value, found, where, layer)
        else:
            known = key(place.name, name, where)
            if not (isinstance(value, str) and "${" in value):
                checked(known, value, where)
            found[name] = _Written(value, where, layer)


def _flatten(place: str, name: str, value: Any, found: dict[str, _Written], where: str, layer: str) -> None:
    """Dots in a bare TOML key make tables; the libraries' keys have dots in them."""
    if isinstance(value, dict):
        for inner, one in value.items():
            _flatten(place, f"{name}.{inner}", one, found, where, layer)
    elif not isinstance(value, str | int | float | bool):
        raise ConfigError(f"{where}: {name} in [{place}] is {type(value).__name__}; valid: text, number, true, false")
    elif name in found:
        raise ConfigError(f"{where}: {name} in [{place}] is given twice, once with quotes and once without")
    else:
        found[name] = _Written(value, where, layer)


def _overlaid(base: _Sections, overlay: _Sections) -> _Sections:
    """Closed sections key by key, open ones whole: leftovers of one kind of catalog would break another."""
    merged = dict(base)
    for place, keys in overlay.items():
        whole = any(one.name == place and one.open for one in SECTIONS)
        merged[place] = keys if whole else merged.get(place, {}) | keys
    return merged


def _resolved(written: _Sections, root: Path, target: str | None, environment: Environment) -> Settings:
    origins: dict[str, str] = {}
    folder = _closed("secrets", written, root, environment, origins)["dir"]
    if folder is not None:
        environment = Environment(environment.variables, Path(str(folder)))
    closed: dict[str, dict[str, Any]] = {
        one.name: _closed(one.name, written, root, environment, origins) for one in SECTIONS if not one.open
    }
    opened = {one.name: _open(one.name, written, environment, origins) for one in SECTIONS if one.open}
    project = closed["project"] | {"name": closed["project"]["name"] or root.name}
    return Settings(
        root=root,
        target=target,
        project=ProjectSettings(**project),
        catalog=_catalog(opened["catalog"], root, origins),
        kafka=opened["kafka"],
        registry=opened["registry"],
        index=IndexSettings(**closed["index"], storage=opened["index.storage"]),
        models=ModelSettings(**closed["models"], prices=opened["models.prices"]),
        run=RunSettings(**closed["run"]),
        start=StartSettings(**closed["start"]),
        maintain=MaintainSettings(**closed["maintain"]),
        serve=ServeSettings(**closed["serve"]),
        environment=environment,
        origins=origins,
    )


def _closed(place: str, written: _Sections, root: Path, environment: Environment, origins: dict[str, str]) -> dict[str, Value]:
    """Every key of a closed section, its default where none was written."""
    values: dict[str, Value] = {}
    given = written.get(place, {})
    for known in keys_of(place):
        value, origins[f"{place}.{known.name}"] = known.default, DEFAULT
        if one := given.get(known.name):
            filled = _filled(one, f"{one.where}: {known.name} in [{place}]", environment)
            if known.secret:
                environment.remember(known.name, filled.text)
            elif filled.text != filled.shown or has_password(filled.text):
                raise ConfigError(
                    f"{one.where}: {known.name} in [{place}] takes no secret; secrets stand in open sections and in WITH (..)"
                )
            value = checked(known, filled.text if isinstance(one.value, str) else one.value, one.where, from_text=True)
            origins[f"{place}.{known.name}"] = one.origin(filled.sources)
        values[known.name] = _located(str(value), root) if known.kind is Kind.LOCATION and value is not None else value
    return values


def _open(place: str, written: _Sections, environment: Environment, origins: dict[str, str]) -> Options:
    """The texts of an open section, secrets remembered."""
    given = written.get(place, {})
    filled = {name: _filled(one, f"{one.where}: {name} in [{place}]", environment) for name, one in given.items()}
    for name, one in filled.items():
        environment.remember(name, one.text)
        origins[f"{place}.{name}"] = given[name].origin(one.sources)
    return Options({name: one.text for name, one in filled.items()}, {name: one.shown for name, one in filled.items()})


def _filled(one: _Written, where: str, environment: Environment) -> Filled:
    match one.value:
        case str():
            return fill_text(one.value, environment, where)
        case bool():
            return Filled("true" if one.value else "false", "true" if one.value else "false")
        case _:
            return Filled(str(one.value), str(one.value))


def _catalog(given: Options, root: Path, origins: dict[str, str]) -> Options:
    """[catalog] with its defaults, which only a catalog of type sql has beside the type, and local paths made absolute."""
    kind = given.get("type", "sql")
    uri = given.get("uri", "")
    if "type" not in given and uri.startswith(("http://", "https://")):
        raise ConfigError(
            f"{root / CONFIG_FILE}: [catalog] has the uri {given.shown['uri']!r} and no type, and the default type is 'sql'",
            next_step='set type = "rest" under [catalog]',
        )
    if kind in ("rest", "hive") and not uri:
        raise ConfigError(f"{root / CONFIG_FILE}: [catalog] of type {kind!r} has no uri", next_step="set uri under [catalog]")
    defaults = {one.name: str(one.default) for one in keys_of("catalog") if kind == "sql" or one.name == "type"}
    values, shown = defaults | dict(given), defaults | given.shown
    origins.update({f"catalog.{name}": DEFAULT for name in defaults if name not in given})
    for texts in (values, shown) if kind == "sql" else ():
        texts["warehouse"] = _warehouse(texts["warehouse"], root)
        texts["uri"] = _sqlite(texts["uri"], root) if texts["uri"].startswith("sqlite") else texts["uri"]
    return Options(values, shown)


def _warehouse(place: str, root: Path) -> str:
    """A local path as a file URI, which engines of other makers read too; a URI as it is.

    Iceberg's readers do not decode such URIs, so nothing is encoded, and "#" and "?" would end the path.
    """
    if "://" in place:
        return place
    path = _located(place, root)
    if "#" in path or "?" in path:
        raise ConfigError(
            f"{root / CONFIG_FILE}: the warehouse {path!r} has a '#' or '?' in its path, which a table's location cannot have",
            next_step="move the project, or set warehouse under [catalog] to another folder",
        )
    return f"file://{path}"


def _sqlite(uri: str, root: Path) -> str:
    scheme, slashes, rest = uri.partition(":///")
    path, mark, query = rest.partition("?")
    if not slashes or path in ("", ":memory:"):
        return uri
    return f"{scheme}:///{_located(path, root)}{mark}{query}"


def _located(place: str, root: Path) -> str:
    return place if "://" in place else str((root / place).resolve())
