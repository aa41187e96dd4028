# SPDX-License-Identifier: GPL-2.0
# Shared by the bash tools in dev/: where things live, messages, packages, ccache.
# Sourced, never run.  stdout belongs to a tool's answer; everything a human
# reads goes to stderr, so that `make -s tree` and `make -s image` can be used
# in a command substitution.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
OUT=$ROOT/out
CACHE=${PINLESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pinless}
mkdir -p "$OUT" "$CACHE"
CACHE=$(cd "$CACHE" && pwd -P)
JOBS=${JOBS:-$(nproc)}
export PINLESS_ROOT=$ROOT PINLESS_CACHE=$CACHE
export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-10G}
export CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=time_macros

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: error: %s\n' "${0##*/}" "$*" >&2; exit 1; }

missing() {
	local pkg
	for pkg; do
		dpkg-query -W -f='${Status}' "$pkg" 2>/dev/null |
			grep -q '^install ok installed' || printf '%s\n' "$pkg"
	done
}

# need <package>...: install what dpkg does not know as installed.
need() {
	[ -z "$(missing "$@")" ] || (install_missing "$@")
}

# In a subshell, which holds the lock: apt does not wait for another one.
install_missing() {
	local missing
	hold "$CACHE/.apt.lock"
	mapfile -t missing < <(missing "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		die "missing Debian packages; as root: apt-get install ${missing[*]}"
	fi
	say "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	# The lists may be stale or absent: refresh them only when that fails.
	apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 ||
		{ apt-get update -q >&2 &&
		  apt-get install -y -q --no-install-recommends "${missing[@]}" >&2; } ||
		die "could not install ${missing[*]} (see apt-get above; is linux-source-6.12 in a configured suite?)"
}

need_build() {
	need build-essential flex bison bc libelf-dev libssl-dev kmod cpio \
		rsync ccache python3 xz-utils git
}

# Lock <file> for the rest of this process; says so when it has to wait.
hold() {
	local fd
	mkdir -p "$(dirname "$1")"
	exec {fd}>"$1"
	flock -n "$fd" || { say "waiting for another run ($1)"; flock "$fd"; }
}

# The folder of everything made from the installed linux-source-6.12.
base_dir() {
	need linux-source-6.12 xz-utils git python3
	local version
	version=$(dpkg-query -W -f='${Version}' linux-source-6.12)
	printf '%s/linux-%s\n' "$CACHE" "$(tr '~:' '__' <<<"$version")"
}

# One work tree a checkout: named after the checkout's path.
work_dir() {
	printf '%s/work-%s\n' "$1" "$(printf %s "$ROOT" | sha256sum | cut -c1-12)"
}
