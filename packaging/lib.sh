# SPDX-License-Identifier: Apache-2.0
# What the scripts of packaging/ and tests/ share. Sourced by bash, after `set -euo pipefail`.

KTSTR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KTSTR_DEPS=$KTSTR_ROOT/build/deps
KTSTR_MIN_LIBBPF=1.4

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Runs a command as root: directly, or by sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo > /dev/null; then
    sudo "$@"
  else
    die "this needs root, and there is no sudo. Run as root: $*"
  fi
}

need_debian() {
  if ! command -v apt-get > /dev/null || ! command -v dpkg > /dev/null; then
    die "no apt here: these scripts install with apt (Debian 12 and 13). Elsewhere, install what cmake --preset dev names."
  fi
}

codename() {
  (. /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-}")
}

is_debian() {
  [ "$(. /etc/os-release && printf '%s' "${ID:-}")" = debian ]
}

package_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

# The version that the host's own apt would install; empty if it knows none.
package_candidate() {
  apt-cache policy "$1" 2> /dev/null | sed -n 's/^ *Candidate: //p' | grep -v '^(none)$' || true
}

version_at_least() { dpkg --compare-versions "$1" ge "$2"; }

# The argument is a Debian version, with or without an epoch.
libbpf_is_recent() { [ -n "$1" ] && version_at_least "${1#*:}" "$KTSTR_MIN_LIBBPF"; }

# The archive that the host installs its own release from, by its apt sources: all downloads come from there.
# `apt-get --print-uris update` prints it without root and without package lists.
host_archive() {
  apt-get --print-uris update 2> /dev/null | tr -d "'" |
    awk -v name="$(codename)" '{ at = index($1, "/dists/"); if (!at) next
      archive = substr($1, 1, at - 1) "/"; split(substr($1, at + 7), suite, "/") }
      suite[1] == name || suite[1] == "stable" { print archive; found = 1; exit }
      first == "" && $1 !~ /security/ { first = archive }
      END { if (!found && first != "") print first }'
}

# source_line SUITE: the line of an apt source for the suite in that archive.
source_line() {
  local archive options=
  archive=$(host_archive)
  [ -n "$archive" ] || die "apt has no package source: \`apt-get --print-uris update\` lists none. Add your mirror to /etc/apt/sources.list."
  if is_debian && [ -r /usr/share/keyrings/debian-archive-keyring.gpg ]; then
    options='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] '
  fi
  printf 'deb %s%s %s main\n' "$options" "$archive" "$1"
}

# private_apt SUITE: makes apt state of our own for one suite beyond the host's and prints its configuration file. The
# host's apt configuration is read (proxies, credentials) and never written; no package is installed from here.
private_apt() {
  local suite=$1 dir=$KTSTR_DEPS/apt/$1 line
  line=$(source_line "$suite") || exit 1
  mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/etc/preferences.d"
  : > "$dir/status"
  printf '%s\n' "$line" > "$dir/etc/sources.list"
  cat > "$dir/apt.conf" << CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "$dir";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Dir::Etc::sourcelist "$dir/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "$dir/etc/preferences.d";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "";
CONF
  printf '%s\n' "$dir/apt.conf"
}

# refresh_private_apt CONF: downloads the suite's package lists.
refresh_private_apt() {
  apt-get -c "$1" -qq -o APT::Update::Error-Mode=any update ||
    die "cannot read the package lists of $(basename "$(dirname "$1")"). Is the network up? Does the host's mirror carry that suite?"
}

# Packages of QEMU go together: where one is installed from backports, the release's own qemu-system-x86 would remove it.
# Prints the suite that fits what is installed, nothing where the release's own does.
qemu_suite() {
  local package installed candidate
  candidate=$(package_candidate qemu-system-x86)
  [ -n "$candidate" ] || return 0
  for package in qemu-utils qemu-block-extra qemu-system-common qemu-system-data; do
    package_installed "$package" || continue
    installed=$(dpkg-query -W -f '${Version}' "$package")
    if [[ $installed == *~bpo* ]] && ! version_at_least "$candidate" "$installed"; then
      printf '%s-backports\n' "$(codename)"
      return 0
    fi
  done
}

# host_apt_with SUITE DIRECTORY: apt state in DIRECTORY for the host's suites and one more, of which only QEMU and its
# firmware are preferred. Prints its configuration file. The host's own apt configuration and package lists stay as they are.
host_apt_with() {
  local suite=$1 dir=$2 line file
  line=$(source_line "$suite") || exit 1
  mkdir -p "$dir/lists/partial" "$dir/sources" "$dir/preferences"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ ! -f "$file" ] || ln -sf "$file" "$dir/sources/"
  done
  for file in /etc/apt/preferences /etc/apt/preferences.d/*; do
    [ ! -f "$file" ] || ln -sf "$file" "$dir/preferences/"
  done
  # apt refuses a suite that is named twice with other keys.
  if ! apt-get --print-uris update 2> /dev/null | grep -q "/dists/$suite/"; then
    printf '%s\n' "$line" > "$dir/sources/ktstr-$suite.list"
  fi
  cat > "$dir/preferences/ktstr-qemu" << PINS
Package: *
Pin: release n=$suite
Pin-Priority: 50

Package: src:qemu src:seabios src:ipxe
Pin: release n=$suite
Pin-Priority: 600
PINS
  cat > "$dir/apt.conf" << CONF
Dir::State::lists "$dir/lists";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$dir/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$dir/preferences";
Acquire::Retries "3";
APT::Sandbox::User "root";
CONF
  printf '%s\n' "$dir/apt.conf"
}

# kernel_line ROLE: suite and patterns of one line of kernels.txt.
kernel_line() {
  awk -v role="$1" '$1 == role { $1 = ""; sub(/^ +/, ""); print; found = 1 } END { exit !found }' \
    "$KTSTR_ROOT/packaging/kernels.txt" || die "packaging/kernels.txt has no line for '$1'"
}

# newest_matching PATTERN...: takes the first pattern that any package name on stdin matches; prints the newest match.
newest_matching() {
  local names name pattern matches
  mapfile -t names
  for pattern in "$@"; do
    matches=$(for name in "${names[@]}"; do
      # shellcheck disable=SC2254  # a pattern is meant
      case $name in *-unsigned-* | *-dbg) ;; $pattern) printf '%s\n' "$name" ;; esac
    done | sort -V | tail -n 1)
    if [ -n "$matches" ]; then
      printf '%s\n' "$matches"
      return 0
    fi
  done
  return 1
}

# resolve_kernel ROLE: the package to fetch for a role of kernels.txt, from the suite's package lists.
resolve_kernel() {
  local line suite conf
  line=$(kernel_line "$1")
  suite=${line%% *}
  conf=$(private_apt "$suite")
  refresh_private_apt "$conf"
  set -f
  # shellcheck disable=SC2086  # patterns are words
  apt-cache -c "$conf" pkgnames linux- | newest_matching ${line#* } ||
    die "$suite has no kernel package that matches one of: ${line#* }. Name another in packaging/kernels.txt."
}

# cached_kernel ROLE KTSTRCTL: the cache key of the newest cached kernel of the role; nothing if there is none.
# A key begins with the kernel's release; earlier versions of ktstr named an entry after its package.
cached_kernel() {
  local line
  line=$(kernel_line "$1")
  "$2" kernel list 2> /dev/null | awk '$3 == "deb" && !/corrupt/ { print $1 }' | while read -r key; do
    set -f
    for pattern in ${line#* }; do
      # shellcheck disable=SC2254
      case $key in ${pattern#linux-*-}-x86_64-* | deb-$pattern-*) printf '%s\n' "$key" ;; esac
    done
  done | sort -V | tail -n 1
}

# ensure_kernel ROLE KTSTRCTL: fetches the kernel of a role unless it is cached. Sets KERNEL_KEY.
ensure_kernel() {
  local role=$1 ktstrctl=$2 package line suite
  KERNEL_KEY=$(cached_kernel "$role" "$ktstrctl")
  if [ -n "$KERNEL_KEY" ]; then
    say "kernel $KERNEL_KEY is in the cache"
    return 0
  fi
  package=$(resolve_kernel "$role")
  line=$(kernel_line "$role")
  suite=${line%% *}
  say "fetching $package from $suite"
  "$ktstrctl" kernel fetch "deb:$package" --suite "$suite" || die "ktstrctl kernel fetch deb:$package --suite $suite failed"
  KERNEL_KEY=$(cached_kernel "$role" "$ktstrctl")
  [ -n "$KERNEL_KEY" ] || die "fetched $package, but \`ktstrctl kernel list\` does not show it"
}

# kernel_debs DIRECTORY ROLE: the packages in DIRECTORY that match the first pattern of the role with any match.
kernel_debs() {
  local line pattern found
  line=$(kernel_line "$2")
  set -f
  for pattern in ${line#* }; do
    set +f
    found=$(compgen -G "$1/${pattern}_*.deb") || continue
    printf '%s\n' "$found"
    return 0
  done
  set +f
}

# ensure_kernel_debs DIRECTORY ROLE...: fetches the packages of each role that DIRECTORY lacks: the image, and with a
# linux-binary-* the linux-base-* that has its configuration. Moves a download there when it is complete.
ensure_kernel_debs() {
  local directory=$1 role package suite conf work
  shift
  mkdir -p "$directory"
  for role in "$@"; do
    if [ -n "$(kernel_debs "$directory" "$role")" ]; then
      say "kernel packages of $role are in $directory"
      continue
    fi
    package=$(resolve_kernel "$role")
    suite=$(kernel_line "$role")
    conf=$(private_apt "${suite%% *}")
    work=$(mktemp -d "$directory/download.XXXXXX")
    say "fetching the package $package from ${suite%% *}"
    (cd "$work" && apt-get -c "$conf" -qq download "$package" &&
      case $package in linux-binary-*) apt-get -c "$conf" -qq download "linux-base-${package#linux-binary-}" ;; esac) || {
      rm -rf "$work"
      die "cannot download $package. Is the network up? A directory with kernel packages can be named by KTSTR_TEST_DEBS."
    }
    mv "$work"/*.deb "$directory/"
    rmdir "$work"
  done
}

# The kernel cache, by the same rule as ktstrctl's.
kernel_cache_dir() {
  if [ -n "${KTSTR_CACHE_DIR:-}" ]; then
    printf '%s\n' "$KTSTR_CACHE_DIR"
  elif [ -n "${XDG_CACHE_HOME:-}" ]; then
    printf '%s\n' "$XDG_CACHE_HOME/ktstr"
  elif [ -n "${HOME:-}" ]; then
    printf '%s\n' "$HOME/.cache/ktstr"
  else
    die "HOME is not set: set it, or set KTSTR_CACHE_DIR to the directory for kernels"
  fi
}

# configure_preset PRESET [CMAKE-ARGUMENT...]: quiet unless it fails.
configure_preset() {
  local preset=$1 log
  shift
  log=$KTSTR_ROOT/build/logs/configure-$preset.log
  mkdir -p "$(dirname "$log")"
  (cd "$KTSTR_ROOT" && cmake --preset "$preset" "$@") > "$log" 2>&1 || {
    tail -n 40 "$log" >&2
    die "configuring $preset failed; all of it is in $log"
  }
  grep '^-- bpf:' "$log" | sed 's/^-- //' || true
}
