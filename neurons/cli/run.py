"""`neuronscope run`: start the app in the browser, from a clone or an installed package, wherever the shell stands."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import neurons
from neurons.cli.common import report_error, stderr_progress
from neurons.core.errors import InvalidInput, ModelError, NotFound

MODEL_VARIABLE = "NEURONSCOPE_MODEL"
PASSWORD_VARIABLE = "NEURONSCOPE_PASSWORD"
BASE_PATH_VARIABLE = "NEURONSCOPE_BASE_PATH"
FIRST_PORT, PORTS_TRIED = 8501, 20


def register(app: typer.Typer) -> None:
    """Add the command `run`."""
    app.command()(run)


def run(
    port: Annotated[
        int | None, typer.Option(help=f"Port to listen on. [default: the first free one from {FIRST_PORT}]", show_default=False)
    ] = None,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    allow_host: Annotated[list[str] | None, typer.Option(help="Host name browsers may use; needed to listen beyond this machine.")] = None,
    base_path: Annotated[
        str,
        typer.Option(envvar=BASE_PATH_VARIABLE, help="Path under which a reverse proxy shows the app, such as /scope.", show_default=False),
    ] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", envvar=MODEL_VARIABLE, help="Model to load first; the app can load others.")
    ] = "default",
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Choose another password for a server that other machines can reach.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser window.")] = False,
) -> None:
    """Start the app, after fetching the model where it is missing; Ctrl-C stops it."""
    script = app_script()
    hosts = allowed_hosts(address, allow_host or [])
    base = checked_base_path(base_path)
    chosen_port = free_port(address, port)
    if not _is_loopback(address):
        _ask_for_password(again=new_password)
    _fetch(model)
    os.environ[MODEL_VARIABLE] = model
    typer.echo(f"Neuronscope is at http://{_in_url(address)}:{chosen_port}{base} (Ctrl-C stops it)")
    raise typer.Exit(serve(command(script, address, chosen_port, hosts, headless=no_browser, base_path=base)))


def _ask_for_password(*, again: bool) -> None:
    """See that there is a password before other machines can reach the app. Raises `InvalidInput` where nobody can be asked for one."""
    from neurons.storage.password import is_set, set_password

    given = os.environ.pop(PASSWORD_VARIABLE, None)
    if given is not None:
        set_password(given)
    elif again or not is_set():
        if not sys.stdin.isatty():
            raise InvalidInput(
                f"a server that other machines can reach needs a password: set {PASSWORD_VARIABLE}, or start it once from a terminal",
                field="address",
            )
        typer.echo("Other machines will be able to reach this app, its traces and the files that it may read.", err=True)
        typer.echo(
            "Whoever knows the password can use it. Without HTTPS it can be overheard: docs/install.md says how to put a proxy in front.",
            err=True,
        )
        set_password(typer.prompt("Choose a password for it", hide_input=True, confirmation_prompt=True, err=True))


def _fetch(model: str) -> None:
    """Fetch the model where the progress can be seen. What fails here does not keep the app from starting."""
    from neurons.models.load import find_source

    try:
        with stderr_progress() as progress:
            find_source(model, progress=progress)
    except ModelError as error:
        report_error(error, as_json=False)
        typer.echo("starting without this model; choose another in the app", err=True)


def app_script() -> Path:
    """The file that Streamlit runs: in the installed package, else in the clone. Raises `NotFound` when neither has it."""
    package = Path(neurons.__file__).parent
    for script in (package / "cli" / "app" / "streamlit_app.py", package.parent / "streamlit_app.py"):
        if script.is_file():
            return script
    raise NotFound(f"streamlit_app.py is neither in {package / 'cli' / 'app'} nor in {package.parent}; install the package again")


def allowed_hosts(address: str, named: list[str]) -> list[str]:
    """Host headers that the server answers. Raises `InvalidInput` for an open address without names: any web page could reach it."""
    if _is_loopback(address):
        return ["localhost", "127.0.0.1", address, *named]
    if not named:
        raise InvalidInput(
            f"listening on {address} lets other machines use the app and this machine's files; "
            "name the host names that browsers may use with --allow-host",
            field="allow_host",
        )
    return ["localhost", "127.0.0.1", *named]


def checked_base_path(given: str) -> str:
    """A base path as "/scope" or "/tools/scope", "" for none. Raises `InvalidInput` for what is no plain path."""
    path = given.strip().strip("/")
    parts = path.split("/")
    if path and not all(re.fullmatch(r"[A-Za-z0-9._~-]{1,100}", part) and set(part) != {"."} for part in parts):
        raise InvalidInput(f"the base path is {given!r}; use letters, digits, -, _ and /, such as /scope", field="base_path")
    return f"/{path}" if path else ""


def free_port(address: str, port: int | None) -> int:
    """`port` where it is free, else `InvalidInput`; for None the first free one from 8501."""
    if port is not None:
        if not 1 <= port <= 65_535:
            raise InvalidInput(f"port is {port}; use 1 to 65535", field="port")
        reason = _refusal(address, port)
        if reason is not None:
            raise InvalidInput(f"port {port} of {address} {reason}; choose another with --port", field="port")
        return port
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if _refusal(address, candidate) is None:
            return candidate
    raise InvalidInput(f"ports {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} are taken; choose one with --port", field="port")


def command(script: Path, address: str, port: int, hosts: list[str], *, headless: bool, base_path: str = "") -> list[str]:
    """The streamlit command line. The rest of the settings comes from .streamlit/config.toml beside the script."""
    options = ["--server.address", address, "--server.port", str(port)]
    for host in dict.fromkeys(hosts):
        options += ["--server.allowedHosts", host]
    if base_path:
        options += ["--server.baseUrlPath", base_path]
    if headless:
        options += ["--server.headless", "true"]
    # -P: a file of the user's that is named as a module of a library (html.py) must not stand in for it
    return [sys.executable, "-P", "-m", "streamlit", "run", str(script), *options]


def serve(arguments: list[str]) -> int:
    """Run the server until it ends; where the system can, it takes this process's place, so that signals reach it."""
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(arguments[0], arguments)
    return subprocess.run(arguments, check=False).returncode


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _refusal(address: str, port: int) -> str | None:
    """Why nothing can listen there; None where it can. Raises `InvalidInput` for an address that is not this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except socket.gaierror as error:
        raise InvalidInput(f"{address!r} is not an address of this machine ({error.strerror})", field="address") from error
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise InvalidInput(f"{address} is not an address of this machine", field="address") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            return "is one that this user may not open" + (" (below 1024 it takes an administrator)" if port < 1024 else "")
        return "is taken"
    return None


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
