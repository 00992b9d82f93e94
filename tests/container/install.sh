#!/bin/sh
# Installs what tests/container/ needs, as root; nothing is started. Without root nothing happens: the tests
# are skipped then anyway.
set -eu

[ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || exit 0

missing=
command -v dockerd >/dev/null || missing="docker.io"
# A package of its own since Debian 13.
command -v docker >/dev/null || ! apt-cache show docker-cli >/dev/null 2>&1 || missing="$missing docker-cli"
command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || missing="$missing docker-compose"
for tool in debootstrap openssl; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
command -v ip >/dev/null || missing="$missing iproute2"
[ -n "$missing" ] || exit 0

echo "Installing: $missing"
# No engine of the machine's own is started, now or at the next start: the tests start theirs.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 update -qq
# shellcheck disable=SC2086 # a list of words
apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends $missing >/dev/null
case "$missing" in
*docker.io*) systemctl disable docker.service docker.socket containerd.service >/dev/null 2>&1 || true ;;
esac
