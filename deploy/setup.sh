# Sourced by deploy/run and deploy/test: makes the machine and the checkout ready, or says what is missing.
#
# What it leaves behind: the Debian packages named below (their services stopped and not enabled, because the bus starts
# a private node of its own), and `.venv` in the checkout. A stamp in `.venv` makes the next call a matter of
# milliseconds, without network. Everything it prints goes to standard error: standard output belongs to the command.
# shellcheck shell=bash

[ -n "${BASH_VERSION:-}" ] || { echo "deploy: write \`bash deploy/run\`: this needs bash" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv="$root/.venv"
lock="$root/deploy/requirements.lock"
setup_log=""

say() { printf '%s\n' "$*" >&2; }

# Stop, saying what is missing and what to do about it. Exit 2: nothing was checked or run.
give_up() {
    say "deploy: $*"
    exit 2
}

# Run a command quietly; when it fails, say which and show the end of what it printed.
quietly() {
    local what=$1
    shift
    setup_log=$(mktemp "${TMPDIR:-/tmp}/agentbus-setup.XXXXXX")
    if "$@" >"$setup_log" 2>&1 </dev/null; then
        rm -f "$setup_log"
        return 0
    fi
    say "deploy: $what failed; the last lines of its output:"
    tail -n 25 "$setup_log" | sed 's/^/    /' >&2
    rm -f "$setup_log"
    return 1
}

# --- Debian packages ----------------------------------------------------------------------------------------------

as_root=()
policy=/usr/sbin/policy-rc.d
made_policy=""

as_admin() { ${as_root[@]+"${as_root[@]}"} "$@"; }

# Decide how to become root: not at all, or by sudo.
find_root() {
    if [ "$(id -u)" -eq 0 ]; then
        return 0
    fi
    command -v sudo >/dev/null || return 1
    if sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    elif [ -t 0 ]; then
        say "      sudo may ask for your password, to install $1"
        sudo -v || return 1
        as_root=(sudo)
    else
        return 1
    fi
}

apt() {
    # --no-install-recommends: the broker, not a mail server. RUNLEVEL=1: invoke-rc.d starts no service.
    as_admin env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -y -q -o DPkg::Lock::Timeout=300 "$@"
}

# Forbid packages to start services while we install, unless the machine has a rule of its own.
forbid_services() {
    [ ! -e "$policy" ] || return 0
    made_policy=yes
    trap allow_services EXIT
    printf '#!/bin/sh\nexit 101\n' | as_admin tee "$policy" >/dev/null
    as_admin chmod 755 "$policy"
}

allow_services() {
    [ -z "$made_policy" ] || as_admin rm -f "$policy"
    made_policy=""
    trap - EXIT
}

# Install packages with their services neither started nor enabled, so that they take no port and no memory.
install_packages() {
    local status=0
    forbid_services
    if ! apt install --no-install-recommends "$@" >/dev/null 2>&1 </dev/null; then
        say "      updating the package lists"
        quietly "apt-get update" apt update || status=1
        [ "$status" -ne 0 ] || quietly "apt-get install $*" apt install --no-install-recommends "$@" || status=1
    fi
    allow_services
    if [ "$status" -eq 0 ] && [ -d /run/systemd/system ]; then
        as_admin systemctl disable --now "$@" >/dev/null 2>&1 || true
    fi
    return "$status"
}

# need PACKAGE WHAT: install a Debian package, or say how to.
need() {
    local package=$1 what=$2
    if ! command -v apt-get >/dev/null; then
        give_up "$what is missing and this is neither Debian nor Ubuntu; install $what with your system's packages, then run this again"
    fi
    find_root "$package" ||
        give_up "$what is missing; write \`sudo apt-get install $package\` (as root), then run this again"
    install_packages "$package" || give_up "$what could not be installed; see above"
}

found() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/usr/lib/rabbitmq/bin/$1" ]; }

found_postgres() {
    local program
    for program in /usr/lib/postgresql/*/bin/postgres; do
        [ ! -x "$program" ] || return 0
    done
    command -v postgres >/dev/null
}

# Install the server's programs only: the tests make clusters of their own, so Debian's package shall make none. Its
# drop-in is removed again, so that a PostgreSQL which the owner installs later is set up as ever.
need_postgres() {
    local rules=/etc/postgresql-common/createcluster.d status=0
    if ! command -v apt-get >/dev/null || ! find_root postgresql; then
        need postgresql PostgreSQL # says what to do, and stops
    fi
    as_admin mkdir -p "$rules"
    printf 'create_main_cluster = false\n' | as_admin tee "$rules/agentbus.conf" >/dev/null
    install_packages postgresql || status=1
    as_admin rm -f "$rules/agentbus.conf"
    [ "$status" -eq 0 ] || give_up "PostgreSQL could not be installed; see above"
}

# --- Python -------------------------------------------------------------------------------------------------------

# The system's own before the one on PATH: Debian builds it with profile-guided optimization, and a Python that was built
# from source mostly has none. A message costs a seventh less with it.
find_python() {
    local candidate wanted
    for wanted in ", ensurepip, venv" ""; do # rather one that can make an environment as it is
        for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
            if "$candidate" -c "import sys$wanted; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
                command -v "$candidate"
                return 0
            fi
        done
    done
    return 1
}

# What the environment must match: dependencies, packaging, where the checkout is, and which Python made it.
stamp() {
    { cat "$lock" "$root/pyproject.toml"; printf '%s\n' "$root"; cat "$venv/pyvenv.cfg"; } 2>/dev/null | sha256sum
}

venv_ready() {
    [ -f "$venv/.agentbus-stamp" ] && [ "$(cat "$venv/.agentbus-stamp")" = "$(stamp)" ] &&
        "$venv/bin/python" -c '' 2>/dev/null
}

make_venv() {
    local python
    python=$(find_python) ||
        give_up "Python 3.11 or newer is missing; write \`sudo apt-get install python3 python3-venv\`, then run this again"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "      installing python3-venv"
        need python3-venv "Python's venv module"
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            give_up "$python has no venv module; install it for this Python, or put another Python first on PATH"
    fi
    # A checkout that was moved or a Python that is gone leaves scripts that point nowhere: start afresh.
    if [ "$("$venv/bin/python" -c 'import sys; print(sys.prefix)' 2>/dev/null)" != "$venv" ] ||
        ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        quietly "making .venv" "$python" -m venv --clear "$venv" || exit 1
    fi
}

fill_venv() {
    local pip=("$venv/bin/python" -m pip install --disable-pip-version-check --no-input -q)
    # Wheels only: nothing is compiled or run while installing, and hashes cover all that comes in.
    # Bytecode is compiled when a module is first imported: doing all of it now would double the time.
    quietly "installing the locked dependencies (is there a network?)" \
        "${pip[@]}" --no-compile --require-hashes --only-binary :all: -r "$lock" || exit 1
    quietly "installing agentbus into .venv" "${pip[@]}" --no-deps --no-build-isolation -e "$root" || exit 1
    stamp >"$venv/.agentbus-stamp"
}

# --- The two steps that run and test share ------------------------------------------------------------------------

# setup TOTAL: RabbitMQ and .venv, as steps 1 and 2 of TOTAL. Two at the same time wait for each other.
setup() {
    local total=$1
    [ "$(uname -s)" = Linux ] ||
        give_up "agentbus is set up by this script on Debian and Ubuntu; elsewhere install rabbitmq-server 3.10 or newer and Python 3.11 or newer, then see deploy/README.md"
    exec 9<"$lock"
    if ! flock -n 9; then
        say "      waiting for another setup of this checkout"
        flock 9
    fi
    if found rabbitmq-server; then
        say "[1/$total] RabbitMQ found"
    else
        say "[1/$total] RabbitMQ is missing: installing rabbitmq-server (about a minute)"
        need rabbitmq-server RabbitMQ
        say "[1/$total] RabbitMQ installed"
    fi
    if ! venv_ready; then
        say "[2/$total] .venv: installing the locked dependencies (about a minute)"
        make_venv
        fill_venv
    fi
    say "[2/$total] .venv ready"
    exec 9<&-
}
