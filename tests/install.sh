#!/usr/bin/env bash
# Install from Debian or Ubuntu what tests start by themselves: tests/install.sh [slurm] [postgresql] [chromium]; nothing is started.
set -euo pipefail

packages_of() {
    case $1 in
        slurm) echo slurmctld slurmd slurmdbd slurm-client munge mariadb-server ;;
        postgresql) echo postgresql ;;
        chromium) echo chromium chromium-driver fonts-dejavu-core ;;
        *) echo "tests/install.sh: no such part: $1 (there are: slurm, postgresql, chromium)" >&2; return 2 ;;
    esac
}

[ $# -gt 0 ] || set -- slurm postgresql chromium
wanted=""
for part in "$@"; do
    packages=$(packages_of "$part")
    wanted="$wanted $packages"
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "These tests need Debian or Ubuntu: they start programs of the packages$wanted." >&2
    exit 1
fi
missing=""
for package in $wanted; do
    state=$(dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "Missing:$missing; install them as root: apt-get install$missing" >&2
    exit 1
fi

# Debian's own way to keep a package from starting its daemon; whatever policy stood there comes back
policy=/usr/sbin/policy-rc.d
kept=$policy.before-tests
restore() {
    rm -f $policy
    [ ! -e $kept ] || mv $kept $policy
}
[ ! -e $policy ] || mv $policy $kept
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' >$policy
chmod 755 $policy

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of names
apt-get install -qq --yes --no-install-recommends $missing >/dev/null
