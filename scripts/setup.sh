# Set-up shared by scripts/run and scripts/test; sourced, not run.
#
#   setup_python run|test   the virtual environment .venv/ of this checkout, with what that script needs
#   setup_programs          the user agents and proxies the whole-call tests drive (Debian packages)
#   setup_compiler          a C compiler and baresip, for scripts/bench
#
# Both are idempotent: a stamp (a hash of the requirement files, the interpreter and the place of the
# checkout) makes the second call a matter of milliseconds.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv

_say() { printf 'setup: %s\n' "$*" >&2; }
_fail() { _say "$*"; exit 1; }

# The oldest Python supported comes first: it is the one the hashed requirements were compiled for.
_find_python() {
  local candidate
  for candidate in "${TRUEDY_PYTHON:-}" python3.11 python3 python3.12 python3.13 python3.14; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    command -v "$candidate"
    return
  done
  return 1
}

_apt_install() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] || return 1
  export DEBIAN_FRONTEND=noninteractive
  local install=(apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@")
  "${install[@]}" >/tmp/truedy-apt.$$ 2>&1 ||
    { apt-get update >/tmp/truedy-apt.$$ 2>&1 && "${install[@]}" >/tmp/truedy-apt.$$ 2>&1; }
  local status=$?
  [ $status = 0 ] || tail -n 20 "/tmp/truedy-apt.$$" >&2
  rm -f "/tmp/truedy-apt.$$"
  return $status
}

_create_venv() {
  local python=$1 version
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    _say "python$version has no ensurepip; installing python3-venv"
    _apt_install "python$version-venv" || _apt_install python3-venv ||
      _fail "cannot make a virtual environment: install python3-venv (as root: apt-get install python3-venv)"
  fi
  _say "creating .venv with $("$python" --version)"
  "$python" -m venv --clear "$VENV" || _fail "python -m venv failed"
}

_stamp() {
  { "$VENV/bin/python" -c 'import sys; print(sys.version)'
    printf '%s\n' "$ROOT"
    cat "$ROOT/requirements/run.txt" "$ROOT/requirements/test.txt" "$ROOT/pyproject.toml"
  } 2>/dev/null | sha256sum | cut -d' ' -f1
}

_pip() {
  "$VENV/bin/python" -m pip install --quiet --progress-bar off --disable-pip-version-check \
    --no-input --no-warn-script-location "$@" || _fail "pip could not install: $*"
}

# The build back end is pinned in run.txt, so nothing is built in isolation from unpinned packages.
_install() {
  local purpose=$1 extra=
  if "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    _pip --require-hashes -r "$ROOT/requirements/run.txt"
    [ "$purpose" = run ] || _pip --require-hashes --no-build-isolation -r "$ROOT/requirements/test.txt"
    PYTHONWARNINGS=ignore _pip --no-deps --no-build-isolation -e "$ROOT"
  else
    [ "$purpose" = run ] || extra='[test]'
    _pip -e "$ROOT$extra"
  fi
}

setup_python() {
  local purpose=$1 stamp python
  mkdir -p "$VENV"
  exec 9>"$ROOT/.venv.lock"
  flock 9
  if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(_find_python) || _fail "Python 3.11 or newer is needed (as root: apt-get install python3 python3-venv)"
    _create_venv "$python"
  fi
  stamp=$(_stamp)
  # What the tests need holds all that running needs, and is compiled together with it.
  if [ "$(cat "$VENV/.ready-test" 2>/dev/null)" != "$stamp" ] &&
    { [ "$purpose" = test ] || [ "$(cat "$VENV/.ready-run" 2>/dev/null)" != "$stamp" ]; }; then
    _say "installing what scripts/$purpose needs (a minute or two the first time)"
    _install "$purpose"
    printf '%s\n' "$stamp" >"$VENV/.ready-$purpose"
  fi
  # Where PYTHONDONTWRITEBYTECODE is set, every process of the edge would compile its modules anew at each start.
  "$VENV/bin/python" -m compileall -q "$ROOT"/{config,control,edge,media} || true
  flock -u 9
  exec 9>&-
}

# program:package
PROGRAMS=(sipp:sip-tester kamailio:kamailio baresip:baresip-core linphonec:linphone-cli ip:iproute2 openssl:openssl curl:curl)

setup_programs() {
  local entry missing=() names=()
  for entry in "${PROGRAMS[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${entry%%:*}" >/dev/null && continue
    missing+=("${entry##*:}")
    names+=("${entry%%:*}")
  done
  compgen -G '/usr/lib/*/kamailio/modules/tls.so' >/dev/null || missing+=(kamailio-tls-modules)
  compgen -G '/usr/lib/*/libopus.so.0' >/dev/null || missing+=(libopus0)
  [ ${#missing[@]} = 0 ] && return
  _say "installing ${missing[*]}"
  _apt_install "${missing[@]}" ||
    _say "WITHOUT ${names[*]}: the tests that drive them will be SKIPPED (Debian: apt-get install ${missing[*]})"
}

setup_compiler() {
  local missing=()
  command -v cc >/dev/null && echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 || missing+=(gcc libc6-dev)
  command -v baresip >/dev/null || missing+=(baresip-core)
  command -v taskset >/dev/null || missing+=(util-linux)
  [ ${#missing[@]} = 0 ] && return
  _say "installing ${missing[*]}"
  _apt_install "${missing[@]}" ||
    _say "WITHOUT ${missing[*]}: what needs them is SKIPPED (Debian: apt-get install ${missing[*]})"
}
