"""The commands `faultcube serve`, `classify`, `adapt`, `sign`, `verify` and smaller ones.

Commands import what they need when called: the command line starts fast, and works without the
service's libraries.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from time import perf_counter, time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from models.profile import Comparison, ProfileTrial
    from service.offline.archive_units import Job
    from service.offline.batch import Counts
    from service.settings import Settings

_TELL_SECONDS = 2.0
"""Between two lines of progress."""
_PROFILES = (".json",)
"""How files of profiles end."""

__all__ = [
    "adapt",
    "classify",
    "consume",
    "export_feedback",
    "key",
    "openapi",
    "replay",
    "serve",
    "settings",
    "sign",
    "verify",
]


def serve(
    bundle: Annotated[
        Path | None, typer.Argument(help="Folder of the bundle.", show_default="the one that ships")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = None,
) -> None:
    """Serve a bundle over HTTP; options override the environment (see `faultcube settings`)."""
    # SIGTERM ends the process as Ctrl-C does: requests in progress are finished, the exit is 0.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        chosen = _settings(bundle=bundle, host=host, port=port)
        _check_store(chosen)
        from service.server.workers import leave, run

        # Listened on before anything is loaded: a port that is taken ends the process at once.
        with _listener(chosen) as bound:
            with suppress(KeyboardInterrupt):
                run(chosen, bound)
            leave()
    except KeyboardInterrupt:
        return


def classify(
    table: Annotated[
        str,
        typer.Argument(
            help="CSV, TSV (.gz), Parquet or Arrow, one record a row; or an archive of them: a "
            "folder, a pattern, or an address such as s3://bucket/folder."
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            help="A .csv, .csv.gz or .parquet file; for an archive a folder or an address.",
            show_default="CSV to stdout",
        ),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of the bundle.", show_default="the one that ships")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Profile of the records' site, made by `faultcube adapt`.", show_default="none"
        ),
    ] = None,
    distances: Annotated[
        bool, typer.Option("--distances", help="Write the distance to every class.")
    ] = False,
    keep: Annotated[
        list[str] | None, typer.Option(help="Column of TABLE to copy over (repeatable).")
    ] = None,
    on_invalid: Annotated[
        Literal["strict", "report"],
        typer.Option(help="Stop at a row that does not fit, or report it in the column `error`."),
    ] = "strict",
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is at --out already.")
    ] = False,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Database of enrolled classes, as FAULTCUBE_DATABASE_URL names it to the service.",
            show_default="those of the bundle alone",
        ),
    ] = None,
    revision: Annotated[
        int | None,
        typer.Option(
            min=0, help="Revision of the classes that --classes has.", show_default="the newest"
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray", "spark"],
        typer.Option(help="Engine that classifies an archive; ray and spark are extras."),
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of workers on this machine.", show_default="one a core"),
    ] = None,
) -> None:
    """Give every record of TABLE its verdict, without a server.

    An archive's verdicts are Parquet files in a folder; a run that was interrupted is continued by
    the same command.
    """
    # SIGTERM ends the process as Ctrl-C does: no partial file is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from service.offline.archive import is_archive, job_of
        from service.offline.batch import (
            chosen_bundle,
            classify_table,
            destination,
            open_model,
            trusted_keys,
        )
        from service.offline.enrolled import read_classes, with_classes
        from service.offline.profiles import open_profile
        from service.offline.tables import Table, TableError

        started = perf_counter()
        report, in_parts = on_invalid == "report", is_archive(table)
        _check_used("--revision", given=revision is not None, needs="--classes", has=bool(classes))
        several = jobs is not None or engine != "local"
        _check_used("--engine or --jobs", given=several, needs="an archive", has=in_parts)
        _check_used("--force", given=force, needs="one table, no archive", has=not in_parts)
        try:
            model = open_model(bundle)
            snapshot = None if classes is None else read_classes(classes, revision)
            # Said here also of an archive, for which each worker makes a model of its own.
            with_enrolled = with_classes(
                model, snapshot, lambda line: typer.echo(f"faultcube: {line}", err=True)
            )
            if in_parts:
                job = job_of(
                    table,
                    out,
                    chosen_bundle(bundle),
                    model,
                    profile=profile,
                    snapshot=snapshot,
                    distances=distances,
                    keep=keep or (),
                    report=report,
                    trusted=trusted_keys(),
                )
                counts = _classify_archive(job, engine, jobs)
                _print_counts(counts, perf_counter() - started)
                return
            model = with_enrolled
            adaptation = open_profile(profile, model)
            records = Table(Path(table), model.schema, keep or ())
            _print_columns(records.ignored, records.absent)
            started = perf_counter()
            if out is None:  # the reader may stop when it has enough
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            with (
                destination(Path(out), force=force)
                if out
                else nullcontext(sys.stdout.buffer) as target,
                _progress_bar() as progress,
            ):
                counts = classify_table(
                    model,
                    records,
                    target,
                    adapt=adaptation,
                    distances=distances,
                    report=report,
                    progress=progress,
                )
        except TableError as error:
            raise _refusal(str(error)) from error
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(130) from interrupt
    _print_counts(counts, perf_counter() - started)


def _check_used(option: str, *, given: bool, needs: str, has: bool) -> None:
    """Refuse an option that would do nothing."""
    if given and not has:
        raise _refusal(f"{option} needs {needs}")


def adapt(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    table: Annotated[
        Path, typer.Argument(help="The first records of a site: CSV, TSV (.gz), Parquet or Arrow.")
    ],
    out: Annotated[Path, typer.Option(help="A .json file, for `faultcube classify --profile`.")],
    records: Annotated[int, typer.Option(min=1, help="Most rows to learn from.")] = 2000,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Write the profile even if most records stay faulty, and replace what is at --out "
            "already.",
        ),
    ] = False,
) -> None:
    """Learn the profile of a site from unlabelled records, so that BUNDLE fits its levels."""
    from models.profile import Profile, ProfileError, compare, try_out
    from service.offline.batch import check_destination, destination, open_model
    from service.offline.profiles import first_records
    from service.offline.tables import Table, TableError

    try:
        check_destination(out, _PROFILES, force=force)
        model = open_model(bundle)
        rows = Table(table, model.schema)
        _print_columns(rows.ignored, rows.absent)
        matrix, faulty = first_records(rows, records)
        if faulty:
            typer.echo(f"{faulty:,} rows do not fit the schema and are left out", err=True)
        profile = Profile.learn(model.schema, matrix)
        _print_levels(compare(profile, model.schema), profile.missing)
        trial = try_out(model, profile, matrix)
        _print_trial(trial)
        if not force:
            trial.check()
        with destination(out, _PROFILES, force=force) as draft:
            draft.write_bytes(profile.to_json())
    except (ProfileError, TableError) as error:
        raise _refusal(str(error)) from error


def replay(
    points: Annotated[Path, typer.Argument(help="Recorded points: Parquet or CSV, wide or long.")],
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
    speed: Annotated[
        float,
        typer.Option(
            min=0.001, help="Recorded seconds to send in a second; inf sends all at once."
        ),
    ] = 60,
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of the mapping, which names the points.",
            show_default="that of the bundle",
        ),
    ] = None,
    key: Annotated[str, typer.Option(help="API key that may read.", envvar="FAULTCUBE_KEY")] = "",
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the service to be ready.")
    ] = 0,
    keep_times: Annotated[
        bool,
        typer.Option(
            "--keep-times",
            help="Send the recorded times; without it all are moved, so that the last is now.",
        ),
    ] = False,
) -> None:
    """Send recorded metric points to a service as a collector would, and tell of incidents."""
    from models.telemetry.mapping import Mapping, MappingError
    from service.offline.batch import open_model
    from service.offline.replay import Recording, ReplayError, Sender, play
    from service.offline.tables import TableError

    try:
        rules = Mapping.read(mapping) if mapping else open_model(None).mapping
        if rules is None:
            raise _refusal("the bundle has no mapping: give one with --mapping")
        recording = Recording(points, rules)
        shift = 0.0 if keep_times else float(round(time() - recording.times[-1]))
        typer.echo(
            f"{recording.seconds:,.0f} s of {points.name}, at {speed:g} times their speed", err=True
        )
        with closing(Sender(url, key)) as sender:
            sender.wait(wait)
            started, sent = perf_counter(), 0
            for news in play(recording, sender, speed, shift):
                sent = news.sent
                for incident in news.incidents:
                    typer.echo(_incident_line(incident))
    except (MappingError, ReplayError, TableError) as error:
        raise _refusal(str(error)) from error
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(130) from interrupt
    seconds = perf_counter() - started
    typer.echo(f"{sent:,} points in {seconds:.1f} s ({sent / seconds:,.0f} a second)", err=True)


def _incident_line(incident: dict[str, Any]) -> str:
    """Return the state of an incident in one line."""
    moment, state = str(incident["last"])[11:19], str(incident["status"])
    return f"{moment}  {state:<8}{incident['summary']}"


def consume(
    topic: Annotated[list[str], typer.Argument(help="Topics of metric points, keyed by device.")],
    brokers: Annotated[
        str | None,
        typer.Option(
            help="Brokers of the log, as HOST:PORT,HOST:PORT.", show_default="those of --config"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="File with settings of librdkafka, name=value in each line: TLS, users, time "
            "limits."
        ),
    ] = None,
    group: Annotated[
        str, typer.Option(help="Consumer group: the processes that share the partitions.")
    ] = "faultcube",
    prefix: Annotated[
        str, typer.Option(help="Prefix of the topics to write: PREFIX.verdicts and others.")
    ] = "faultcube",
    format_: Annotated[
        str,
        typer.Option("--format", help="Format of messages without the header `faultcube-format`."),
    ] = "telegraf",
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of the bundle.", show_default="the one that ships")
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds that incidents wait for the slowest devices.",
            show_default="two intervals of the mapping, and its lateness",
        ),
    ] = None,
    idle: Annotated[
        float, typer.Option(min=1, help="Seconds until a partition without messages is silent.")
    ] = 30,
    checkpoint: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two checkpoints.")
    ] = 30,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Address where Prometheus may scrape it, as HOST:PORT.", show_default="nowhere"
        ),
    ] = None,
) -> None:
    """Read metric points from topics of a Kafka-compatible log, and write verdicts and incidents.

    Any number of processes with the same --group share the partitions, one database
    (FAULTCUBE_DATABASE_URL) keeps their state.
    """
    import threading

    from service.offline.batch import open_model
    from service.offline.tables import TableError

    try:
        from service.stream.log import StreamError, Topics, read_properties
        from service.stream.start import run
        from service.stream.work import Options
    except ModuleNotFoundError as error:
        if error.name != "confluent_kafka":
            raise
        why = "consume needs more libraries: pip install -c constraints.txt '.[kafka]'"
        raise _refusal(why) from error

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    chosen = _settings(bundle=bundle)
    options = Options(Topics(tuple(topic), prefix), group, format_, idle, checkpoint, metrics)
    try:
        properties = read_properties(config) if config else {}
        if brokers:
            properties["bootstrap.servers"] = brokers
        run(chosen, open_model(bundle), properties, options, delay, stop)
    except (StreamError, TableError) as error:
        raise _refusal(str(error)) from error


def export_feedback(
    out: Annotated[Path, typer.Argument(help="A .csv, .csv.gz or .parquet file.")],
    enrolled: Annotated[
        bool, typer.Option(help="Write the records of enrolled classes, too.", show_default=True)
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at OUT already.")] = False,
) -> None:
    """Write what operators taught the service, as a table for `faultcube train --add`.

    It reads the database that FAULTCUBE_DATABASE_URL names.
    """
    from service.classes.entities import StoreError
    from service.offline.feedback_export import write_feedback
    from service.offline.tables import TableError

    url = _settings().database()
    if url is None:
        raise _refusal("there is no database: set FAULTCUBE_DATABASE_URL to the service's")
    from service.classes.database import Store

    try:
        with closing(Store(url)) as store:
            store.prepare(migrate=False)
            counts, left_out = write_feedback(store, out, enrolled=enrolled, force=force)
    except StoreError as error:
        raise _refusal(f"FAULTCUBE_DATABASE_URL: {error}") from error
    except TableError as error:
        raise _refusal(str(error)) from error
    for source, count in counts.items():
        typer.echo(f"{count:,} records of {source}", err=True)
    if left_out:
        why = "they stay enrolled, and would be trained as faults"
        typer.echo(f"{left_out:,} records of good classes are left out: {why}", err=True)


def openapi() -> None:
    """Print the OpenAPI document of a service, as JSON.

    The fields are those of the bundle that FAULTCUBE_BUNDLE names, or else of the one that ships.
    """
    from pydantic_core import to_json

    from service.app import create_app
    from service.web.problems import Problem

    app = create_app(_settings())
    app.state.faultcube.refresh()
    try:
        _ = app.state.faultcube.served
    except Problem as error:
        raise _refusal(str(error)) from error
    typer.echo(to_json(app.openapi(), indent=2).decode())


def settings() -> None:
    """Print the environment variables that set the service, as a Markdown table."""
    from service.settings import as_markdown

    typer.echo(as_markdown())


def key() -> None:
    """Make an API key: give it to a client, and its SHA-256 to the service."""
    from service.web.auth import new_key

    secret, digest = new_key()
    typer.echo(f"key      {secret}\nsha256   {digest}")


def sign(
    bundle: Annotated[Path | None, typer.Argument(help="Folder of the bundle.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="File of the private key (Ed25519, PEM).")
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option(help="Make a key: write the private one to this file, print the public one."),
    ] = None,
) -> None:
    """Sign BUNDLE, so that services with FAULTCUBE_TRUSTED_KEYS take it; --new-key makes a key."""
    from models import BundleError
    from models import signature as signatures

    try:
        if new_key is not None and bundle is key is None:
            typer.echo(signatures.new_key(new_key))
        elif new_key is None and bundle is not None and key is not None:
            signer = signatures.sign(bundle, key)
            typer.echo(f"{bundle} is signed with the key of {signer}", err=True)
        else:
            raise _refusal("give a bundle and --key FILE, or --new-key FILE alone")
    except (BundleError, signatures.KeyFileError) as error:
        raise _refusal(str(error)) from error
    except OSError as error:
        raise _refusal(f"{error.filename} cannot be written ({error.strerror})") from error


def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    keys: Annotated[
        str,
        typer.Option(
            help="Public keys that are trusted, or files of them, separated by commas.",
            envvar="FAULTCUBE_TRUSTED_KEYS",
        ),
    ],
) -> None:
    """Tell whether BUNDLE is as one of the trusted keys has signed it."""
    from models import Bundle, BundleError
    from models.signature import KeyFileError, TrustedKeys

    try:
        manifest = Bundle.read(bundle, trusted=TrustedKeys.parse(keys)).manifest
    except (BundleError, KeyFileError) as error:
        raise _refusal(str(error)) from error
    typer.echo(f"{bundle} is {manifest.name} {manifest.version}, as it was signed")


def _print_columns(ignored: list[str], absent: list[str]) -> None:
    if ignored:
        typer.echo(f"{len(ignored)} columns of the table are no fields and are ignored", err=True)
    if absent:
        typer.echo(f"{len(absent)} fields have no column and are missing values", err=True)


def _print_counts(counts: Counts, seconds: float) -> None:
    rate = counts.records / max(seconds, 1e-6)
    typer.echo(f"{counts.records:,} records in {seconds:.1f} s ({rate:,.0f} records/s)", err=True)
    rows = [*counts.labels.items(), *([("error", counts.faulty)] if counts.faulty else [])]
    width = max(len(label) for label, _ in rows)
    for label, count in rows:
        typer.echo(f"  {label:<{width}}  {count:>12,}", err=True)


def _print_levels(compared: list[Comparison], missing: tuple[str, ...]) -> None:
    rows = [row for row in compared if row.ratio != 1 or row.typical != row.training]
    width = max([5, *(len(row.field) for row in rows)])
    typer.echo(
        f"{'field':<{width}}  {'typical':>10}  {'training':>10}  {'spread':>10}  {'ratio':>7}"
    )
    for row in rows:
        typer.echo(
            f"{row.field:<{width}}  {row.typical:>10.4g}  {row.training:>10.4g}  "
            f"{row.spread:>10.4g}  {row.ratio:>7.3g}"
        )
    if same := len(compared) - len(rows):
        typer.echo(f"{same} more fields have the typical value and the scale of the training")
    if missing:
        typer.echo(f"missing in every record, left as they are: {', '.join(missing)}")


def _print_trial(trial: ProfileTrial) -> None:
    labels = sorted(trial.before.keys() | trial.after.keys())
    width = max(5, *map(len, labels))
    typer.echo(f"\n{'label':<{width}}  {'before':>7}  {'after':>7}")
    for label in labels:
        shares = (counts.get(label, 0) / trial.records for counts in (trial.before, trial.after))
        typer.echo(f"{label:<{width}}  " + "  ".join(f"{share:>7.1%}" for share in shares))


def _classify_archive(job: Job, engine: str, jobs: int | None) -> Counts:
    from models.engines import ENGINES
    from service.offline.archive import classify_archive

    workers = jobs or len(os.sched_getaffinity(0))
    started, told = perf_counter(), -_TELL_SECONDS
    before: int | None = None

    def progress(done: int, units: int, counts: Counts) -> None:
        nonlocal told, before
        now = perf_counter() - started
        if before is None:
            before = done
            if done:
                typer.echo(f"{done:,} of {units:,} units were done before", err=True)
        elif now - told >= _TELL_SECONDS or done == units:
            told = now
            left = now / (done - before) * (units - done)
            typer.echo(
                f"{done:,} of {units:,} units, {counts.records:,} records, {left:,.0f} s left",
                err=True,
            )

    return classify_archive(job, ENGINES[engine], workers, progress)


@contextmanager
def _progress_bar() -> Iterator[Callable[[float], None]]:
    """Yield the setter of a progress bar on stderr, 0..1; without a terminal there is no bar."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with typer.progressbar(length=1000, label="classifying", file=sys.stderr) as bar:
        yield lambda share: bar.update(int(1000 * share) - bar.pos)


def _settings(**options: object) -> Settings:
    from service.server import tls
    from service.settings import Settings, SettingsError, misspelt

    for line in misspelt(os.environ):
        typer.echo(f"faultcube: {line}", err=True)
    try:
        chosen = Settings.read(**options)
        tls.context(chosen)
    except SettingsError as error:
        raise _refusal(str(error)) from error
    shelf = chosen.shelf()
    if chosen.bundles_from:
        _prepare_copies(shelf)
    try:
        is_folder = shelf.is_dir()
    except OSError:  # a folder on the way to it cannot be entered
        is_folder = False
    if not is_folder:
        raise _refusal(f"no folder {shlex.quote(str(shelf))} can be read: nothing to serve")
    return chosen


def _prepare_copies(shelf: Path) -> None:
    """Make the folder that bundles of an object store are copied into."""
    name = shlex.quote(str(shelf))
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        if (shelf / "manifest.json").exists():
            raise _refusal(
                f"FAULTCUBE_BUNDLE: {name} is one bundle; what FAULTCUBE_BUNDLES_FROM names is "
                "copied into a folder of bundles: name another"
            )
    except OSError as error:
        raise _refusal(
            f"FAULTCUBE_BUNDLE: no folder {name} can be made ({error.strerror}), and what "
            "FAULTCUBE_BUNDLES_FROM names is copied into it"
        ) from error
    if not os.access(shelf, os.W_OK):
        raise _refusal(
            f"FAULTCUBE_BUNDLE: {name} cannot be written, and what FAULTCUBE_BUNDLES_FROM names is "
            "copied into it"
        )


def _check_store(chosen: Settings) -> None:
    """Migrate the database of classes; the service waits for one that is away."""
    if (url := chosen.database()) is None:
        return
    from service.classes.database import Store
    from service.classes.entities import AwayError, UnusableError

    try:
        with closing(Store(url)) as store, suppress(AwayError):
            store.prepare()
    except UnusableError as error:
        raise _refusal(f"FAULTCUBE_DATABASE_URL: {error}") from error


def _listener(chosen: Settings) -> socket.socket:
    from service.server.server import listener

    try:
        return listener(chosen.host, chosen.port)
    except OSError as error:
        where = f"{chosen.host} port {chosen.port}"
        raise _refusal(f"cannot listen on {where}: {error.strerror or error}") from error


def _refusal(message: str) -> typer.Exit:
    typer.echo(f"faultcube: {message}", err=True)
    return typer.Exit(2)
